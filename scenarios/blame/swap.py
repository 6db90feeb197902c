"""A recipe with its roundings the other way: stochastic where they are not, else nearest."""

from copy import deepcopy
from typing import Any

from ...simulator import Chip, Recipe, recipe_from_table
from ...simulator.recipe_rows import OPERANDS
from .restoration import Restored

#: The 16 random bits of recipes that round in software.
STOCHASTIC: dict[str, Any] = {
    "rounding": "stochastic",
    "rounding_in": "software",
    "random_bits": 16,
}
NEAREST: dict[str, Any] = {"rounding": "nearest_even"}
#: Formats that nothing is rounded into.
EXACT = ("float32", "float64")


def swap_operands(chip: Chip, recipe: Recipe) -> Restored:
    """Every operand of a matrix product that is rounded, rounded the other way."""
    table = deepcopy(recipe.table)
    for gemm in table.get("gemm", {}).values():
        for role in OPERANDS:  # what a product does not say itself is the role's
            if isinstance(gemm.get(role), dict):
                gemm[role] |= _other(table.get(role, {}) | gemm[role])
    for role in OPERANDS:
        if isinstance(table.get(role), dict):
            table[role] |= _other(table[role])
    return Restored(chip, recipe_from_table(table, recipe.place))


def swap_memory(chip: Chip, recipe: Recipe) -> Restored:
    """Every role in memory that is rounded, rounded the other way."""
    table = deepcopy(recipe.table)
    memory = table.get("memory", {})
    for role, row in memory.items():
        for one in row.values() if role == "optimizer" else (row,):
            one |= _other(one)
    return Restored(chip, recipe_from_table(table, recipe.place))


def _other(row: dict[str, Any]) -> dict[str, Any]:
    """The keys of the other rounding; none where nothing is rounded."""
    if row.get("format", "float32") in EXACT:
        return {}
    return NEAREST if row.get("rounding") == "stochastic" else STOCHASTIC
