"""Rounding, encoding and decoding of arrays: the fast twins of `reference.py`.

Every kernel works on float64 (float32 inputs convert exactly). A float64 is sig * 2^(e - 52);
the grid's quantum at x is 2^t with t = max(e, min_exponent) - fraction_bits, so rounding is the
removal of s = t - (e - 52) low bits of sig, and the result q * 2^t is exact.
Cost: about 25 integer operations an element, no division, no allocation, no branch that depends
on the data; the loops vectorise.
"""

import numpy as np

from .jit import float_bits, bits_float, jit, parallel_jit, prange
from .random import random_word
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
_CHUNK = 4096


@jit
def power_of_two(t):  # type: ignore[no-untyped-def]
    """2^t as float64 for -1074 <= t <= 1023."""
    normal = (t + 1023) << 52
    subnormal = _ONE << max(t + 1074, 0)
    return bits_float(normal if t >= -1022 else subnormal)


@jit
def shifted(bits, places):  # type: ignore[no-untyped-def]
    """floor(bits * 2^-places) for 0 <= bits < 2^54; `places` may be negative or huge."""
    return (bits << max(-places, 0)) if places < 0 else bits >> min(places, 63)


@jit
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


@jit
def _nearest_even_shift(bits, places):  # type: ignore[no-untyped-def]
    """bits * 2^-places to the nearest integer, ties to even."""
    kept = shifted(bits, places)
    if places <= 0:
        return kept
    rest = bits - (kept << min(places, 62)) if places < 63 else bits
    half = _ONE << min(places - 1, 61)
    return kept + np.int64((rest > half) | ((rest == half) & ((kept & 1) == 1)))


@jit
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


@jit
def round_simple(x, grid, nearest):  # type: ignore[no-untyped-def]
    """`round_finite` for nearest-even (`nearest`) and toward zero, in straight-line code.

    From 2^min_exponent on, the bits of x are rounded in place (a carry into the exponent is the
    right one); below, x over the fixed quantum is rounded to an integer. Exact for formats of at
    most 26 fraction bits whose smallest value is a normal float64.
    """
    bits = float_bits(x)
    drop = 52 - grid.fraction_bits
    increment = ((_ONE << (drop - 1)) - 1 + ((bits >> drop) & 1)) if nearest else np.int64(0)
    above = bits_float((bits + increment) & ~((_ONE << drop) - 1))
    quantum = power_of_two(grid.min_exponent - grid.subnormal_fraction_bits)
    steps = x * power_of_two(grid.subnormal_fraction_bits - grid.min_exponent)
    below = (np.rint(steps) if nearest else np.trunc(steps)) * quantum
    return above if np.abs(x) >= power_of_two(grid.min_exponent) else below


@jit
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


@jit
def _wrap(value, grid):  # type: ignore[no-untyped-def]
    """An integer modulo the number of codes, into lowest .. largest; fmod is exact."""
    span = grid.largest - grid.lowest + 1.0
    rest = np.fmod(value, span)
    if rest > grid.largest:
        rest -= span
    elif rest < grid.lowest:
        rest += span
    return rest


@jit
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


@parallel_jit
def quantize_array(x, out, grid, mode, overflow, k, seed, stream):  # type: ignore[no-untyped-def]
    """out[i] = x[i] on the grid; x, out: flat float32 or float64; Philox bits by element index."""
    n = x.size
    high = np.uint32(32 - k) if k > 0 else np.uint32(0)
    for chunk in prange((n + _CHUNK - 1) // _CHUNK):
        first = chunk * _CHUNK
        last = min(first + _CHUNK, n)
        if mode == NEAREST_EVEN:
            for i in range(first, last):
                out[i] = round_value(np.float64(x[i]), grid, NEAREST_EVEN, overflow, 0, 0)
        else:
            for i in range(first, last):
                r = np.int64(0)
                if k > 0:
                    r = np.int64(random_word(seed, stream, np.uint64(i)) >> high)
                out[i] = round_value(np.float64(x[i]), grid, mode, overflow, k, r)


@parallel_jit
def quantize_with_bits(x, out, grid, mode, overflow, k, random):  # type: ignore[no-untyped-def]
    """As `quantize_array`, with the caller's random integers below 2^k, one for each element."""
    for i in prange(x.size):
        out[i] = round_value(np.float64(x[i]), grid, mode, overflow, k, np.int64(random[i]))


@parallel_jit
def encode_array(values, codes, grid, bits, inf_code, nan_code):  # type: ignore[no-untyped-def]
    """codes[i] (uint64) of values[i] (float64, on the grid of a float format)."""
    width = grid.fraction_bits
    mask = (_ONE << width) - 1
    smallest = power_of_two(grid.min_exponent)
    steps = grid.subnormal_fraction_bits - grid.min_exponent
    up, further = power_of_two(min(steps, 1023)), power_of_two(max(steps - 1023, 0))
    for i in prange(values.size):
        x = values[i]
        magnitude = np.abs(x)
        body = float_bits(magnitude)
        field = (body >> 52) - 1023 - grid.min_exponent + np.int64(grid.has_zero)
        code = (field << width) | ((body >> (52 - width)) & mask)
        if magnitude < smallest:
            code = np.int64(magnitude * up * further)
        if np.isinf(x):
            code = inf_code
        if float_bits(x) < 0:
            code |= _ONE << (bits - 1)
        codes[i] = np.uint64(nan_code if np.isnan(x) else code)
