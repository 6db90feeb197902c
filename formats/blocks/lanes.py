"""Blocks in float32 lanes: nearest-even and saturation, the case that training runs on.

An element is read once (its block's largest magnitude is an integer maximum), scaled, rounded and
restored in straight-line float32 code of about 15 operations: no float64, no division where the
rule has none, no branch, nothing allocated per element. Bit-equal to `kernels.round_any`.
"""

from typing import NamedTuple

import numpy as np

from ..format import FLOAT32, Grid
from ..jit import bits_float, float_bits, jit, parallel_jit, prange, scalar_jit
from .kernels import CHUNK, spread
from .scales import (
    ABSMAX,
    CEIL,
    EVEN,
    HUGE32,
    RATIO,
    RECIPROCAL,
    TWO_LEVEL,
    TWO_LEVEL_DIVIDED,
    Scaling,
    block_scale,
)

_SIGN = np.int32(-(2**31))
_EXPONENT = np.int32(0x7F800000)
_MAGNITUDE = np.int32(0x7FFFFFFF)
_NORMAL = np.int32(0x00800000)
_HALF_NORMAL = np.int32(0x00400000)
_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_NAN = np.float32(np.nan)
_INFINITY = np.float32(np.inf)
_LARGEST = np.float32(HUGE32)
#: How `round_lines` computes scales: by exponents, in float32, in float32 without rounding, or
#: one by one.
BY_EXPONENT, IN_LANES, IN_FLOAT32, ONE_BY_ONE = range(4)


class Lanes(NamedTuple):
    """A grid as `round_lane` sees it: scalars of 32 bits.

    `shift`: how many exponent steps above a binade the number lies whose ulp is that binade's
    quantum; `floor`: the least such number, both as bits; `zero`: added to what was rounded,
    -0 to keep the sign of zero, +0 to drop it.
    """

    shift: np.int32
    floor: np.int32
    largest: np.float32
    lowest: np.float32
    zero: np.float32


#: Stands where no rounding to lanes takes place.
_EXACT = Lanes(np.int32(0), np.int32(0), _LARGEST, np.float32(-HUGE32), np.float32(-0.0))


def get_lanes(grid: Grid) -> Lanes | None:
    """The lanes of a grid, or None where float32 cannot round to it by one addition."""
    exponent = grid.min_exponent - grid.subnormal_fraction_bits
    uniform = grid.largest < 2.0 ** (exponent + 22) and grid.lowest > -(2.0 ** (exponent + 22))
    tapered = grid.fraction_bits <= 21 and grid.subnormal_fraction_bits == grid.fraction_bits
    in_range = grid.largest < 2.0**100 and exponent >= -149
    if not (grid.has_zero and in_range and (uniform or tapered)):
        return None
    return Lanes(
        np.int32((23 - grid.fraction_bits) * 2**23),
        np.float32(2.0 ** (exponent + 23)).view(np.int32),
        np.float32(grid.largest),
        np.float32(grid.lowest),
        np.float32(-0.0 if grid.signed_zero else 0.0),
    )


@scalar_jit
def round_lane(y, lanes):  # type: ignore[no-untyped-def]
    """Float32 y, saturated, to the nearest value of the grid, ties to even; NaN to any number.

    One ulp of `unit` is the quantum at y, so adding it rounds to whole quanta, and taking it away
    again is exact.
    """
    y = y if y < lanes.largest else lanes.largest
    y = y if y > lanes.lowest else lanes.lowest
    bits = float_bits(y)
    unit = np.int32(np.int32(bits & _EXPONENT) + lanes.shift)
    unit = bits_float(unit if unit > lanes.floor else lanes.floor)
    magnitude = (np.abs(y) + unit) - unit
    return bits_float(np.int32(float_bits(magnitude) | np.int32(bits & _SIGN)))


@jit
def _round_run(x, m, t, out, lanes, divides):  # type: ignore[no-untyped-def]
    if divides:
        for j in range(x.size):
            out[j] = (round_lane(np.divide(x[j], m[j]), lanes) + lanes.zero) * t[j]
    else:
        for j in range(x.size):
            out[j] = (round_lane(x[j] * m[j], lanes) + lanes.zero) * t[j]


@parallel_jit
def round_narrow(x, out, multipliers, totals, layout, divides, lanes):  # type: ignore[no-untyped-def]
    """`round_any` in float32 lanes; flat x and out, flat float32 tables."""
    for chunk in prange((x.size + CHUNK - 1) // CHUNK):
        a, z = chunk * CHUNK, min((chunk + 1) * CHUNK, x.size)
        m, t = np.empty(z - a, np.float32), np.empty(z - a, np.float32)
        spread(multipliers, m, a, layout)
        spread(totals, t, a, layout)
        _round_run(x[a:z], m, t, out[a:z], lanes, divides)


@jit
def _find_largest(bits, largest, length):  # type: ignore[no-untyped-def]
    for b in range(largest.size):
        best = np.int32(0)
        for j in range(length):
            v = np.int32(bits[b * length + j] & _MAGNITUDE)
            best = v if v > best else best
        largest[b] = best


@jit
def _exponents(largest, m, t, scaling):  # type: ignore[no-untyped-def]
    """Multipliers and totals of power-of-two scales, from the bits of the largest magnitudes.

    Adding `bump` to the bits carries into the exponent where the rule rounds up. Holds for
    exponents of at least -127, so that subnormal magnitudes need no more than a comparison.
    """
    ratio = scaling.rule == RATIO
    up = scaling.rule == CEIL or ratio
    bump = np.int32(0x7FFFFF if up else 0)
    if scaling.rule == EVEN:
        bump = np.int32(1 << (22 - scaling.even_bits))
    emax = np.int32(0 if ratio else scaling.emax)
    least, most = np.int32(scaling.least), np.int32(scaling.most)
    divisor = np.float32(scaling.largest if ratio else 1.0)
    for b in range(largest.size):
        bits = float_bits(np.divide(bits_float(np.int32(largest[b])), divisor))
        e = np.int32((np.int32(bits + bump) >> 23) - 127)
        small = np.int32(-126 if up and bits > _HALF_NORMAL else -127)
        e = np.int32((small if bits < _NORMAL and up else e) - emax)
        e = most if e > most or (ratio and bits >= _EXPONENT) else e
        e = e if e > least else least
        above = np.int32((127 + e) << 23)
        below = np.int32((127 - e) << 23)
        total = bits_float(above if e > -127 else _HALF_NORMAL)
        inverse = bits_float(below if e < 127 else _HALF_NORMAL)
        zero, missing = largest[b] == 0, largest[b] > _EXPONENT
        m[b] = _NAN if missing else (_ONE if zero else inverse)
        t[b] = _NAN if missing else (_ONE if zero else total)


@jit
def _float_scales(largest, m, t, scaling, lanes, rounds):  # type: ignore[no-untyped-def]
    """As `scales.block_scale` for float scales, nearest-even, in float32."""
    rule = scaling.rule
    encode, decode = np.float32(scaling.encode), np.float32(scaling.decode)
    divisor, least = np.float32(scaling.largest), np.float32(scaling.least_scale)
    inverse = np.divide(_ONE, encode) if rule == TWO_LEVEL_DIVIDED else _ONE
    for b in range(largest.size):
        s = np.divide(bits_float(np.int32(largest[b])), divisor)
        if rule == TWO_LEVEL:
            s = s * encode
        elif rule == TWO_LEVEL_DIVIDED:
            s = _ZERO if largest[b] == 0 else np.divide(s, encode)
        s = s if s < _LARGEST else _LARGEST
        s = round_lane(s, lanes) if rounds else s
        s = least if s < least else s
        total = s * decode
        factor = np.divide(inverse, total if rule == TWO_LEVEL else s)
        factor = factor if factor < _LARGEST else _LARGEST
        if rule == RECIPROCAL:
            factor = _ZERO if s == _ZERO else factor
        elif rule == ABSMAX:
            factor = _INFINITY if s == _ZERO else s
        missing = largest[b] > _EXPONENT
        m[b] = _NAN if missing else factor
        t[b] = _NAN if missing else total


def get_route(scaling: Scaling, scale: Grid) -> tuple[int, Lanes]:
    """How `round_lines` computes these scales, and the lanes of the scale format."""
    lanes = get_lanes(scale)
    if scaling.rule <= RATIO:
        # Of subnormal magnitudes the exponents here are too large, which the clamp must mend.
        even = scaling.rule == EVEN and (scaling.emax < 1 or scaling.even_bits > 22)
        slow = even or (scaling.rule != RATIO and scaling.emax < 0)
        slow = slow or scaling.least < -127 or scaling.most > 127
        return (ONE_BY_ONE if slow else BY_EXPONENT), _EXACT
    if scaling.rounding != 0 or scaling.rule > TWO_LEVEL_DIVIDED:
        return ONE_BY_ONE, _EXACT
    if scale == FLOAT32.grid:
        return IN_FLOAT32, _EXACT
    return (ONE_BY_ONE, _EXACT) if lanes is None else (IN_LANES, lanes)


@jit
def _scales(largest, m, t, scaling, grid):  # type: ignore[no-untyped-def]
    for b in range(largest.size):
        amax = np.float64(bits_float(np.int32(largest[b])))
        _, multiplier, total = block_scale(amax, scaling, grid)
        m[b], t[b] = multiplier, total


@jit
def _round_blocks(x, m, t, out, lanes, divides, length):  # type: ignore[no-untyped-def]
    if divides:
        for b in range(m.size):
            divisor, total = m[b], t[b]
            for j in range(length):
                y = np.divide(x[b * length + j], divisor)
                out[b * length + j] = (round_lane(y, lanes) + lanes.zero) * total
    else:
        for b in range(m.size):
            multiplier, total = m[b], t[b]
            for j in range(length):
                y = x[b * length + j] * multiplier
                out[b * length + j] = (round_lane(y, lanes) + lanes.zero) * total


@parallel_jit
def round_lines(x, bits, out, length, scaling, grid, route, scale_lanes, lanes, divides):  # type: ignore[no-untyped-def]
    """Scales and rounded values in one pass, for consecutive blocks of `length` elements.

    x, out: flat float32; bits: x as int32; grid: that of the scale format; route and scale_lanes
    from `get_route`.
    """
    blocks = x.size // length
    group = max(CHUNK // length, 1)
    for g in prange((blocks + group - 1) // group):
        b, e = g * group, min((g + 1) * group, blocks)
        largest = np.empty(e - b, np.int32)
        m, t = np.empty(e - b, np.float32), np.empty(e - b, np.float32)
        a, z = b * length, e * length
        _find_largest(bits[a:z], largest, length)
        if route == BY_EXPONENT:
            _exponents(largest, m, t, scaling)
        elif route == ONE_BY_ONE:
            _scales(largest, m, t, scaling, grid)
        else:
            _float_scales(largest, m, t, scaling, scale_lanes, route == IN_LANES)
        _round_blocks(x[a:z], m, t, out[a:z], lanes, divides, length)
