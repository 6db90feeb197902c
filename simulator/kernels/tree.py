"""Products summed in pairs inside a group, every sum rounded, the group's sum added to c last.

    s = (((l0 + l1) + (l2 + l3)) + ...),  c <- round(c + s)

`matmul` works for any accumulator: a product, and the error of a sum of two accumulator values,
are exact in float64, so every step is rounded once from a sum rounded to odd (as in `chain`); the
exact sum of a leaf of several products is that of `exact`. Cost a product: about 45 operations on
64-bit lanes. `matmul_native` is float32's own arithmetic with leaves of one product: a product of
two float32 is rounded once by the multiplier, as is each sum. Flushing afterwards what is
below 2^-126 equals deciding before or after rounding, because a sum of two float32 is exact there
and so is a product of operands of at most 23 bits together. Cost a product: 1 multiplication, 1
addition and 4 operations to flush on 32-bit lanes.

A running stack holds the sums of subtrees: after leaf n, as many are joined as n + 1 has
factors of 2. Columns are the vector lanes.
"""

import numpy as np

from ...formats.jit import jit, parallel_jit, prange
from ...formats.kernels import power_of_two
from . import grid as grids
from .align import TILE, clear
from .chain import to_odd_sum
from .exact import accumulate, join, sum_in_digits

#: The `spec` array: group, leaf, rounding mode, whether results are flushed, decided before
#: rounding, overflow to infinity, exponent of the lowest bit, digits, then the grid.
GROUP, LEAF, MODE, FLUSH, BEFORE, INFINITE, LOWEST, DIGITS, GRID = range(9)
#: Levels of the largest group.
_LEVELS = 14


@jit
def _flush(s, smallest, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        s[j] = np.copysign(0.0, s[j]) if np.abs(s[j]) < smallest else s[j]


@jit
def _round(s, spec, width):  # type: ignore[no-untyped-def]
    """Sums to odd onto the accumulator's grid, flushed and overflowed as the spec says."""
    grid, smallest = grids.unpack(spec[GRID:]), 0.0
    if spec[FLUSH]:
        smallest = power_of_two(grid.min_exponent)
        grid = grids.without_subnormals(grid)
        if spec[BEFORE]:
            _flush(s, smallest, width)
    grids.round_row(s, grid, spec[MODE], spec[INFINITE] != 0, width)
    if spec[FLUSH] and not spec[BEFORE]:
        _flush(s, smallest, width)


@jit
def _multiply(s, x, row, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        s[j] = x * np.float64(row[j])


@jit
def _add(s, t, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        s[j] = to_odd_sum(s[j], t[j])


@jit
def _leaf(x, y, j0, width, s, e, spec, digits):  # type: ignore[no-untyped-def]
    """s = the products of a leaf, exactly summed, to odd; -0 only if all are."""
    j1 = j0 + width
    _multiply(s, np.float64(x[0]), y[0, j0:j1], width)
    if x.size == 1:
        return
    clear(e, width)
    for k in range(1, x.size):
        accumulate(s, e, np.float64(x[k]), y[k, j0:j1], width)
    if join(s, e, width):
        for j in range(width):
            if np.isnan(e[j]) and np.abs(s[j]) < np.inf:
                s[j] = sum_in_digits(x, y[:, j0 + j], 0.0, spec[LOWEST], digits)


@parallel_jit
def matmul(a, b, out, spec):  # type: ignore[no-untyped-def]
    """out (B, M, N) float64 holds C and gets the result; K is a multiple of the group."""
    batch, rows, columns = out.shape
    for n in prange(batch * rows):
        digits = np.empty(spec[DIGITS], np.int64)
        e = np.empty(TILE)
        stack = np.empty((_LEVELS, TILE))
        x, y = a[n // rows, n % rows], b[n // rows]
        group, leaf = spec[GROUP], spec[LEAF]
        for j0 in range(0, columns, TILE):
            width = min(TILE, columns - j0)
            c = out[n // rows, n % rows, j0 : j0 + width]
            for k0 in range(0, x.size, group):
                top = 0
                for m in range(group // leaf):
                    k1 = k0 + m * leaf
                    s = stack[top]
                    _leaf(
                        x[k1 : k1 + leaf], y[k1 : k1 + leaf], j0, width, s, e, spec, digits
                    )
                    _round(s, spec, width)
                    top += 1
                    done = m + 1
                    while done % 2 == 0:
                        top -= 1
                        _add(stack[top - 1], stack[top], width)
                        _round(stack[top - 1], spec, width)
                        done //= 2
                _add(c, stack[0], width)
                _round(c, spec, width)


@jit
def _native_products(s, x, row, smallest, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        p = x * row[j]
        s[j] = np.copysign(np.float32(0.0), p) if np.abs(p) < smallest else p


@jit
def _native_sum(s, t, smallest, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        p = s[j] + t[j]
        s[j] = np.copysign(np.float32(0.0), p) if np.abs(p) < smallest else p


@jit
def _native_four(c, x0, x1, x2, x3, r0, r1, r2, r3, tiny, width):  # type: ignore[no-untyped-def]
    """A whole group of four in one pass."""
    zero = np.float32(0.0)
    for j in range(width):
        p0, p1, p2, p3 = x0 * r0[j], x1 * r1[j], x2 * r2[j], x3 * r3[j]
        p0 = np.copysign(zero, p0) if np.abs(p0) < tiny else p0
        p1 = np.copysign(zero, p1) if np.abs(p1) < tiny else p1
        p2 = np.copysign(zero, p2) if np.abs(p2) < tiny else p2
        p3 = np.copysign(zero, p3) if np.abs(p3) < tiny else p3
        s, t = p0 + p1, p2 + p3
        s = np.copysign(zero, s) if np.abs(s) < tiny else s
        t = np.copysign(zero, t) if np.abs(t) < tiny else t
        s = s + t
        s = np.copysign(zero, s) if np.abs(s) < tiny else s
        s = c[j] + s
        c[j] = np.copysign(zero, s) if np.abs(s) < tiny else s


@jit
def _native_two(c, x0, x1, r0, r1, tiny, width):  # type: ignore[no-untyped-def]
    """A whole group of two in one pass."""
    zero = np.float32(0.0)
    for j in range(width):
        p0, p1 = x0 * r0[j], x1 * r1[j]
        p0 = np.copysign(zero, p0) if np.abs(p0) < tiny else p0
        p1 = np.copysign(zero, p1) if np.abs(p1) < tiny else p1
        s = p0 + p1
        s = np.copysign(zero, s) if np.abs(s) < tiny else s
        s = c[j] + s
        c[j] = np.copysign(zero, s) if np.abs(s) < tiny else s


@parallel_jit
def matmul_native(a, b, out, group, tiny):  # type: ignore[no-untyped-def]
    """As `matmul`, all in float32; results below `tiny` are flushed (0.0: none)."""
    batch, rows, columns = out.shape
    for n in prange(batch * rows):
        stack = np.empty((_LEVELS, TILE), np.float32)
        x, y = a[n // rows, n % rows], b[n // rows]
        for j0 in range(0, columns, TILE):
            width = min(TILE, columns - j0)
            j1 = j0 + width
            c = out[n // rows, n % rows, j0:j1]
            for k in range(0, x.size, group):
                if group == 4:
                    _native_four(
                        c, x[k], x[k + 1], x[k + 2], x[k + 3], y[k, j0:j1], y[k + 1, j0:j1],
                        y[k + 2, j0:j1], y[k + 3, j0:j1], tiny, width,
                    )  # fmt: skip
                elif group == 2:
                    _native_two(c, x[k], x[k + 1], y[k, j0:j1], y[k + 1, j0:j1], tiny, width)
                else:
                    top = 0
                    for m in range(group):
                        _native_products(stack[top], x[k + m], y[k + m, j0:j1], tiny, width)
                        top += 1
                        done = m + 1
                        while done % 2 == 0:
                            top -= 1
                            _native_sum(stack[top - 1], stack[top], tiny, width)
                            done //= 2
                    _native_sum(c, stack[0], tiny, width)
