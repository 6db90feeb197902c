"""A model of the user's own, by import path."""

from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from ...formats.errors import InputError
from ..data import Examples
from ..imports import Target, find_source, load_object, source_digest
from ..location import Located


class ImportSpec(Located):
    """`kind = "import"`: what `path` names, called with `options`, is the model.

    It is imported by the worker that trains it, never by reading a scenario. Its initial weights
    are drawn from torch's global generator, seeded with the run's seed.

    Attributes:
        path: "my_pkg.mod:build", or "model.py:build" for a file beside the scenario: a function
            or class that returns a torch.nn.Module. It takes the data's inputs (batch, ...) and
            gives scores (batch, ..., classes), or for a regression what the targets look like.
        options: its keyword arguments.
        files: what else it reads, from the scenario's folder: part of a run's inputs.
    """

    kind: Literal["import"] = "import"
    path: Target
    options: dict[str, Any] = Field(default_factory=dict)
    files: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _exists(self) -> Self:
        find_source(self.path, self._folder)
        for name in self.files:
            if not self.file(name).is_file():
                raise InputError(f"files: {self.file(name)}: no such file")
        return self

    def refusal(self, data: Examples) -> str:
        """Nothing is known of it before it runs."""
        return ""

    def digest(self) -> str:
        """SHA-256 of its sources and files."""
        return source_digest(self.path, self._folder, self.files)


def build_imported(spec: ImportSpec, seed: int) -> nn.Module:
    """Import, seed, and call.

    Raises:
        InputError: it cannot be called so, or returns something else than a module.
    """
    build = load_object(spec.path, spec._folder)
    if not callable(build):
        raise InputError(f"model {spec.path}: is a {type(build).__name__}, not a function or class")
    torch.manual_seed(seed)
    model = build(**spec.options)
    if not isinstance(model, nn.Module):
        raise InputError(
            f"model {spec.path}: returned a {type(model).__name__}, not a torch.nn.Module"
        )
    return model
