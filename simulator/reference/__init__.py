"""The exact, slow twins of the dot kernels: fractions, one dot product at a time.

These functions read like the specification of the unit; a hardware engineer reviews them. Values
are Python floats, sums are `Fraction`; nothing is rounded but where a rounding is named.
"""

from .fused import fused, two_stage
from .sums import add, chain, exact, integer, tree

__all__ = ["add", "chain", "exact", "fused", "integer", "tree", "two_stage"]
