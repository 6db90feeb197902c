"""The user's own images: a folder with a folder for each class."""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pydantic import Field

from ...formats.errors import InputError
from ..location import Located
from .examples import Examples
from .split import Seed, Share, held_out, make_examples, standardised

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
Size = Annotated[int, Field(strict=True, ge=1, le=4096)]


class ImagesSpec(Located):
    """`kind = "images"`: `path/<class>/<image>`, or `path/train/...` and `path/test/...`.

    Classes are the folders' names in ascending order. Images of another size are resized to
    `size` x `size` (bilinear); `channels` = 1 is grey, 3 is red, green, blue.
    """

    kind: Literal["images"] = "images"
    path: str
    size: Size = 32
    channels: Literal[1, 3] = 3
    test_fraction: Share = 0.2
    split_seed: Seed = 0


def load_images(spec: ImagesSpec) -> Examples:
    """Images (n, channels, size, size) float32: (x/255 − mean)/std by channel of the training part.

    Raises:
        InputError: no folder, a folder without images, classes that differ between train and
            test, or an image that cannot be read.
    """
    root, what = spec.file(spec.path), str(spec.file(spec.path))
    split = (root / "train").is_dir() and (root / "test").is_dir()
    found = [list_images(root / part) for part in (("train", "test") if split else ("",))]
    names = sorted({name for part in found for name, _ in part})
    for part, files in zip(("train", "test"), found, strict=False):
        lacking = sorted(set(names) - {name for name, _ in files})
        if lacking:
            raise InputError(f"{root / part}: has no images of the class {lacking[0]}")
    if len(names) < 2:
        raise InputError(f"{what}: {len(names)} class is nothing to tell apart")
    pixels = [np.stack([read_image(p, spec.size, spec.channels) for _, p in f]) for f in found]
    labels = [np.array([names.index(name) for name, _ in part], np.int64) for part in found]
    if not split:
        test = held_out(labels[0], "classification", spec.test_fraction, spec.split_seed, what)
        pixels = [pixels[0][~test], pixels[0][test]]
        labels = [labels[0][~test], labels[0][test]]
    scaled = [standardised(x, pixels[0], (0, 2, 3)) for x in pixels]
    parts = scaled[0], labels[0], scaled[1], labels[1]
    return make_examples(parts, "classification", len(names), what)


def list_images(folder: Path) -> list[tuple[str, Path]]:
    """(class, file) of every image, in ascending order of both.

    Raises:
        InputError: no such folder, or a class without images.
    """
    try:
        classes = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror}") from None
    found = []
    for place in classes:
        files = sorted(p for p in place.iterdir() if p.suffix.lower() in SUFFIXES)
        if not files:
            raise InputError(f"{place}: holds no image ({', '.join(sorted(SUFFIXES))})")
        found += [(place.name, path) for path in files]
    if not found:
        raise InputError(f"{folder}: holds no folder of a class with images")
    return found


def read_image(path: Path, size: int, channels: int) -> NDArray[np.float64]:
    """(channels, size, size), grey levels 0 to 1.

    Raises:
        InputError: not an image, or a damaged one.
    """
    try:
        with Image.open(path) as image:
            return image_array(image, size, channels)
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be read as an image: {error}") from None


def image_array(image: Any, size: int, channels: int) -> NDArray[np.float64]:
    """(channels, size, size), grey levels 0 to 1, of a Pillow image."""
    plain = image.convert("L" if channels == 1 else "RGB")
    if plain.size != (size, size):
        plain = plain.resize((size, size), Image.Resampling.BILINEAR)
    array = np.asarray(plain, np.float64) / 255.0
    return array[None] if channels == 1 else array.transpose(2, 0, 1)
