"""The vector unit: elementwise arithmetic, functions, reductions and accumulations."""

from .dtypes import floats
from .handlers import VectorHandlers
from .separation import separate_operations
from .work import VectorWork

__all__ = ["VectorHandlers", "VectorWork", "floats", "separate_operations"]
