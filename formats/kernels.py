"""Rounding, encoding and decoding of arrays: the fast twins of `reference.py`.

Every kernel works on float64 (float32 inputs convert exactly). A float64 is sig * 2^(e - 52);
the grid's quantum at x is 2^t with t = max(e, min_exponent) - fraction_bits, so rounding is the
removal of s = t - (e - 52) low bits of sig, and the result q * 2^t is exact.
Cost: about 25 integer operations an element, no division, no allocation, no branch that depends
on the data; the loops vectorise.
"""

import numpy as np

from .jit import bits_float, float_bits, scalar_jit
from .rounding import Mode

NEAREST_EVEN, NEAREST_AWAY = int(Mode.NEAREST_EVEN), int(Mode.NEAREST_AWAY)
TOWARD_ZERO, UP, DOWN = int(Mode.TOWARD_ZERO), int(Mode.UP), int(Mode.DOWN)
TO_ODD, SRFF, SRF = int(Mode.TO_ODD), int(Mode.SRFF), int(Mode.SRF)
SATURATE, INFINITY, NAN, WRAP = 0, 1, 2, 3
OVERFLOW_CODES = {"saturate": SATURATE, "infinity": INFINITY, "nan": NAN, "wrap": WRAP}

_FRACTION = np.int64((1 << 52) - 1)
_IMPLICIT = np.int64(1 << 52)
_ABS = np.int64((1 << 63) - 1)
_ONE = np.int64(1)


@scalar_jit
def power_of_two(t):  # type: ignore[no-untyped-def]
    """2^t as float64 for -1074 <= t <= 1023."""
    normal = (t + 1023) << 52
    subnormal = _ONE << max(t + 1074, 0)
    return bits_float(normal if t >= -1022 else subnormal)


@scalar_jit
def shifted(bits, places):  # type: ignore[no-untyped-def]
    """floor(bits * 2^-places) for 0 <= bits < 2^54; `places` may be negative or huge."""
    return (bits << max(-places, 0)) if places < 0 else bits >> min(places, 63)


@scalar_jit
def carry(kept, rest, s, mode, negative, k, r):  # type: ignore[no-untyped-def]
    """1 if the magnitude kept + rest * 2^-s goes up to kept + 1, else 0; s >= 1.

    `r` is a uniform integer below 2^k. s is not clamped: `rest` has at most 53 bits, so for
    s > 54 the discarded fraction is below a quarter.
    """
    if mode == NEAREST_EVEN:
        half = _ONE << min(s - 1, 61)
        return np.int64((rest > half) | ((rest == half) & ((kept & 1) == 1)))
    if mode == NEAREST_AWAY:
        return np.int64(rest >= (_ONE << min(s - 1, 61)))
    if mode == TOWARD_ZERO:
        return np.int64(0)
    if mode == UP:
        return np.int64((rest != 0) & (not negative))
    if mode == DOWN:
        return np.int64((rest != 0) & negative)
    if mode == TO_ODD:
        return np.int64((rest != 0) & ((kept & 1) == 0))
    if mode == SRFF:
        return (shifted(rest, s - k) + r) >> k
    if mode == SRF:
        return (shifted(rest, s - k - 1) + 2 * r + 1) >> (k + 1)
    return (_nearest_even_shift(rest, s - k) + r) >> k


@scalar_jit
def _nearest_even_shift(bits, places):  # type: ignore[no-untyped-def]
    """bits * 2^-places to the nearest integer, ties to even."""
    kept = shifted(bits, places)
    if places <= 0:
        return kept
    rest = bits - (kept << min(places, 62)) if places < 63 else bits
    half = _ONE << min(places - 1, 61)
    return kept + np.int64((rest > half) | ((rest == half) & ((kept & 1) == 1)))


@scalar_jit
def round_finite(x, grid, mode, k, r):  # type: ignore[no-untyped-def]
    """Finite x on the grid of unbounded exponent: |result| may exceed `grid.largest`."""
    bits = float_bits(x)
    negative = bits < 0
    magnitude = bits & _ABS
    biased = magnitude >> 52
    sig = (magnitude & _FRACTION) | (_IMPLICIT if biased > 0 else np.int64(0))
    e = max(biased, _ONE) - 1023
    below = e < grid.min_exponent
    width = grid.subnormal_fraction_bits if below else grid.fraction_bits
    t = max(e, grid.min_exponent) - width
    s = t - (e - 52)
    kept = shifted(sig, s)
    rest = sig - (kept << s) if s < 62 else sig
    if s > 0:
        kept += carry(kept, rest, s, mode, negative, k, r)
    value = np.float64(kept) * power_of_two(t)
    return -value if negative else value


@scalar_jit
def round_simple(x, grid, nearest):  # type: ignore[no-untyped-def]
    """`round_finite` for nearest-even (`nearest`) and toward zero, in straight-line code.

    From 2^min_exponent on, the bits of x are rounded in place (a carry into the exponent is the
    right one); below, x over the fixed quantum is rounded to an integer. Exact on a `simple`
    grid; keeps infinities, not NaN.
    """
    bits = float_bits(x)
    drop = 52 - grid.fraction_bits
    half = _ONE << max(drop - 1, 0)
    increment = (half - 1 + ((bits >> drop) & 1)) if nearest and drop > 0 else np.int64(0)
    above = bits_float((bits + increment) & -(_ONE << drop))
    quantum = power_of_two(grid.min_exponent - grid.subnormal_fraction_bits)
    steps = x * power_of_two(grid.subnormal_fraction_bits - grid.min_exponent)
    below = (np.rint(steps) if nearest else np.trunc(steps)) * quantum
    return above if np.abs(x) >= power_of_two(grid.min_exponent) else below


@scalar_jit
def round_random(x, grid, k, r):  # type: ignore[no-untyped-def]
    """`round_finite` for the rule srff, in straight-line code, on a `simple` grid."""
    bits = float_bits(x)
    drop = 52 - grid.fraction_bits
    kept = bits & -(_ONE << drop)
    rest = bits & ((_ONE << drop) - 1)
    top = (rest >> max(drop - k, 0)) << max(k - drop, 0)
    above = bits_float(kept + (((top + r) >> k) << drop))
    quantum = power_of_two(grid.min_exponent - grid.subnormal_fraction_bits)
    steps = np.abs(x) * power_of_two(grid.subnormal_fraction_bits - grid.min_exponent)
    whole = np.floor(steps)
    span = np.float64(_ONE << k)
    up = np.float64(np.floor((steps - whole) * span) + np.float64(r) >= span)
    below = np.copysign((whole + up) * quantum, x)
    return above if np.abs(x) >= power_of_two(grid.min_exponent) else below


@scalar_jit
def simple(grid):  # type: ignore[no-untyped-def]
    """Whether the straight-line roundings hold: the quantum and its inverse are normal float64."""
    return grid.has_zero and grid.min_exponent - grid.subnormal_fraction_bits > -1022


@scalar_jit
def bound_simple(x, value, grid, overflow):  # type: ignore[no-untyped-def]
    """`bound` for nearest-even and stochastic rounding without WRAP, in straight-line code."""
    limit = grid.largest if x > 0.0 else grid.lowest
    special = np.copysign(np.inf if grid.has_infinity and overflow == INFINITY else np.nan, x)
    value = (limit if overflow == SATURATE else special) if np.abs(value) > np.abs(limit) else value
    value = value if grid.signed_zero or value != 0.0 else 0.0
    return x if np.isnan(x) else value


@scalar_jit
def bound(value, grid, mode, overflow):  # type: ignore[no-untyped-def]
    """A rounded value inside the range of its format, after the overflow policy."""
    if grid.lowest <= value <= grid.largest:
        if value == 0.0 and not grid.signed_zero:
            return 0.0
        return value
    if np.isnan(value):
        return value
    if not grid.has_zero and value > 0.0 and value < grid.lowest:
        return grid.lowest
    limit = grid.largest if value > 0.0 else grid.lowest
    if overflow == SATURATE:
        return limit
    if overflow == WRAP:
        return _wrap(value, grid)
    if overflow == NAN or not grid.has_infinity:
        return np.nan
    stops = mode == TOWARD_ZERO or mode == TO_ODD
    stops = stops or (mode == UP and value < 0.0) or (mode == DOWN and value > 0.0)
    if stops and not np.isinf(value):
        return limit
    return np.inf if value > 0.0 else -np.inf


@scalar_jit
def _wrap(value, grid):  # type: ignore[no-untyped-def]
    """An integer modulo the number of codes, into lowest .. largest; fmod is exact."""
    span = grid.largest - grid.lowest + 1.0
    rest = np.fmod(value, span)
    if rest > grid.largest:
        rest -= span
    elif rest < grid.lowest:
        rest += span
    return rest + 0.0  # fmod keeps the sign of a zero, integers have none


@scalar_jit
def round_value(x, grid, mode, overflow, k, r):  # type: ignore[no-untyped-def]
    """x rounded to the format: the one place where a real number becomes a value."""
    if np.isnan(x):
        return x
    if np.isinf(x):
        return bound(x, grid, mode, overflow)
    value = round_finite(x, grid, mode, k, r)
    if not grid.has_zero and value == 0.0:
        if x > 0.0:
            return grid.lowest
        return grid.lowest if overflow == SATURATE else np.nan
    return bound(value, grid, mode, overflow)
