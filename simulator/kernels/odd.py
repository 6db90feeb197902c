"""+, -, *, /, sqrt and fma of float32 numbers in float64, rounded to odd.

A float64 rounded to odd is the exact result if that is a float64, else whichever of its two
neighbours has the last bit 1. Rounded again to p significand bits it equals the exact result
rounded once, in any mode, if 53 >= p + 2 (Boldo & Melquiond, IEEE Trans. Computers 57(4), 2008):
its last bit says "inexact", the one before it is still true, and a tie of p bits has more zeros
than that. Stochastic rounding looks at the first k discarded bits (srff), k + 1 (srf), or k and
what is beyond them (src), so it wants 53 >= p + k + 2. float32, p = 24, leaves k <= 27. A smaller
exponent range only discards more bits: operands are float32, so no result here is subnormal in
float64 (|x y| >= 2^-298, |x / y| > 2^-278) and none overflows (|x y| < 2^256).

The nearest float64 comes from the machine, the side on which the exact result lies from the
residual, whose sign is exact: of a sum by TwoSum (Knuth), of a quotient as fma(-q, y, x), of a
root as fma(-s, s, x). Both remainders are float64 numbers, because q and s are rounded to nearest
and nothing underflows. Products of float32 are exact.
"""

import numpy as np

from ...formats.jit import bits_float, float_bits, fma, scalar_jit
from ...formats.rounding import Mode

ADD, SUB, MUL, DIV, SQRT, FMA = range(6)
DOWN = int(Mode.DOWN)


@scalar_jit
def _to_odd(nearest, residual):  # type: ignore[no-untyped-def]
    """The odd neighbour where `nearest` is inexact and even; residual = exact - nearest, or NaN."""
    bits = float_bits(nearest)
    outward = (residual > 0.0) == (nearest > 0.0)
    odd = bits_float(bits + (np.int64(1) if outward else np.int64(-1)))
    inexact = (residual > 0.0) | (residual < 0.0)
    return odd if inexact & ((bits & 1) == 0) else nearest


@scalar_jit
def sum_to_odd(x, y):  # type: ignore[no-untyped-def]
    """x + y, float64."""
    total = x + y
    other = total - x
    return _to_odd(total, (x - (total - other)) + (y - other))


@scalar_jit
def lowered(x, y, total):  # type: ignore[no-untyped-def]
    """x + y = total, toward -infinity: a zero is -0 unless both terms are +0 (IEEE 754, 6.3)."""
    negative = (float_bits(x) | float_bits(y)) < 0
    return -0.0 if (total == 0.0) & negative else total


@scalar_jit
def quotient_to_odd(x, y):  # type: ignore[no-untyped-def]
    """x / y, of float32 numbers."""
    quotient = np.divide(x, y)  # x / y would raise where y is 0
    # The remainder has the sign of (exact - quotient) y.
    remainder = fma(-quotient, y, x)
    return _to_odd(quotient, remainder if y > 0.0 else -remainder)


@scalar_jit
def root_to_odd(x):  # type: ignore[no-untyped-def]
    """sqrt x, of a float32 number."""
    root = np.sqrt(x)
    return _to_odd(root, fma(-root, root, x))


@scalar_jit
def flushed(x, smallest):  # type: ignore[no-untyped-def]
    """x, magnitudes below `smallest` as zeros of its sign; NaN stays."""
    return np.copysign(0.0, x) if np.abs(x) < smallest else x
