"""Products summed in pairs inside a group, every sum rounded, the group's sum added to c last.

    s = (((l0 + l1) + (l2 + l3)) + ...),  c <- round(c + s)

`matmul` works for any accumulator: a product, and the error of a sum of two accumulator values,
are exact in float64, so every step is rounded once from a sum rounded to odd (as in `chain`); the
exact sum of a leaf of several products is that of `exact`. Cost a product: about 45 operations on
64-bit lanes. `matmul_native` is float32's own arithmetic: a product of two float32 is rounded
once by the multiplier, as is each sum, which its error (TwoSum) turns into the sum rounded to odd.
Flushing afterwards what is below 2^-126 equals deciding before or after rounding, because a sum
of two float32 is exact there and so is a product of operands of at most 23 bits together. Where
the operands show that all products are exact in float32, a leaf of two is the sum of two products.
Cost a product: 1 multiplication, 1 addition and 4 operations to flush on 32-bit lanes, and about
15 more to round to odd.

A running stack holds the sums of subtrees: after leaf n, as many are joined as n + 1 has
factors of 2. Columns are the vector lanes.
"""

import numpy as np

from ...formats.jit import bits_float, float_bits, jit, parallel_jit, prange, scalar_jit
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
_ZERO = np.float32(0.0)
_LARGEST = np.float32(2.0**128 - 2.0**104)
_LAST_BIT = np.float32(2.0**104)


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
                    _leaf(x[k1 : k1 + leaf], y[k1 : k1 + leaf], j0, width, s, e, spec, digits)
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


@scalar_jit
def _flushed(x, tiny):  # type: ignore[no-untyped-def]
    return np.copysign(np.float32(0.0), x) if np.abs(x) < tiny else x


@scalar_jit
def _plus(x, y, odd, tiny):  # type: ignore[no-untyped-def]
    """x + y in float32, nearest-even, or to odd and infinite from 2^128 on; flushed below tiny."""
    s = x + y
    back = s - x
    error = (x - (s - back)) + (y - back)
    bits = float_bits(s)
    away = np.int32(1) if (error > _ZERO) == (s > _ZERO) else np.int32(-1)
    inexact = odd & (error != _ZERO) & ((bits & np.int32(1)) == 0) & (np.abs(s) <= _LARGEST)
    s = bits_float(np.int32(bits + away)) if inexact else s
    # Nearest-even overflows half an ulp below 2^128, where rounding to odd stays finite. Only
    # terms of one sign overflow, the larger is at least 2^127, and what it lacks is exact.
    large, small = max(np.abs(x), np.abs(y)), min(np.abs(x), np.abs(y))
    stays = (
        odd
        & (np.abs(s) > _LARGEST)
        & (large <= _LARGEST)
        & (small < (_LARGEST - large) + _LAST_BIT)
    )
    s = np.copysign(_LARGEST, x) if stays else s
    return _flushed(s, tiny)


@jit
def _native_products(s, x, row, tiny, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        s[j] = _flushed(x * row[j], tiny)


@jit
def _native_sum(s, t, odd, tiny, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        s[j] = _plus(s[j], t[j], odd, tiny)


@jit
def _native_four(c, x0, x1, x2, x3, r0, r1, r2, r3, odd, tiny, tiny_product, width):  # type: ignore[no-untyped-def]
    """A whole group of four in one pass."""
    for j in range(width):
        p0, p1 = _flushed(x0 * r0[j], tiny_product), _flushed(x1 * r1[j], tiny_product)
        p2, p3 = _flushed(x2 * r2[j], tiny_product), _flushed(x3 * r3[j], tiny_product)
        s = _plus(_plus(p0, p1, odd, tiny), _plus(p2, p3, odd, tiny), odd, tiny)
        c[j] = _plus(c[j], s, odd, tiny)


@jit
def _native_two(c, x0, x1, r0, r1, odd, tiny, tiny_product, width):  # type: ignore[no-untyped-def]
    """A whole group of two in one pass."""
    for j in range(width):
        p0, p1 = _flushed(x0 * r0[j], tiny_product), _flushed(x1 * r1[j], tiny_product)
        c[j] = _plus(c[j], _plus(p0, p1, odd, tiny), odd, tiny)


@parallel_jit
def matmul_native(a, b, out, group, odd, tiny, tiny_product):  # type: ignore[no-untyped-def]
    """As `matmul`, all in float32; sums below `tiny`, products below `tiny_product` are flushed."""
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
                        y[k + 2, j0:j1], y[k + 3, j0:j1], odd, tiny, tiny_product, width,
                    )  # fmt: skip
                elif group == 2:
                    _native_two(
                        c, x[k], x[k + 1], y[k, j0:j1], y[k + 1, j0:j1], odd, tiny, tiny_product,
                        width,
                    )  # fmt: skip
                else:
                    top = 0
                    for m in range(group):
                        row = y[k + m, j0:j1]
                        _native_products(stack[top], x[k + m], row, tiny_product, width)
                        top += 1
                        done = m + 1
                        while done % 2 == 0:
                            top -= 1
                            _native_sum(stack[top - 1], stack[top], odd, tiny, width)
                            done //= 2
                    _native_sum(c, stack[0], odd, tiny, width)
