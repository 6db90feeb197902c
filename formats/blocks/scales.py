"""How a block's scale follows from its largest magnitude: the kernel twins of the scale rules.

The equations and their sources stand in `rules.py`, the exact twin in `reference.py`.
"""

from typing import NamedTuple

import numpy as np

from ..jit import float_bits, parallel_jit, prange, scalar_jit
from ..kernels import SATURATE, power_of_two, round_value

FLOOR, CEIL, EVEN, RATIO, ABSMAX, RECIPROCAL, TWO_LEVEL, TWO_LEVEL_DIVIDED, MINMAX = range(9)
HUGE32, HUGE64 = float(np.finfo(np.float32).max), float(np.finfo(np.float64).max)
_TINY = float(np.finfo(np.float64).tiny)


class Scaling(NamedTuple):
    """A scale rule with the numbers of its formats.

    `least` .. `most` are the exponents of power-of-two scales, `even_bits` the fraction bits that
    EVEN rounds to, `rounding` the mode of S(.), `encode` and `decode` the tensor's scale as a
    factor (or divisor) of block scales and as a factor of restored values; `narrow`: fl(.) is
    rounding to float32.
    """

    rule: int
    emax: int
    even_bits: int
    least: int
    most: int
    largest: float
    rounding: int
    least_scale: float
    encode: float
    decode: float
    narrow: bool


@scalar_jit
def _fl(value, narrow):  # type: ignore[no-untyped-def]
    """A float64 result rounded to float32; no double rounding for one operation of float32s."""
    return np.float64(np.float32(value)) if narrow else value


@scalar_jit
def _exponent(a):  # type: ignore[no-untyped-def]
    """floor(log2 a) of a positive finite float64, subnormals included."""
    return (float_bits(a) >> 52) - 1023 if a >= _TINY else (float_bits(a * 2.0**54) >> 52) - 1077


@scalar_jit
def _shared_exponent(amax, scaling):  # type: ignore[no-untyped-def]
    """E of a power-of-two scale, for amax not NaN."""
    ratio = scaling.rule == RATIO
    a = _fl(np.divide(amax, scaling.largest), scaling.narrow) if ratio else amax
    if a == 0.0:
        return np.int64(scaling.least)
    if np.isinf(a):
        top = (128 if scaling.narrow else 1024) - scaling.emax
        return np.int64(scaling.most if ratio else min(top, scaling.most))
    e = _exponent(a)
    above = a > power_of_two(e)
    if scaling.rule == EVEN:
        # a goes up to 2^(e + 1) from the tie on: the value below has an odd significand.
        above = a * power_of_two(-e) >= 2.0 - 0.5 * power_of_two(-scaling.even_bits)
    if scaling.rule != FLOOR and above:
        e += 1
    if not ratio:
        e -= scaling.emax
    return np.int64(max(min(e, scaling.most), scaling.least))


@scalar_jit
def _stored(value, scaling, grid):  # type: ignore[no-untyped-def]
    """S(value), not below the least scale that is stored."""
    scale = round_value(value, grid, scaling.rounding, SATURATE, 0, np.int64(0))
    return scaling.least_scale if scale < scaling.least_scale else scale


@scalar_jit
def _float_scale(amax, scaling, grid):  # type: ignore[no-untyped-def]
    """As `block_scale` for scales that are not powers of two."""
    narrow = scaling.narrow
    huge = HUGE32 if narrow else HUGE64
    share = _fl(np.divide(amax, scaling.largest), narrow)
    if scaling.rule == TWO_LEVEL or scaling.rule == TWO_LEVEL_DIVIDED:
        if scaling.rule == TWO_LEVEL:
            scale = _stored(_fl(share * scaling.encode, narrow), scaling, grid)
            total = _fl(scale * scaling.decode, narrow)
            return scale, min(_fl(np.divide(1.0, total), narrow), huge), total
        relative = 0.0 if amax == 0.0 else _fl(np.divide(share, scaling.encode), narrow)
        scale = _stored(relative, scaling, grid)
        total = _fl(scale * scaling.decode, narrow)
        inverse = _fl(np.divide(1.0, scaling.encode), narrow)
        return scale, min(_fl(np.divide(inverse, scale), narrow), huge), total
    scale = _stored(share, scaling, grid)
    if scaling.rule == RECIPROCAL:
        inverse = min(_fl(np.divide(1.0, scale), narrow), huge)
        return scale, 0.0 if scale == 0.0 else inverse, scale
    return scale, np.inf if scale == 0.0 else scale, scale


@scalar_jit
def block_scale(amax, scaling, grid):  # type: ignore[no-untyped-def]
    """(stored scale, multiplier or divisor of the elements, factor of the restored values).

    A scale of zero gives zeros. A block of zeros has power-of-two factors of 1, because those of
    its scale, the least one, are slow in hardware and zeros do not need them.
    """
    if np.isnan(amax):
        return amax, amax, amax
    if scaling.rule > RATIO:
        return _float_scale(amax, scaling, grid)
    e = _shared_exponent(amax, scaling)
    scale = power_of_two(e)
    if amax == 0.0:
        return scale, 1.0, 1.0
    return scale, power_of_two(-e), scale


@parallel_jit
def scale_blocks(amax, scales, multipliers, totals, scaling, grid):  # type: ignore[no-untyped-def]
    """`block_scale` of every block; float64 tables, `amax` in the dtype of the input."""
    for i in prange(amax.size):
        s, m, t = block_scale(np.float64(amax[i]), scaling, grid)
        scales[i], multipliers[i], totals[i] = s, m, t
