"""The vector unit: elementwise arithmetic, functions, reductions and accumulations."""

from .dtypes import floats
from .handlers import VectorHandlers
from .work import VectorWork

__all__ = ["VectorHandlers", "VectorWork", "floats"]
