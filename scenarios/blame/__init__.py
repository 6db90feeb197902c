"""Which part of the arithmetic is guilty: a run again, with one part at a time back in float32."""

from .ingredient import Ingredient, list_ingredients
from .part import Part, everything
from .plan import Blame, Options, Suspect, open_blame
from .restoration import Restored, restore

__all__ = [
    "Blame",
    "Ingredient",
    "Options",
    "Part",
    "Restored",
    "Suspect",
    "everything",
    "list_ingredients",
    "open_blame",
    "restore",
]
