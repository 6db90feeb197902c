"""Matrix products as a chip and a recipe do them."""

from .paths import Path, find_path
from .preparation import Prepared, prepare
from .work import MatrixWork, list_assumptions, list_paths

__all__ = [
    "MatrixWork",
    "Path",
    "Prepared",
    "find_path",
    "list_assumptions",
    "list_paths",
    "prepare",
]
