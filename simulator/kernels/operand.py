"""Operands on their way into a matrix unit: scaled, rounded, and counted in one pass.

Reads 4 bytes and writes 4 an element; the counters are kept for each row and added in row order
afterwards, so they do not depend on the number of threads.
"""

import numpy as np

from ...formats.jit import jit, parallel_jit, prange
from ...formats.loops import quantize_run

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
def scale_and_round(x, multiplier, out, counts, grid, mode, overflow, k, seed, stream):  # type: ignore[no-untyped-def]
    """out[i] = round(float32(x[i] * multiplier[i])) for rows i of float32 matrices (R, C).

    Philox bits by element index. counts (R, COUNTERS) float64 is overwritten; SIGNAL and NOISE
    are sums of squares of the values and of their changes, in units before scaling.
    """
    rows, columns = x.shape
    for i in prange(rows):
        y = np.empty(columns, np.float32)
        words = np.empty(columns + 8 if k > 0 else 1, np.uint32)
        _scale(x[i], multiplier[i], y)
        quantize_run(y, out[i], words, grid, mode, overflow, k, seed, stream, i * columns)
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
def count_off_grid(x, grid, overflow, counts):  # type: ignore[no-untyped-def]
    """counts[i] = how many of the i-th `CHECKED` elements of flat x are not values of the grid."""
    for chunk in prange(counts.size):
        part = x[chunk * CHECKED : (chunk + 1) * CHECKED]
        rounded, words = np.empty_like(part), np.empty(1, np.uint32)
        quantize_run(
            part, rounded, words, grid, 0, overflow, 0, np.uint64(0), np.uint64(0), 0
        )  # fmt: skip
        counts[chunk] = _differing(part, rounded)
