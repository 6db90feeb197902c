"""A conversion as straight-line code sees it: format, rounding and policy as numbers.

One `Lane` holds the constants of a conversion in the width of the lanes it runs in (float32 and
int32, or float64 and int64), so that the loops in `loops.py` have no branch on format, rounding
or overflow, and one compilation serves all of them.

From 2^min_exponent on, x is rounded in place: with `drop` low bits to go, the magnitude's bits
become (bits + increment) & keep, and a carry into the exponent is the right one. The increments,
with mask = 2^drop - 1, half = 2^(drop - 1) and the last kept bit at 2^drop, are

    nearest_even   half - 1 + (last kept bit)         up, down   mask or 0, by sign
    nearest_away   half                               to_odd     mask if the last kept bit is 0
    toward_zero    0                                  srff       r 2^(drop - k)
                                                      srf        r 2^(drop - k) + 2^(drop - k - 1)

and for src, r 2^(drop - k) after a rounding to the k first discarded bits. Below, where values
are multiples of one quantum, nearest_even rounds x / quantum to an integer. All others add
2^min_exponent to |x|, which puts the last kept bit at `drop` too, and take it away in the end. That
sum is made round to odd (its low bits, at least two below the k drawn ones, tell only whether they
are zero), so each rounding is of the exact |x|. Formats with the subnormals of the lane are
rounded in place everywhere; integers below the power of two that is above all of them.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .format import FLOAT32, FloatFormat, Grid, GridFormat
from .reference import encode_exact, nan_code
from .rounding import OVERFLOW_CODES, Mode, Overflow

#: Which loop serves a conversion.
NEAREST, NEAREST_BOUNDED, DIRECTED, RANDOM, RANDOM_BOUNDED, RANDOM_ROUNDED, GENERAL = range(7)


class Lane(NamedTuple):
    """Constants of one conversion; integers and floats of one width.

    Attributes:
        drop, keep: discarded bits, and the mask of the others.
        base, by_last, by_sign: increment = base + (by_last if the last kept bit is set)
            + (by_sign if x < 0).
        left, keep_drawn: drop - k, by which r is shifted, and the mask of what r can meet.
        threshold: 2^min_exponent; 0 if all of x is rounded in place.
        scale, quantum: 1 / quantum; the distance of values below the threshold.
        largest, lowest: the range; over_*, infinite_*: what finite and infinite values beyond
            become. zero: -0.0 keeps the sign of zero, +0.0 drops it.
        nothing, one, infinity: 0, 1 and infinity in the lane's type.
        sign: the place of the sign bit. magnitude: the mask of all others.
        rebias: added to bits >> drop, makes the code's magnitude. lower, signs: the sign bit's
            way into the code. alike: whether codes are the bits of values, moved: -0 has its code
            if there is a sign, and there are subnormals. mask: all bits of a code.
    """

    drop: Any
    keep: Any
    base: Any
    by_last: Any
    by_sign: Any
    left: Any
    keep_drawn: Any
    threshold: Any
    scale: Any
    quantum: Any
    largest: Any
    lowest: Any
    over_up: Any
    over_down: Any
    infinite_up: Any
    infinite_down: Any
    zero: Any
    nothing: Any
    one: Any
    infinity: Any
    sign: Any
    magnitude: Any
    rebias: Any
    lower: Any
    signs: Any
    alike: Any
    mask: Any
    infinity_code: Any
    nan_code: Any


class Plan(NamedTuple):
    """A conversion: its loop, the lane for that loop, and what the general loop needs."""

    kind: int
    lane: Lane
    grid: Grid
    mode: int
    overflow: int
    k: int


_INTEGERS = {
    "drop", "keep", "base", "by_last", "by_sign", "left", "keep_drawn", "sign", "magnitude",
    "rebias", "lower", "signs", "alike", "mask", "infinity_code", "nan_code",
}  # fmt: skip


class _Width(NamedTuple):
    """A lane's own format."""

    fraction_bits: int
    min_exponent: int
    whole: Any
    real: Any


_SINGLE = _Width(23, -126, np.int32, np.float32)
_DOUBLE = _Width(52, -1022, np.int64, np.float64)


class _Shape(NamedTuple):
    """Where a format's values lie, as the lane sees them; integers as floats of one binade."""

    drop: int
    threshold: float
    quantum: float


def _shape(grid: Grid, width: _Width) -> _Shape | None:
    """None if straight-line code would not be exact in this lane."""
    if not grid.has_zero:
        return None
    quantum = grid.min_exponent - grid.subnormal_fraction_bits
    if grid.fraction_bits >= 52 and grid.largest < 2.0**52:  # multiples of one quantum
        top = math.frexp(max(grid.largest, -grid.lowest) + 2.0**quantum)[1]
        drop = width.fraction_bits - (top - quantum)
        return _Shape(drop, 2.0**top, 2.0**quantum) if drop >= 0 else None
    drop = width.fraction_bits - grid.fraction_bits
    if drop < 0 or grid.min_exponent < width.min_exponent:
        return None
    if grid.min_exponent == width.min_exponent:
        same = grid.subnormal_fraction_bits == grid.fraction_bits
        return _Shape(drop, 0.0, 1.0) if same else None
    small = quantum < width.min_exponent or grid.min_exponent > -width.min_exponent
    return None if small else _Shape(drop, 2.0**grid.min_exponent, 2.0**quantum)


def _kind(grid: Grid, mode: int, k: int, overflow: Overflow, shape: _Shape | None) -> int:
    """The loop for a conversion; GENERAL if none is exact."""
    saturates = overflow is Overflow.SATURATE
    if shape is None or overflow is Overflow.WRAP:
        return GENERAL
    if mode == Mode.NEAREST_EVEN:
        return NEAREST if saturates else NEAREST_BOUNDED
    if shape.drop < k + 2 or (shape.threshold and grid.subnormal_fraction_bits == 0):
        return GENERAL
    if mode == Mode.SRC:
        return RANDOM_ROUNDED
    if k == 0:
        return DIRECTED
    return RANDOM if saturates else RANDOM_BOUNDED


@lru_cache(maxsize=1024)
def make_plan(fmt: GridFormat, mode: int, k: int, overflow: Overflow, single: bool) -> Plan:
    """The conversion of float32 (`single`) or float64 arrays into a format."""
    grid, code = fmt.grid, OVERFLOW_CODES[overflow.value]
    for width in (_SINGLE, _DOUBLE) if single else (_DOUBLE,):
        shape = _shape(grid, width)
        kind = _kind(grid, mode, k, overflow, shape)
        if shape is not None and kind != GENERAL:
            return Plan(kind, _lane(fmt, shape, width, mode, k, overflow), grid, mode, code, k)
    lane = _lane(FLOAT32, _Shape(29, 2.0**-126, 2.0**-149), _DOUBLE, mode, k, overflow)
    return Plan(GENERAL, lane, grid, mode, code, k)


def _lane(
    fmt: GridFormat, shape: _Shape, width: _Width, mode: int, k: int, overflow: Overflow
) -> Lane:
    grid, drop = fmt.grid, shape.drop
    sign = 8 * np.dtype(width.whole).itemsize - 1
    fields: dict[str, float | int] = {
        "drop": drop,
        "keep": -(1 << drop),
        "left": drop - k,
        "keep_drawn": -(1 << max(drop - k, 0)),
        "threshold": shape.threshold,
        "scale": 1.0 / shape.quantum,
        "quantum": shape.quantum,
        "largest": grid.largest,
        "lowest": grid.lowest,
        "zero": -0.0 if grid.signed_zero else 0.0,
        "nothing": 0.0,
        "one": 1.0,
        "infinity": math.inf,
        "sign": sign,
        "magnitude": (1 << sign) - 1,
        "mask": (1 << fmt.bits) - 1,
        "lower": sign - (fmt.bits - 1),
        "signs": (1 << (fmt.bits - 1)) if grid.lowest < 0.0 else 0,
        "alike": 0,
        "rebias": 0,
        "infinity_code": 0,
        "nan_code": 0,
    }
    if isinstance(fmt, FloatFormat):
        same = grid.fraction_bits == grid.subnormal_fraction_bits
        fields["alike"] = int(same and grid.signed_zero == (grid.lowest < 0.0))
        bias = 1 - width.min_exponent + fmt.min_exponent - 1
        fields["rebias"] = -(bias << fmt.fraction_bits)
        fields["infinity_code"] = encode_exact(math.inf, fmt) if fmt.infinity else 0
        fields["nan_code"] = nan_code(fmt) if grid.has_nan else 0
    fields |= _increments(mode, k, drop) | find_beyond(grid, mode, overflow)
    span, half = 2 << sign, 1 << sign
    wrapped = {n: (int(fields[n]) + half) % span - half for n in _INTEGERS}
    real = {n: width.real(fields[n]) for n in Lane._fields if n not in _INTEGERS}
    return Lane(**real, **{n: width.whole(v) for n, v in wrapped.items()})


def _increments(mode: int, k: int, drop: int) -> dict[str, int]:
    mask, half, drawn = (1 << drop) - 1, (1 << drop) >> 1, (1 << max(drop - k, 0)) >> 1
    base, by_last, by_sign = {
        Mode.NEAREST_EVEN: (max(half - 1, 0), int(drop > 0), 0),
        Mode.NEAREST_AWAY: (half, 0, 0),
        Mode.TOWARD_ZERO: (0, 0, 0),
        Mode.UP: (mask, 0, -mask),
        Mode.DOWN: (0, 0, mask),
        Mode.TO_ODD: (mask, -mask, 0),
        Mode.SRFF: (0, 0, 0),
        Mode.SRF: (drawn, 0, 0),
        Mode.SRC: (max(drawn - 1, 0), 0, 0),
    }[Mode(mode)]
    return {"base": base, "by_last": by_last, "by_sign": by_sign}


def find_beyond(grid: Grid, mode: int, overflow: Overflow) -> dict[str, float | int]:
    """What finite and infinite values beyond the range become; as `reference.beyond`."""
    infinity = math.inf if grid.has_infinity else math.nan
    up, down = infinity, -infinity if grid.lowest < 0.0 else math.nan
    stops_up = mode in (Mode.TOWARD_ZERO, Mode.TO_ODD, Mode.DOWN)
    stops_down = mode in (Mode.TOWARD_ZERO, Mode.TO_ODD, Mode.UP)
    match overflow:
        case Overflow.SATURATE:
            values = grid.largest, grid.lowest, grid.largest, grid.lowest
        case Overflow.PROPAGATE:
            values = grid.largest, grid.lowest, up, down
        case Overflow.INFINITY if grid.has_infinity:
            values = (
                grid.largest if stops_up else up,
                grid.lowest if stops_down else down,
                up,
                down,
            )
        case _:
            values = (math.nan,) * 4
    return dict(zip(("over_up", "over_down", "infinite_up", "infinite_down"), values, strict=True))
