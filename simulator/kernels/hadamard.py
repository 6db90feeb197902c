"""Hadamard rotations of neighbours along a row, in float32.

Reads and writes 4 bytes an element; log2(size) additions and one multiplication an element.
"""

import numpy as np

from ...formats.jit import jit, parallel_jit, prange


@jit
def _butterflies(y, size):  # type: ignore[no-untyped-def]
    """y <- y H for each `size` elements: (a, b) becomes (a + b, a - b) at distances 1, 2, 4, ..."""
    half = 1
    while half < size:
        for first in range(0, y.size, 2 * half):
            for j in range(first, first + half):
                a, b = y[j], y[j + half]
                y[j], y[j + half] = a + b, a - b
        half *= 2


@parallel_jit
def rotate_rows(x, signs, factor, out):  # type: ignore[no-untyped-def]
    """out = fl((x diag(signs) H) factor) for rows of float32; columns a multiple of signs.size."""
    size = signs.size
    for i in prange(x.shape[0]):
        y = np.empty(x.shape[1], np.float32)
        for first in range(0, y.size, size):
            for j in range(size):
                y[first + j] = x[i, first + j] * signs[j]
        _butterflies(y, size)
        for j in range(y.size):
            out[i, j] = y[j] * factor
