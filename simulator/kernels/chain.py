"""Single additions in float64: of lanes, promotions and starts, each rounded exactly once.

s = x + y is not exact in float64, but its error is (Knuth's TwoSum), so s can be turned into the
sum rounded to odd; rounding that to at most 51 bits, whatever the mode, equals rounding the exact
sum (Boldo & Melquiond 2008). Cost: 6 additions and about 15 integer operations. The chains
themselves are in `chain_tiles.py`.
"""

import numpy as np

from ...formats.jit import bits_float, float_bits, jit, parallel_jit, prange, scalar_jit
from ...formats.kernels import INFINITY, bound, round_finite, round_simple

_TILE = 256


@scalar_jit
def to_odd_sum(x, y):  # type: ignore[no-untyped-def]
    """x + y in float64, rounded to odd; infinities and NaN as in x + y."""
    s = x + y
    back = s - x
    error = (x - (s - back)) + (y - back)
    bits = float_bits(s)
    inexact = (error != 0.0) & ((bits & 1) == 0) & (np.abs(s) < np.inf)
    step = np.int64(1) if (error > 0.0) == (s > 0.0) else np.int64(-1)
    return bits_float(bits + step) if inexact else s


@scalar_jit
def round_step(s, grid, mode, flush, k, r):  # type: ignore[no-untyped-def]
    """A to-odd sum in the accumulator's format; overflow as IEEE; below `flush` a signed zero."""
    if not np.abs(s) < np.inf:
        return s
    value = bound(round_finite(s, grid, mode, k, r), grid, mode, INFINITY)
    return np.copysign(0.0, value) if np.abs(value) < flush else value


@jit
def _step_nearest(c, y, grid, flush):  # type: ignore[no-untyped-def]
    for j in range(c.size):
        s = to_odd_sum(c[j], y[j])
        value = round_simple(s, grid, True)
        value = np.copysign(np.inf, s) if np.abs(value) > grid.largest else value
        value = np.copysign(0.0, value) if np.abs(value) < flush else value
        c[j] = value if np.abs(s) < np.inf else s


@jit
def _step_any(c, y, grid, mode, flush):  # type: ignore[no-untyped-def]
    for j in range(c.size):
        s = to_odd_sum(c[j], y[j])
        c[j] = round_step(s, grid, mode, flush, 0, 0)


@jit
def add_part(x, y, out, grid, mode, flush):  # type: ignore[no-untyped-def]
    """out = round(x + y), flat float64: one addition of an accumulator."""
    out[:] = x
    if mode == 0:
        _step_nearest(out, y, grid, flush)
    else:
        _step_any(out, y, grid, mode, flush)


@parallel_jit
def add(x, y, out, grid, mode, flush):  # type: ignore[no-untyped-def]
    """As `add_part`, on the threads of `set_threads`."""
    for tile in prange((out.size + _TILE - 1) // _TILE):
        a, z = tile * _TILE, min((tile + 1) * _TILE, out.size)
        add_part(x[a:z], y[a:z], out[a:z], grid, mode, flush)


@parallel_jit
def add_to_odd(x, y, out):  # type: ignore[no-untyped-def]
    """out = x + y rounded to odd, flat float64."""
    for i in prange(out.size):
        out[i] = to_odd_sum(x[i], y[i])
