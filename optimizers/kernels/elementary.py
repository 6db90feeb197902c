"""exp and log of float32, spelled out in additions and multiplications: the same bits everywhere.

Twins of `elementary.exp` and `elementary.log`, which say what is computed; the fused products
are rounded once in both. Even and odd powers are summed apart, so that fewer operations wait
for each other.
"""

import numpy as np

from ...formats.jit import (
    add_bits,
    and_bits,
    bits_float,
    convert,
    float_bits,
    fma,
    scalar_jit,
    shift_left,
    shift_right,
)
from ..elementary import (
    EXP,
    LN2,
    LN2_HIGH,
    LN2_LOW,
    LOG,
    PER_LN2,
    ROOT_HALF_BITS,
    WHOLE,
)

_F, _I = np.float32, np.int32
_ONE, _ZERO, _BIAS = _F(1), _F(0), _F(127)
_E0, _E1, _E2, _E3, _E4 = EXP
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7 = LOG
_ROOT_HALF = _I(ROOT_HALF_BITS)
_UP = _I(0x3F800000 - ROOT_HALF_BITS)
_FRACTION, _23 = _I(0x7FFFFF), _I(23)


@scalar_jit
def exp(x):  # type: ignore[no-untyped-def]
    """e^x for |x| <= 87."""
    shifted = fma(x, PER_LN2, WHOLE)
    n = shifted - WHOLE
    r = fma(n, LN2_LOW, fma(n, LN2_HIGH, x))
    q = r * r
    even = fma(_E1, r, _E0)
    odd = fma(_E4, q, fma(_E3, r, _E2))
    p = fma(fma(odd, q, even), q, r) + _ONE
    return bits_float(add_bits(float_bits(p), shift_left(float_bits(shifted), _23)))


@scalar_jit
def log(x):  # type: ignore[no-untyped-def]
    """The natural logarithm of a positive normal x."""
    bits = add_bits(float_bits(x), _UP)
    k = convert(shift_right(bits, _23), _ZERO) - _BIAS
    t = bits_float(add_bits(and_bits(bits, _FRACTION), _ROOT_HALF)) - _ONE
    z = t * t
    low = fma(fma(_L3, t, _L2), z, fma(_L1, t, _L0))
    high = fma(fma(_L7, t, _L6), z, fma(_L5, t, _L4))
    return fma(k, LN2, fma(fma(high, z * z, low), z, t))
