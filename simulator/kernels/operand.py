"""Operands on their way into a matrix unit: scaled and rounded in one pass.

Reads 4 bytes and writes 4 an element.
"""

import numpy as np

from ...formats.jit import jit, parallel_jit, prange
from ...formats.loops import draw_run, round_run

#: Elements in a chunk of the check that operands are on their grid.
CHECKED = 4096


@jit
def _scale(x, factors, width, divides, y):  # type: ignore[no-untyped-def]
    """y = fl(x m) or fl(x / m), with the next factor m after each `width` elements."""
    for t in range(factors.size):
        m = factors[t]
        for j in range(t * width, min((t + 1) * width, x.size)):
            y[j] = x[j] / m if divides else x[j] * m


@parallel_jit
def scale_and_round(  # type: ignore[no-untyped-def]
    x, factors, tiles, divides, out, given, kind, lane, grid, mode, overflow, k, seed, stream
):
    """out[i, j] = round(float32(x[i, j] m)) of float32 matrices (R, C), or of x[i, j] / m.

    factors: a table of m, one for each tile of (tiles[1], tiles[2]) elements, tiles of rows
    beginning anew after each tiles[0] rows. given: an empty array of the dtype of the random
    integers, Philox's by element index; kind .. k: a `formats.lanes.Plan`.
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
