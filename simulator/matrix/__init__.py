"""Matrix products as a chip and a recipe do them."""

from . import attention as attention  # declares its operations
from .forms import Forms
from .work import MatrixWork, list_assumptions

__all__ = ["Forms", "MatrixWork", "list_assumptions"]
