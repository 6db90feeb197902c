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
def _scale(x, factors, width, divides, y):  # type: ignore[no-untyped-def]
    """y = fl(x m) or fl(x / m), with the next factor m after each `width` elements."""
    for t in range(factors.size):
        m = factors[t]
        for j in range(t * width, min((t + 1) * width, x.size)):
            y[j] = x[j] / m if divides else x[j] * m


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


@jit
def _count_blocks(y, q, grid, factors, width, divides, counts):  # type: ignore[no-untyped-def]
    """`_count` of a row, block by block, with the energies in units before scaling."""
    part = np.zeros(COUNTERS)
    counts[:] = 0.0
    for t in range(factors.size):
        a, z = t * width, min((t + 1) * width, y.size)
        _count(y[a:z], q[a:z], grid, part)
        m = np.float64(factors[t])
        square = 1.0 / (m * m) if divides else m * m
        if 0.0 < square < np.inf:
            part[SIGNAL] /= square
            part[NOISE] /= square
        counts += part


@parallel_jit
def scale_and_round(  # type: ignore[no-untyped-def]
    x, factors, tiles, divides, out, counts, given,
    kind, lane, grid, mode, overflow, k, seed, stream,
):  # fmt: skip
    """out[i, j] = round(float32(x[i, j] m)) of float32 matrices (R, C), or of x[i, j] / m.

    factors: a table of m, one for each tile of (tiles[1], tiles[2]) elements, tiles of rows
    beginning anew after each tiles[0] rows. given: an empty array of the dtype of the random
    integers, Philox's by element index; kind .. k: a `formats.lanes.Plan`. counts (R, COUNTERS)
    float64 is overwritten; SIGNAL and NOISE are sums of squares of the values and of their changes,
    in units before scaling.
    """
    rows, columns = x.shape
    group, height, width = tiles
    down = (group + height - 1) // height
    for i in prange(rows):
        own = factors[(i // group) * down + (i % group) // height]
        y = np.empty(columns, np.float32)
        _scale(x[i], own, width, divides, y)
        r = draw_run(columns, given, i * columns, seed, stream, k)
        round_run(y, out[i], r, kind, lane, grid, mode, overflow, k)
        _count_blocks(y, out[i], grid, own, width, divides, counts[i])


@parallel_jit
def restore(q, totals, tiles, out):  # type: ignore[no-untyped-def]
    """out[i, j] = fl(q[i, j] t) with the entries t of a table laid out as in `scale_and_round`."""
    group, height, width = tiles
    down = (group + height - 1) // height
    for i in prange(q.shape[0]):
        own = totals[(i // group) * down + (i % group) // height]
        _scale(q[i], own, width, False, out[i])


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
