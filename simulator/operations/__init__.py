"""What becomes of every operation of PyTorch on a chip."""

from . import compositions as compositions  # declares its operations
from .declared import (
    POINTWISE,
    UndeclaredOperation,
    base_name,
    declared,
    register_op,
    undeclared,
)

__all__ = ["POINTWISE", "UndeclaredOperation", "base_name", "declared", "register_op", "undeclared"]
