"""What blame puts back to float32, or rounds otherwise, one at a time: rows, and what they change.

An ingredient is a set of parts. Roles, products, memory and layer groups are views of the same
arithmetic, so their parts overlap: each is judged for itself, and shares do not add up to one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn

from ...formats.errors import InputError, hint
from ...simulator import Chip, Recipe
from .part import MEMORY, Part, everything, gemms_of, operands, products
from .restoration import Restored, restore
from .swap import swap_memory, swap_operands

Kind = Literal["operand", "product", "accumulation", "memory", "vector", "layers", "rounding"]
LAYER_GEMMS = ("fprop", "dgrad", "wgrad")


@dataclass(frozen=True)
class Ingredient:
    """One suspect.

    Attributes:
        name: as in `--only` and in the names of columns.
        title: in words.
        parts: what is put back; empty for a rounding.
        others: all that is put back where this ingredient alone stays low.
        swap: of a rounding, the pair with the other one.
    """

    name: str
    kind: Kind
    title: str
    parts: frozenset[Part] = frozenset()
    others: frozenset[Part] = frozenset()
    swap: Callable[[Chip, Recipe], Restored] | None = None

    @property
    def size(self) -> int:
        """How many parts are put back; of a group of layers, all those of its products."""
        modules = any(part.kind == "module" for part in self.parts)
        return len(products((*LAYER_GEMMS, "attention")) if modules else self.parts)

    def without(self, chip: Chip, recipe: Recipe) -> Restored:
        """The pair with this ingredient put back, or rounded otherwise, and all else as it was."""
        return self.swap(chip, recipe) if self.swap else restore(chip, recipe, self.parts)

    def alone(self, chip: Chip, recipe: Recipe) -> Restored | None:
        """The pair with all but this ingredient put back; None for a rounding."""
        return None if self.swap else restore(chip, recipe, self.others)


def list_ingredients(recipe: Recipe, model: nn.Module) -> list[Ingredient]:
    """Every suspect of a recipe on a model, whether or not it is low anywhere."""
    every, gemms = everything(recipe), gemms_of(recipe)
    rows: list[tuple[str, Kind, str, frozenset[Part]]] = [
        (role, "operand", f"format of {role} operands", operands(LAYER_GEMMS, [role]))
        for role in ("weight", "activation", "gradient")
    ]
    rows.append(("attention", "operand", "format of attention operands", operands(["attention"])))
    rows.extend(
        [
            (
                f"{gemm}-product",
                "product",
                f"{gemm} products: operands, sums, result",
                products([gemm]),
            )
            for gemm in gemms
            if gemm != "exempt"
        ]
    )
    rows.append(("accumulator", "accumulation", "order, widths and rounding of sums",
                 frozenset(Part("sums", gemm) for gemm in gemms)))  # fmt: skip
    rows.append(("results", "accumulation", "format of products' results",
                 frozenset(Part("result", gemm) for gemm in gemms)))  # fmt: skip
    rows.extend(
        [
            (f"stored-{role}", "memory", f"{role} in memory", frozenset({Part("memory", role)}))
            for role in MEMORY
        ]
    )
    rows.append(("vector-unit", "vector", "vector unit", frozenset({Part("vector")})))
    found = [
        Ingredient(name, kind, title, parts, every - parts) for name, kind, title, parts in rows
    ]
    return found + _layer_groups(model, every) + _roundings()


def pick(ingredients: list[Ingredient], only: tuple[str, ...]) -> list[Ingredient]:
    """Those named in `only`, all where it is empty.

    Raises:
        InputError: a name that none has.
    """
    names = [ingredient.name for ingredient in ingredients]
    for name in only:
        if name not in names:
            raise InputError(
                f'only = "{name}" is not an ingredient of this run{hint(name, names)}; '
                f"it has {', '.join(names)}"
            )
    return [ingredient for ingredient in ingredients if not only or ingredient.name in only]


def list_groups(model: nn.Module) -> list[str]:
    """Groups of layers: the model's children, and each member of those that are numbered lists."""
    groups: list[str] = []
    for name, child in model.named_children():
        members = [key for key, _ in child.named_children()]
        listed = members and all(key.isdigit() for key in members)
        groups += [f"{name}.{key}" for key in members] if listed else [name]
    return groups


def _layer_groups(model: nn.Module, every: frozenset[Part]) -> list[Ingredient]:
    """Products of one group; the groups without a matrix are not suspects."""
    groups = list_groups(model)
    outside = {part for part in every if part.kind in ("memory", "vector") or _optimizes(part)}
    with_matrices = [
        g for g in groups if any(p.ndim > 1 for p in model.get_submodule(g).parameters())
    ]
    found = []
    for group in with_matrices:
        others = {Part("module", other) for other in ["", *groups] if other != group}
        title, part = f"matrix products of {group}", Part("module", group)
        name, rest = f"layers-{group}", frozenset(outside | others)
        found.append(Ingredient(name, "layers", title, frozenset({part}), rest))
    return found


def _optimizes(part: Part) -> bool:
    return part.of == "optimizer"


def _roundings() -> list[Ingredient]:
    return [
        Ingredient("operand-rounding", "rounding",
                   "operands: stochastic where nearest, nearest where stochastic",
                   swap=swap_operands),
        Ingredient("memory-rounding", "rounding",
                   "memory: stochastic where nearest, nearest where stochastic", swap=swap_memory),
    ]  # fmt: skip
