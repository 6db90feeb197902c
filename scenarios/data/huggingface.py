"""Hugging Face datasets: a folder, a file, or a name on the hub."""

from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from ...formats.errors import InputError, choice
from .arrays import NpzSpec, arrange
from .examples import Examples, Objective
from .images import Size, image_array
from .split import Array, Seed, Share
from .text import Windows, make_windows

FILES = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}


class HuggingFaceSpec(Windows):
    """`kind = "huggingface"`: columns of a dataset that the library `datasets` reads.

    Attributes:
        path: a folder that `save_to_disk` wrote, a .csv, .json, .jsonl or .parquet file, or a
            name on the hub, which is downloaded.
        subset, revision: of a dataset on the hub.
        train, test: names of its parts; without `test` a share of `train` is held out.
        inputs: columns of numbers or of lists of numbers, joined; or one column of images.
        target: the column of classes or of numbers.
        text: instead of both, a column of texts, joined and cut into windows as for
            `kind = "text"`.
        size, channels: images are resized to `size` x `size`.
        objective, scale: as for `kind = "npz"`.
    """

    kind: Literal["huggingface"] = "huggingface"
    path: str
    subset: str | None = None
    revision: str | None = None
    train: str = "train"
    test: str | None = None
    inputs: tuple[str, ...] = ()
    target: str | None = None
    text: str | None = None
    size: Size = 32
    channels: Literal[1, 3] = 3
    objective: Objective = "classification"
    scale: Literal["none", "standard"] = "standard"
    test_fraction: Share = 0.2
    split_seed: Seed = 0

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if (self.text is None) == (not self.inputs or self.target is None):
            raise InputError("give inputs = [columns] and target = a column, or text = a column")
        return self


def load_huggingface(spec: HuggingFaceSpec) -> Examples:
    """The dataset's columns as examples.

    Raises:
        InputError: the library is not installed, there is no such dataset, part or column, or
            its values are not what is needed.
    """
    parts = [_part(spec, name) for name in (spec.train, spec.test) if name]
    place = f"dataset {spec.path}"
    if spec.text is not None:
        texts = [text for part in parts for text in _column(part, spec.text, place)]
        if not all(isinstance(text, str) for text in texts):
            raise InputError(f"{place}, {spec.text}: is no column of texts")
        return make_windows("\n\n".join(texts), spec, place)
    arrays: list[Array] = []
    for part in parts:
        columns = [_numbers(part, name, spec, place) for name in spec.inputs]
        joined = columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)
        arrays += [joined, np.asarray(_column(part, str(spec.target), place))]
    table = NpzSpec(
        path=spec.path, objective=spec.objective, scale=spec.scale,
        test_fraction=spec.test_fraction, split_seed=spec.split_seed,
    )  # fmt: skip
    return arrange(arrays, table, place)


def _part(spec: HuggingFaceSpec, name: str) -> Any:
    """One part of the dataset."""
    try:
        import datasets
    except ModuleNotFoundError:
        raise InputError(
            'kind = "huggingface" needs the library datasets: pip install "tapeout[datasets]"'
        ) from None
    datasets.disable_progress_bars()
    path = spec.file(spec.path)
    try:
        whole = _read(datasets, path, spec)
    except InputError:
        raise
    except Exception as error:  # whatever its file formats and the network raise
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"dataset {spec.path}: cannot be read: {reason}") from None
    if isinstance(whole, datasets.Dataset):
        return whole
    return whole[choice(name, list(whole), "part", f"dataset {spec.path}")]


def _read(datasets: Any, path: Path, spec: HuggingFaceSpec) -> Any:
    if path.is_dir() and any((path / n).exists() for n in ("state.json", "dataset_dict.json")):
        return datasets.load_from_disk(str(path))
    if path.suffix in FILES:
        if not path.is_file():
            raise InputError(f"dataset {path}: no such file")
        return datasets.load_dataset(FILES[path.suffix], data_files={spec.train: str(path)})
    name = str(path) if path.is_dir() else spec.path
    return datasets.load_dataset(name, spec.subset, revision=spec.revision)


def _column(part: Any, name: str, place: str) -> list[Any]:
    values: list[Any] = part[choice(name, part.column_names, "column", place)][:]
    return values


def _numbers(part: Any, name: str, spec: HuggingFaceSpec, place: str) -> NDArray[np.float64]:
    """A column as (n, columns), images as (n, channels, size, size)."""
    values = _column(part, name, place)
    if values and hasattr(values[0], "convert"):
        return np.stack([image_array(x, spec.size, spec.channels) for x in values])
    try:
        array = np.array(values, np.float64)
    except (TypeError, ValueError):
        raise InputError(
            f"{place}, {name}: is no column of numbers, of lists of one length, or of images"
        ) from None
    return array.reshape(len(array), -1) if array.ndim < 3 else array
