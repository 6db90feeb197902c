"""The rounding and encoding kernels over arrays, in parallel chunks."""

import numpy as np

from .jit import float_bits, jit, parallel_jit, prange
from .kernels import (
    NEAREST_EVEN,
    SRFF,
    WRAP,
    bound_simple,
    power_of_two,
    round_random,
    round_simple,
    round_value,
    simple,
)
from .random import fill_words

_ONE = np.int64(1)
_CHUNK = 4096


@jit
def _nearest_loop(x, out, grid, overflow):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        y = np.float64(x[i])
        out[i] = bound_simple(y, round_simple(y, grid, True), grid, overflow)


@jit
def _random_loop(x, words, out, grid, overflow, k):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        y = np.float64(x[i])
        r = np.int64(words[i] >> np.uint32(32 - k))
        out[i] = bound_simple(y, round_random(y, grid, k, r), grid, overflow)


@jit
def _any_loop(x, words, out, grid, mode, overflow, k):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        r = np.int64(words[i] >> np.uint32(32 - k)) if k > 0 else np.int64(0)
        out[i] = round_value(np.float64(x[i]), grid, mode, overflow, k, r)


@jit
def quantize_run(x, out, words, grid, mode, overflow, k, seed, stream, first):  # type: ignore[no-untyped-def]
    """out[i] = x[i] on the grid; element i has the Philox index first + i.

    `words` is scratch of at least x.size + 8 uint32.
    """
    fast = simple(grid) and overflow != WRAP
    random = words[:0]
    if k > 0:
        random = fill_words(words, seed, stream, np.uint64(first), x.size)
    if fast and mode == NEAREST_EVEN:
        _nearest_loop(x, out, grid, overflow)
    elif fast and mode == SRFF:
        _random_loop(x, random, out, grid, overflow, k)
    else:
        _any_loop(x, random, out, grid, mode, overflow, k)


@parallel_jit
def quantize_array(x, out, grid, mode, overflow, k, seed, stream):  # type: ignore[no-untyped-def]
    """out[i] = x[i] on the grid; x, out: flat float32 or float64; Philox bits by element index."""
    n = x.size
    for chunk in prange((n + _CHUNK - 1) // _CHUNK):
        a, z = chunk * _CHUNK, min((chunk + 1) * _CHUNK, n)
        words = np.empty(_CHUNK + 8 if k > 0 else 1, np.uint32)
        quantize_run(x[a:z], out[a:z], words, grid, mode, overflow, k, seed, stream, a)


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
