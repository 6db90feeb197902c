"""Operands on their way into a matrix unit: scaled and rounded in one pass.

Reads 4 bytes and writes 4 an element.
"""

import numpy as np

from ...formats.jit import jit, parallel_jit, prange
from ...formats.loops import draw_run, round_run

#: Elements in a chunk of the check that operands are on their grid.
CHECKED = 4096


@jit
def _scale(x, m, y):  # type: ignore[no-untyped-def]
    for j in range(x.size):
        y[j] = x[j] * m


@parallel_jit
def scale_and_round(  # type: ignore[no-untyped-def]
    x, multiplier, out, given, kind, lane, grid, mode, overflow, k, seed, stream
):
    """out[i] = round(float32(x[i] * multiplier[i])) for rows i of float32 matrices (R, C).

    given: an empty array of the dtype of the random integers, Philox's by element index;
    kind .. k: a `formats.lanes.Plan`.
    """
    rows, columns = x.shape
    for i in prange(rows):
        y = np.empty(columns, np.float32)
        _scale(x[i], multiplier[i], y)
        r = draw_run(columns, given, i * columns, seed, stream, k)
        round_run(y, out[i], r, kind, lane, grid, mode, overflow, k)


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
