"""1st floor: what a chip is, and how it computes."""

from .chip import Chip, chip_from_table, list_chips, load_chip
from .dot_unit import DotUnit
from .emulation import emulate
from .matrix import list_assumptions
from .operations import register_op
from .order import Chain, Exact, Fused, Integer, Sequence, SplitK, Tree, TwoStage
from .recipe import Recipe, list_recipes, load_recipe, recipe_from_table
from .tracing import NonFiniteError, Trace

__all__ = [
    "Chain",
    "Chip",
    "DotUnit",
    "Exact",
    "Fused",
    "Integer",
    "NonFiniteError",
    "Recipe",
    "Sequence",
    "SplitK",
    "Trace",
    "Tree",
    "TwoStage",
    "chip_from_table",
    "emulate",
    "list_assumptions",
    "list_chips",
    "list_recipes",
    "load_chip",
    "load_recipe",
    "recipe_from_table",
    "register_op",
]
