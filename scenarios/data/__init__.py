"""The data a scenario can train on: a specification and a loader for each kind.

New data is a module beside this page, its specification joined to `AnyDataSpec`, and one row in
`LOADERS`.
"""

import hashlib
from collections.abc import Callable, Hashable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, cast

import torch
from pydantic import Field

from .arrays import NpzSpec, load_npz
from .digits import DigitsSpec, load_digits
from .examples import Examples
from .huggingface import HuggingFaceSpec, load_huggingface
from .images import ImagesSpec, load_images
from .linear import LinearSpec, QuadraticSpec, load_linear, load_quadratic
from .order import batch_indices
from .synthetic import GaussiansSpec, MoonsSpec, SpiralsSpec, TeacherSpec, load_synthetic
from .table import TableSpec, load_table
from .text import TextSpec, load_text

AnyDataSpec = (
    DigitsSpec | TableSpec | TextSpec | LinearSpec | QuadraticSpec
    | GaussiansSpec | MoonsSpec | SpiralsSpec | TeacherSpec
    | NpzSpec | ImagesSpec | HuggingFaceSpec
)  # fmt: skip
DataSpec = Annotated[AnyDataSpec, Field(discriminator="kind")]

LOADERS: dict[type[Any], Callable[[Any], Examples]] = {
    DigitsSpec: lambda spec: load_digits(spec.test_fraction, spec.split_seed),
    TableSpec: load_table,
    TextSpec: load_text,
    LinearSpec: load_linear,
    QuadraticSpec: load_quadratic,
    GaussiansSpec: load_synthetic,
    MoonsSpec: load_synthetic,
    SpiralsSpec: load_synthetic,
    TeacherSpec: load_synthetic,
    NpzSpec: load_npz,
    ImagesSpec: load_images,
    HuggingFaceSpec: load_huggingface,
}
Stamp = tuple[tuple[str, int, int], ...]


def load_data(spec: AnyDataSpec) -> Examples:
    """The examples that a scenario's `[data]` table asks for.

    Read once, and again when a file has changed since.

    Raises:
        InputError: a file that cannot be read, or data that is damaged or too small.
    """
    return _load(cast(Hashable, spec), _stamp(spec))


def data_inputs(spec: AnyDataSpec) -> dict[str, Any]:
    """The table, and a digest of the examples themselves: changed data is another input."""
    return spec.model_dump(mode="json") | {"sha256": _digest(cast(Hashable, spec), _stamp(spec))}


@lru_cache(maxsize=4)
def _load(spec: AnyDataSpec, stamp: Stamp) -> Examples:
    return LOADERS[type(spec)](spec)


@lru_cache(maxsize=4)
def _digest(spec: AnyDataSpec, stamp: Stamp) -> str:
    examples = _load(cast(Hashable, spec), stamp)
    total = hashlib.sha256(f"{examples.objective} {examples.classes}".encode())
    for name in ("train_inputs", "train_targets", "test_inputs", "test_targets"):
        tensor = getattr(examples, name)
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _stamp(spec: AnyDataSpec) -> Stamp:
    """Name, time and size of every file that the data comes from."""
    path = getattr(spec, "path", None)
    return tuple(sorted(_files(spec.file(path)))) if path else ()  # type: ignore[union-attr]


def _files(path: Path) -> Iterator[tuple[str, int, int]]:
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            told = file.stat()
            yield str(file), told.st_mtime_ns, told.st_size


__all__ = ["AnyDataSpec", "DataSpec", "Examples", "batch_indices", "data_inputs", "load_data"]
