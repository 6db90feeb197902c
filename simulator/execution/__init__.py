"""From an order to its kernel: one file a family, and what surrounds them in `around`."""

from .around import run_unit
from .layout import Operands, Place

__all__ = ["Operands", "Place", "run_unit"]
