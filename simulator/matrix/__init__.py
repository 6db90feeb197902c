"""Matrix products as a chip and a recipe do them."""

from . import attention as attention  # declares its operations
from .forms import Forms
from .paths import Path, find_path
from .preparation import Prepared, prepare
from .work import MatrixWork, list_assumptions, list_paths

__all__ = [
    "Forms",
    "MatrixWork",
    "Path",
    "Prepared",
    "find_path",
    "list_assumptions",
    "list_paths",
    "prepare",
]
