"""Matrix products as a chip and a recipe do them."""

from .work import MatrixWork, list_assumptions

__all__ = ["MatrixWork", "list_assumptions"]
