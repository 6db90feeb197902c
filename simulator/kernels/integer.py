"""Integer sums that saturate on the way: after each block, and in partial sums of a few products.

All values are integers below 2^53, exact in float64. Cost a product: a multiplication and an
addition on 64-bit lanes, and two comparisons a partial sum and a block. Columns are the lanes.
"""

import numpy as np

from ...formats.jit import jit, parallel_jit, prange
from .align import TILE


@jit
def _multiply_add(total, x, row, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        total[j] += x * np.float64(row[j])


@jit
def _clamp_into(total, part, low, high, width):  # type: ignore[no-untyped-def]
    """total += part, clamped; part is cleared."""
    for j in range(width):
        total[j] += min(max(part[j], low), high)
        part[j] = 0.0


@jit
def _clamp(total, low, high, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        total[j] = min(max(total[j], low), high)


@parallel_jit
def matmul(a, b, out, block, group, low, high, part_low, part_high):  # type: ignore[no-untyped-def]
    """out (B, M, N) float64 holds C and gets the result.

    Sums of `group` products are clamped to part_low .. part_high and added, and the total is
    clamped to low .. high after each `block` products.
    """
    batch, rows, columns = out.shape
    for n in prange(batch * rows):
        x, y, part = a[n // rows, n % rows], b[n // rows], np.zeros(TILE)
        for j0 in range(0, columns, TILE):
            width = min(TILE, columns - j0)
            total = out[n // rows, n % rows, j0 : j0 + width]
            for k0 in range(0, x.size, block):
                end = min(k0 + block, x.size)
                for k1 in range(k0, end, group):
                    for k in range(k1, min(k1 + group, end)):
                        _multiply_add(part, np.float64(x[k]), y[k, j0 : j0 + width], width)
                    _clamp_into(total, part, part_low, part_high, width)
                _clamp(total, low, high, width)
