"""Sums in a vector unit's order, float32, nearest-even at every addition."""

import numpy as np

from ...formats.jit import jit, parallel_jit, prange


@jit
def _fold(x, size, half):  # type: ignore[no-untyped-def]
    for i in range(size - half):
        x[i] += x[half + i]


@jit
def _tree(x):  # type: ignore[no-untyped-def]
    """x[i] + x[i + p] for p the largest power of two below the length, until one is left."""
    size = x.size
    while size > 1:
        half = 1
        while 2 * half < size:
            half *= 2
        _fold(x, size, half)
        size = half
    return x[0]


@parallel_jit
def sum_rows(x, out, tree):  # type: ignore[no-untyped-def]
    """out[i] = sum of row i of float32 x (R, C), C > 0, tree or ascending order; x is used up."""
    for i in prange(x.shape[0]):
        if tree:
            out[i] = _tree(x[i])
        else:
            total = x[i, 0]
            for j in range(1, x.shape[1]):
                total = np.float32(total + x[i, j])
            out[i] = total
