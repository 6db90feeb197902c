"""The vector unit: elementwise functions and sums."""

from .reductions import count, in_float64, reduce_sum

__all__ = ["count", "in_float64", "reduce_sum"]
