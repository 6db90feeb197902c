"""The rounding and encoding kernels over arrays, in parallel chunks.

`lanes.py` has the equations and the constants. Every loop but the general one is straight-line code
that vectorises; a chunk stays in cache from its random bits to its codes, so that the cost is near
that of reading and writing the array: `make bench` prints it as a multiple of a copy.
"""

import numpy as np

from .jit import (
    ROUND_NEAREST,
    ROUND_TOWARD_ZERO,
    add_bits,
    and_bits,
    bits_float,
    convert,
    float_bits,
    jit,
    multiply_bits,
    or_bits,
    parallel_jit,
    prange,
    scalar_jit,
    set_rounding,
    shift_left,
    shift_right,
    stay_apart,
)
from .kernels import power_of_two, round_value
from .lanes import (
    DIRECTED,
    NEAREST,
    NEAREST_BOUNDED,
    RANDOM,
    RANDOM_BOUNDED,
    RANDOM_ROUNDED,
)
from .random import fill_random

_ONE = np.int64(1)
#: Elements that one thread takes at a time; shorter arrays are not worth a second thread.
CHUNK = 8192


@scalar_jit
def _clamped(x, lane):  # type: ignore[no-untyped-def]
    """x within the range; NaN stays."""
    x = lane.lowest if x < lane.lowest else x
    return lane.largest if x > lane.largest else x


@scalar_jit
def _bounded(x, value, lane):  # type: ignore[no-untyped-def]
    """The rounded value of x within the range, or what the overflow policy says."""
    high = lane.infinite_up if x == lane.infinity else lane.over_up
    low = lane.infinite_down if x == -lane.infinity else lane.over_down
    value = high if value > lane.largest else value
    value = low if value < lane.lowest else value
    return x if x != x else value + lane.zero


@scalar_jit
def _nearest(x, lane):  # type: ignore[no-untyped-def]
    bits = float_bits(x)
    last = and_bits(shift_right(bits, lane.drop), lane.by_last)
    place = bits_float(and_bits(add_bits(add_bits(bits, lane.base), last), lane.keep))
    below = np.rint(x * lane.scale) * lane.quantum
    return place if np.abs(x) >= lane.threshold else below


@scalar_jit
def _raised(x, lane):  # type: ignore[no-untyped-def]
    """What is added to |x| so that its last kept bit stands where `drop` says."""
    return lane.nothing if np.abs(x) >= lane.threshold else lane.threshold


@scalar_jit
def _truncated(size, total, rise):  # type: ignore[no-untyped-def]
    """The bits of size + rise toward zero, from the nearest `total`; total - rise is exact."""
    bits = float_bits(total)
    return add_bits(bits, -1) if total - rise > size else bits


@scalar_jit
def _to_odd(x, rise):  # type: ignore[no-untyped-def]
    """The bits of |x| + rise rounded to odd."""
    size = np.abs(x)
    total = size + rise
    bits = _truncated(size, total, rise)
    return or_bits(bits, 1) if total - rise != size else bits


@scalar_jit
def _directed(x, lane):  # type: ignore[no-untyped-def]
    rise = _raised(x, lane)
    bits = _to_odd(x, rise)
    by_last = multiply_bits(and_bits(shift_right(bits, lane.drop), 1), lane.by_last)
    by_sign = multiply_bits(shift_right(float_bits(x), lane.sign), lane.by_sign)
    increment = add_bits(add_bits(lane.base, by_last), by_sign)
    value = bits_float(and_bits(add_bits(bits, increment), lane.keep)) - rise
    return np.copysign(value, x)


@scalar_jit
def _random(x, r, lane):  # type: ignore[no-untyped-def]
    """srff and srf: bits below the increment's lowest cannot carry, so they may be truncated.

    The thread rounds toward zero, so that the one inexact sum is truncated; all others are exact.
    """
    rise = _raised(x, lane)
    bits = float_bits(np.abs(x) + rise)
    increment = add_bits(shift_left(convert(r, bits), lane.left), lane.base)
    value = bits_float(and_bits(add_bits(bits, increment), lane.keep)) - rise
    return np.copysign(value, x)


@scalar_jit
def _random_rounded(x, r, lane):  # type: ignore[no-untyped-def]
    """src: the discarded bits to k, nearest-even, then as srff."""
    rise = _raised(x, lane)
    bits = _to_odd(x, rise)
    odd = and_bits(shift_right(bits, lane.left), 1)
    bits = and_bits(add_bits(add_bits(bits, lane.base), odd), lane.keep_drawn)
    bits = add_bits(bits, shift_left(convert(r, bits), lane.left))
    value = bits_float(and_bits(bits, lane.keep)) - rise
    return np.copysign(value, x)


@jit
def _nearest_loop(x, out, lane):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        out[i] = _nearest(_clamped(convert(x[i], lane.one), lane), lane) + lane.zero


@jit
def _nearest_bounded_loop(x, out, lane):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        y = convert(x[i], lane.one)
        out[i] = _bounded(y, _nearest(y, lane), lane)


@jit
def _directed_loop(x, out, lane):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        y = convert(x[i], lane.one)
        out[i] = _bounded(y, _directed(y, lane), lane)


@jit
def _random_loop(x, r, out, lane):  # type: ignore[no-untyped-def]
    stay_apart()
    for i in range(x.size):
        y = convert(x[i], lane.one)
        value = _random(_clamped(y, lane), r[i], lane) + lane.zero
        out[i] = y if y != y else value


@jit
def _random_bounded_loop(x, r, out, lane):  # type: ignore[no-untyped-def]
    stay_apart()
    for i in range(x.size):
        y = convert(x[i], lane.one)
        out[i] = _bounded(y, _random(y, r[i], lane), lane)


@jit
def _random_rounded_loop(x, r, out, lane):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        y = convert(x[i], lane.one)
        out[i] = _bounded(y, _random_rounded(y, r[i], lane), lane)


@jit
def _general_loop(x, r, out, grid, mode, overflow, k):  # type: ignore[no-untyped-def]
    """Any grid, mode and policy, one value at a time."""
    for i in range(x.size):
        drawn = np.int64(r[i]) if k > 0 else np.int64(0)
        out[i] = round_value(np.float64(x[i]), grid, mode, overflow, k, drawn)


@jit
def round_run(x, out, r, kind, lane, grid, mode, overflow, k):  # type: ignore[no-untyped-def]
    """out[i] = x[i] in the format; the integer r[i] below 2^k decides stochastic rounding.

    kind .. k: the fields of a `lanes.Plan`, one by one, as parallel kernels want them.
    """
    if kind == NEAREST:
        _nearest_loop(x, out, lane)
    elif kind == NEAREST_BOUNDED:
        _nearest_bounded_loop(x, out, lane)
    elif kind == DIRECTED:
        _directed_loop(x, out, lane)
    elif kind == RANDOM:
        set_rounding(ROUND_TOWARD_ZERO)
        _random_loop(x, r, out, lane)
        set_rounding(ROUND_NEAREST)
    elif kind == RANDOM_BOUNDED:
        set_rounding(ROUND_TOWARD_ZERO)
        _random_bounded_loop(x, r, out, lane)
        set_rounding(ROUND_NEAREST)
    elif kind == RANDOM_ROUNDED:
        _random_rounded_loop(x, r, out, lane)
    else:
        _general_loop(x, r, out, grid, mode, overflow, k)


@jit
def draw_run(count, given, first, seed, stream, k):  # type: ignore[no-untyped-def]
    """The random integers of elements first .. first + count - 1: the caller's, or Philox's."""
    if k == 0 or given.size > 0:
        return given[first : first + count]
    room = np.empty(count + 32, given.dtype)
    return fill_random(room, k, seed, stream, np.uint64(first), count)


@jit
def round_short(x, out, given, kind, lane, grid, mode, overflow, k, seed, stream):  # type: ignore[no-untyped-def]
    """`round_array` by the calling thread."""
    r = draw_run(x.size, given, 0, seed, stream, k)
    round_run(x, out, r, kind, lane, grid, mode, overflow, k)


@parallel_jit
def round_array(x, out, given, kind, lane, grid, mode, overflow, k, seed, stream):  # type: ignore[no-untyped-def]
    """out[i] = x[i] in the format; x, out: flat float32 or float64.

    `given`: a random integer below 2^k for each element; empty: Philox, in its dtype.
    """
    n = x.size
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        a, z = chunk * CHUNK, min((chunk + 1) * CHUNK, n)
        r = draw_run(z - a, given, a, seed, stream, k)
        round_run(x[a:z], out[a:z], r, kind, lane, grid, mode, overflow, k)


@jit
def _float_codes(values, codes, lane):  # type: ignore[no-untyped-def]
    for i in range(values.size):
        value = values[i]
        bits = float_bits(value)
        size = np.abs(value)
        normal = add_bits(shift_right(and_bits(bits, lane.magnitude), lane.drop), lane.rebias)
        body = normal if size >= lane.threshold else convert(size * lane.scale, bits)
        body = lane.infinity_code if size == lane.infinity else body
        code = or_bits(body, and_bits(shift_right(bits, lane.lower), lane.signs))
        codes[i] = lane.nan_code if value != value else code


@jit
def _nearest_codes(x, codes, lane):  # type: ignore[no-untyped-def]
    """`_nearest_loop` and `_float_codes` at once, where the code is the rounded bits, moved."""
    for i in range(x.size):
        y = convert(x[i], lane.one)
        value = _clamped(y, lane)
        size = np.abs(value)
        bits = float_bits(size)
        last = and_bits(shift_right(bits, lane.drop), lane.by_last)
        place = shift_right(add_bits(add_bits(bits, lane.base), last), lane.drop)
        below = convert(np.rint(size * lane.scale), bits)
        body = add_bits(place, lane.rebias) if size >= lane.threshold else below
        code = or_bits(body, and_bits(shift_right(float_bits(value), lane.lower), lane.signs))
        codes[i] = lane.nan_code if y != y else code


@jit
def _whole_codes(values, codes, lane):  # type: ignore[no-untyped-def]
    """Two's complement in the low bits."""
    for i in range(values.size):
        code = convert(values[i] * lane.scale, lane.mask)
        codes[i] = and_bits(code, lane.mask)


@jit
def _encode_run(x, codes, r, whole, kind, lane, grid, mode, overflow, k):  # type: ignore[no-untyped-def]
    if kind == NEAREST and not whole and lane.alike:
        _nearest_codes(x, codes, lane)
        return
    values = np.empty(x.size, x.dtype)
    round_run(x, values, r, kind, lane, grid, mode, overflow, k)
    if whole:
        _whole_codes(values, codes, lane)
    else:
        _float_codes(values, codes, lane)


@jit
def encode_short(x, codes, given, whole, kind, lane, grid, mode, overflow, k, seed, stream):  # type: ignore[no-untyped-def]
    """`encode_lanes` by the calling thread."""
    r = draw_run(x.size, given, 0, seed, stream, k)
    _encode_run(x, codes, r, whole, kind, lane, grid, mode, overflow, k)


@parallel_jit
def encode_lanes(x, codes, given, whole, kind, lane, grid, mode, overflow, k, seed, stream):  # type: ignore[no-untyped-def]
    """codes[i] = the code of x[i] rounded to the format; not for `lanes.GENERAL`."""
    n = x.size
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        a, z = chunk * CHUNK, min((chunk + 1) * CHUNK, n)
        r = draw_run(z - a, given, a, seed, stream, k)
        _encode_run(x[a:z], codes[a:z], r, whole, kind, lane, grid, mode, overflow, k)


@parallel_jit
def flush_array(x, out, smallest):  # type: ignore[no-untyped-def]
    """Magnitudes below `smallest` as zeros of their sign."""
    for i in prange(x.size):
        out[i] = np.copysign(np.float32(0.0), x[i]) if np.abs(x[i]) < smallest else x[i]


@parallel_jit
def encode_array(values, codes, grid, bits, inf_code, nan_code):  # type: ignore[no-untyped-def]
    """codes[i] (uint64) of values[i] (float64, on the grid of any float format)."""
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
