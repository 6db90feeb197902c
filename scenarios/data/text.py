"""Characters of a text and the ones that follow: the language models' data.

The text that needs no download is the reference of the Python language that every Python brings
along for `help()`: about 460,000 characters of English prose, grammar and code. It differs a
little between versions of Python, so its digest is kept with a run's inputs.
"""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from ...formats.errors import InputError
from ...simulator.tables import Row
from .digits import Share
from .examples import Examples

Count = Annotated[int, Field(strict=True, ge=1)]


class TextSpec(Row):
    """`kind = "text"`: windows of `length` characters of a text, each predicting the next one.

    Attributes:
        path: a UTF-8 file; the reference of the Python language if left out.
        characters: how many to use from the start; all if left out.
        test_fraction: the last part of the text, never trained on.
    """

    kind: Literal["text"] = "text"
    path: str | None = None
    length: Count = 64
    characters: Count | None = None
    test_fraction: Share = 0.1


def load_text(spec: TextSpec) -> Examples:
    """Windows that do not overlap: inputs and targets (n, length) int64, targets one further on.

    A class is a character of the whole text, in order of its code point.

    Raises:
        InputError: the file cannot be read, or is too short for one window in each part.
    """
    what = spec.path or "the Python reference"
    return _windows(read_text(spec)[: spec.characters], spec.length, spec.test_fraction, what)


def read_text(spec: TextSpec) -> str:
    """The whole text.

    Raises:
        InputError: no such file, or not UTF-8.
    """
    if spec.path is None:
        return _python_reference()
    try:
        return Path(spec.path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"data path {spec.path}: cannot be read as UTF-8 text: {error}") from None


def text_digest(spec: TextSpec) -> str:
    """SHA-256 of the text: a changed file is another input."""
    return hashlib.sha256(read_text(spec)[: spec.characters].encode()).hexdigest()


def _python_reference() -> str:
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


@lru_cache(maxsize=4)
def _windows(text: str, length: int, test_fraction: float, what: str) -> Examples:
    alphabet = sorted(set(text))
    points = np.array([ord(c) for c in alphabet], np.int64)
    codes = np.searchsorted(points, np.frombuffer(text.encode("utf-32-le"), np.uint32))
    held_out = round(len(codes) * test_fraction)
    parts: list[torch.Tensor] = []
    for part in (codes[: len(codes) - held_out], codes[len(codes) - held_out :]):
        count = (len(part) - 1) // length
        if count < 1:
            raise InputError(
                f"{what}: {len(codes)} characters leave no window of length = {length} in one of "
                "its two parts: use a longer text or a shorter length"
            )
        sides = part[: count * length], part[1 : count * length + 1]
        parts += [torch.from_numpy(x.reshape(count, length).copy()) for x in sides]
    train, targets, test, test_targets = parts
    return Examples(train, targets, test, test_targets, "classification", len(alphabet), what)
