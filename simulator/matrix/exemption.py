"""Which modules a recipe leaves out, and which modules are one because they share a weight."""

from fnmatch import fnmatchcase

import torch
from torch import nn

from ...formats.errors import InputError
from ..recipe import Recipe

_TABLES = (nn.Embedding, nn.EmbeddingBag)


def list_layers(model: nn.Module) -> list[str]:
    """Modules with a weight of two or more dimensions, in the model's order.

    Tables of embeddings are no layers, as they multiply nothing.
    """
    return [
        name
        for name, module in model.named_modules()
        if not isinstance(module, _TABLES)
        and any(
            key.endswith("weight") and parameter.ndim > 1
            for key, parameter in module.named_parameters(recurse=False)
        )
    ]


def find_owners(model: nn.Module | None) -> dict[str, str]:
    """Each module with a shared parameter, and the first module that has it."""
    owners: dict[str, str] = {}
    first: dict[int, str] = {}
    named = model.named_parameters(remove_duplicate=False) if model is not None else ()
    for name, parameter in named:
        module = name.rpartition(".")[0]
        owner = first.setdefault(id(parameter), module)
        if owner != module:
            owners[module] = owner
    return owners


class Exemption:
    """Tells whether a module's products are exempt."""

    def __init__(self, recipe: Recipe, model: torch.nn.Module | None) -> None:
        rows = recipe.rows
        self.patterns = rows.exempt_modules
        self.first, self.last = rows.exempt_first, rows.exempt_last
        self.place = recipe.place
        self.owners = find_owners(model)
        self.layers = None if model is None else self._chosen(list_layers(model))

    @property
    def any(self) -> bool:
        """Whether the recipe exempts anything."""
        return bool(self.patterns or self.first or self.last)

    def _chosen(self, layers: list[str]) -> set[str]:
        chosen = {*layers[: self.first], *layers[max(len(layers) - self.last, 0) :]}
        return chosen | {self.owners[name] for name in chosen if name in self.owners}

    def __contains__(self, module: str) -> bool:
        if any(fnmatchcase(module, pattern) for pattern in self.patterns):
            return True
        if self.layers is None and (self.first or self.last):
            raise InputError(
                f"{self.place}: exempt_first = {self.first} and exempt_last = {self.last} count "
                "the layers of the model: pass model= to emulate, or set both to 0"
            )
        return self.layers is not None and module in self.layers
