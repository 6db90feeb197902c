"""Windows of a text and the tokens that follow: the language models' data.

The text that needs no download is the reference of the Python language that every Python brings
along for `help()`: about 460,000 characters of English prose, grammar and code. It differs a
little between versions of Python, so its digest is kept with a run's inputs.
"""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ...formats.errors import InputError
from ..location import Located
from .examples import Examples
from .split import Array, Count, Share, make_examples
from .tokens import Encoder, byte_encoder, character_encoder, pair_encoder


class Windows(Located):
    """How a text becomes tokens, and these become examples.

    Attributes:
        tokens: "characters" of the whole text, in order of their code point; "bytes" of UTF-8,
            256 classes; "bpe": byte pairs, learned from the training part (needs `tokenizers`).
        vocabulary: how many tokens byte pairs make, the 256 bytes included.
        length: tokens in a window; windows do not overlap.
        characters: how many to use from the start; all if left out.
        test_fraction: the last part of the text, never trained on.
    """

    tokens: Literal["characters", "bytes", "bpe"] = "characters"
    vocabulary: Annotated[int, Field(strict=True, ge=257, le=100_000)] = 512
    length: Count = 64
    characters: Count | None = None
    test_fraction: Share = 0.1


class TextSpec(Windows):
    """`kind = "text"`: windows of `length` tokens of a text, each predicting the next one.

    Attributes:
        path: a UTF-8 file, or a folder of .txt files, joined in ascending order of their names;
            the reference of the Python language if left out.
    """

    kind: Literal["text"] = "text"
    path: str | None = None


def load_text(spec: TextSpec) -> Examples:
    """Windows that do not overlap: inputs and targets (n, length) int64, targets one further on.

    Raises:
        InputError: the file cannot be read, or is too short for one window in each part.
    """
    return make_windows(read_text(spec), spec, spec.path or "the Python reference")


def read_text(spec: TextSpec) -> str:
    """The whole text.

    Raises:
        InputError: no such file, or not UTF-8.
    """
    if spec.path is None:
        return _python_reference()
    path = spec.file(spec.path)
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"data path {path}: holds no .txt file")
    return "\n\n".join(_read(file) for file in files)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"data path {path}: cannot be read as UTF-8 text: {error}") from None


def _python_reference() -> str:
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def make_windows(text: str, spec: Windows, what: str) -> Examples:
    """The windows of both parts of a text.

    Raises:
        InputError: a part is too short for one window.
    """
    text = text[: spec.characters]
    held_out = round(len(text) * spec.test_fraction)
    train, test = text[: len(text) - held_out], text[len(text) - held_out :]
    encoder = _encoder(text, train, spec)
    parts: list[Array] = []
    for part in (train, test):
        parts += _windows(encoder.encode(part), spec.length, f"{what}: {len(text)} characters")
    return make_examples(parts, "classification", encoder.classes, what)


def _encoder(text: str, train: str, spec: Windows) -> Encoder:
    match spec.tokens:
        case "characters":
            return character_encoder(text)
        case "bytes":
            return byte_encoder()
        case "bpe":
            return pair_encoder(train, spec.vocabulary)


def _windows(codes: NDArray[np.int64], length: int, what: str) -> list[Array]:
    count = (len(codes) - 1) // length
    if count < 1:
        raise InputError(
            f"{what} leave no window of length = {length} in one of its two parts: use a longer "
            "text or a shorter length"
        )
    sides = codes[: count * length], codes[1 : count * length + 1]
    return [side.reshape(count, length).copy() for side in sides]
