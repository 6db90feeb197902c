"""Operands on their way into a matrix unit: scaled, rounded, and counted in one pass.

Reads 4 bytes and writes 4 an element; the counters are kept for each row and added in row order
afterwards, so they do not depend on the number of threads.
"""

import numpy as np

from ...formats.jit import jit, parallel_jit, prange
from ...formats.loops import draw_run, round_run

#: Columns of the counters.
UNDERFLOW, SATURATED, OVERFLOWED, NAN, SIGNAL, NOISE = range(6)
COUNTERS = 6
#: Elements in a chunk of the check that operands are on their grid.
CHECKED = 4096


@jit
def _scale(x, m, y):  # type: ignore[no-untyped-def]
    for j in range(x.size):
        y[j] = x[j] * m


@jit
def _count(y, q, grid, counts):  # type: ignore[no-untyped-def]
    """y: the scaled values; q: what they became."""
    zeros, full, infinite, missing = 0, 0, 0, 0
    signal, noise = 0.0, 0.0
    for j in range(y.size):
        a, b = np.float64(y[j]), np.float64(q[j])
        zeros += (a != 0.0) & (b == 0.0)
        infinite += np.isinf(b)
        missing += np.isnan(b)
        full += ((a > grid.largest) | (a < grid.lowest)) & (np.abs(b) < np.inf)
        finite = np.abs(b) < np.inf and np.abs(a) < np.inf
        signal += a * a if finite else 0.0
        noise += (b - a) * (b - a) if finite else 0.0
    counts[UNDERFLOW], counts[SATURATED] = zeros, full
    counts[OVERFLOWED], counts[NAN] = infinite, missing
    counts[SIGNAL], counts[NOISE] = signal, noise


@parallel_jit
def scale_and_round(  # type: ignore[no-untyped-def]
    x, multiplier, out, counts, given, kind, lane, grid, mode, overflow, k, seed, stream
):
    """out[i] = round(float32(x[i] * multiplier[i])) for rows i of float32 matrices (R, C).

    given: an empty array of the dtype of the random integers, Philox's by element index;
    kind .. k: a `formats.lanes.Plan`. counts (R, COUNTERS) float64 is overwritten; SIGNAL and NOISE
    are sums of squares of the values and of their changes, in units before scaling.
    """
    rows, columns = x.shape
    for i in prange(rows):
        y = np.empty(columns, np.float32)
        _scale(x[i], multiplier[i], y)
        r = draw_run(columns, given, i * columns, seed, stream, k)
        round_run(y, out[i], r, kind, lane, grid, mode, overflow, k)
        _count(y, out[i], grid, counts[i])
        square = np.float64(multiplier[i]) * np.float64(multiplier[i])
        if square > 0.0:
            counts[i, SIGNAL] /= square
            counts[i, NOISE] /= square


@jit
def _differing(x, q):  # type: ignore[no-untyped-def]
    count = 0
    for j in range(x.size):
        count += not ((x[j] == q[j]) | np.isnan(x[j]))
    return count


@parallel_jit
def count_off_grid(x, counts, none, kind, lane, grid, mode, overflow, k):  # type: ignore[no-untyped-def]
    """counts[i] = how many of the i-th `CHECKED` elements of flat x are not values of the grid.

    none: an empty array; kind .. k: a `formats.lanes.Plan` of nearest-even.
    """
    for chunk in prange(counts.size):
        part = x[chunk * CHECKED : (chunk + 1) * CHECKED]
        rounded = np.empty_like(part)
        round_run(part, rounded, none, kind, lane, grid, mode, overflow, k)
        counts[chunk] = _differing(part, rounded)
