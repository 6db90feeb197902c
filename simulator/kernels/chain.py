"""Dot products one product at a time: c <- round(c + a_k b_k), every step in the accumulator.

How a step is rounded exactly once in any format and mode. The product p of two operands of at
most 26 significand bits is exact in float64. s = c + p is not, but its error is (Knuth's TwoSum),
so s can be turned into the sum rounded to odd; rounding that to at most 51 - k bits, whatever
the mode, equals rounding the exact sum (Boldo & Melquiond 2008), and the top k discarded bits
that stochastic rounding looks at are exact too.

Cost a product: 1 multiply, 6 additions for TwoSum, about 15 integer operations to round, and for
stochastic rounding a quarter of a Philox call. Columns are the vector lanes. float32 and float64
accumulators with nearest-even and a fused multiply-add use the native instruction.
"""

import numpy as np

from ...formats.jit import bits_float, float_bits, fma, jit, parallel_jit, prange, scalar_jit
from ...formats.kernels import INFINITY, bound, round_finite, round_random, round_simple
from ...formats.random import philox

_TILE = 256
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


@scalar_jit
def to_odd_sum(x, y):  # type: ignore[no-untyped-def]
    """x + y in float64, rounded to odd; infinities and NaN as in x + y."""
    s = x + y
    back = s - x
    error = (x - (s - back)) + (y - back)
    bits = float_bits(s)
    inexact = (error != 0.0) & ((bits & 1) == 0) & (np.abs(s) < np.inf)
    step = np.int64(1) if (error > 0.0) == (s > 0.0) else np.int64(-1)
    return bits_float(bits + step) if inexact else s


@scalar_jit
def round_step(s, grid, mode, flush, k, r):  # type: ignore[no-untyped-def]
    """A to-odd sum in the accumulator's format; overflow as IEEE; below `flush` a signed zero."""
    if not np.abs(s) < np.inf:
        return s
    value = bound(round_finite(s, grid, mode, k, r), grid, mode, INFINITY)
    return np.copysign(0.0, value) if np.abs(value) < flush else value


@scalar_jit
def _product(x, y, grid, fused):  # type: ignore[no-untyped-def]
    """x * y exactly, or rounded to the accumulator's format if the unit does not fuse."""
    p = x * y
    if fused or not np.abs(p) < np.inf:
        return p
    rounded = round_simple(p, grid, True)
    huge = np.inf if p > 0.0 else -np.inf
    return huge if np.abs(rounded) > grid.largest else rounded


@jit
def _step_nearest(c, x, row, grid, fused, flush, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        s = to_odd_sum(c[j], _product(x, np.float64(row[j]), grid, fused))
        value = round_simple(s, grid, True)
        value = np.copysign(np.inf, s) if np.abs(value) > grid.largest else value
        value = np.copysign(0.0, value) if np.abs(value) < flush else value
        c[j] = value if np.abs(s) < np.inf else s


@jit
def _step_any(c, x, row, grid, mode, fused, flush, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        s = to_odd_sum(c[j], _product(x, np.float64(row[j]), grid, fused))
        c[j] = round_step(s, grid, mode, flush, 0, 0)


@jit
def _step_random(c, x, row, words, grid, fused, k, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        s = to_odd_sum(c[j], _product(x, np.float64(row[j]), grid, fused))
        value = round_random(s, grid, k, np.int64(words[j] >> np.uint32(32 - k)))
        value = np.copysign(np.inf, s) if np.abs(value) > grid.largest else value
        c[j] = value if np.abs(s) < np.inf else s


@jit
def _draw(w0, w1, w2, w3, seed, stream, first, stride, width):  # type: ignore[no-untyped-def]
    """Four words for each column; column j has the Philox block number first + j * stride."""
    for j in range(width):
        block = first + np.uint64(j) * stride
        w0[j], w1[j], w2[j], w3[j] = philox(
            np.uint32(block & _LOW), np.uint32(block >> _32),
            np.uint32(stream & _LOW), np.uint32(stream >> _32),
            np.uint32(seed & _LOW), np.uint32(seed >> _32),
        )  # fmt: skip


@parallel_jit
def matmul(a, b, out, grid, mode, fused, flush):  # type: ignore[no-untyped-def]
    """out (B, M, N) float64 holds the start and gets the result; a (B, M, K), b (B, K, N)."""
    batch, rows, columns = out.shape
    for n in prange(batch * rows):
        left, right = a[n // rows, n % rows], b[n // rows]
        for j0 in range(0, columns, _TILE):
            j1 = min(j0 + _TILE, columns)
            c = out[n // rows, n % rows, j0:j1]
            for k in range(left.size):
                x, row = np.float64(left[k]), right[k, j0:j1]
                if mode == 0:
                    _step_nearest(c, x, row, grid, fused, flush, j1 - j0)
                else:
                    _step_any(c, x, row, grid, mode, fused, flush, j1 - j0)


@parallel_jit
def matmul_stochastic(a, b, out, grid, fused, bits, seed, stream, k_first, k_all):  # type: ignore[no-untyped-def]
    """As `matmul` over the products k_first .. of dot products of k_all in all.

    Step k of output (h, i, j), numbered n = (hM + i)N + j, takes word k mod 4 of the
    Philox block n ceil(k_all / 4) + k div 4; k_first is a multiple of 4.
    """
    batch, rows, columns = out.shape
    stride = np.uint64((k_all + 3) // 4)
    for n in prange(batch * rows):
        left, right = a[n // rows, n % rows], b[n // rows]
        words = np.empty((4, _TILE), np.uint32)
        for j0 in range(0, columns, _TILE):
            j1 = min(j0 + _TILE, columns)
            c = out[n // rows, n % rows, j0:j1]
            output = np.uint64(n * columns + j0)
            for k in range(left.size):
                if k % 4 == 0:
                    first = output * stride + np.uint64((k_first + k) // 4)
                    _draw(
                        words[0], words[1], words[2], words[3],
                        seed, stream, first, stride, j1 - j0,
                    )  # fmt: skip
                x, row = np.float64(left[k]), right[k, j0:j1]
                _step_random(c, x, row, words[k % 4], grid, fused, bits, j1 - j0)


@parallel_jit
def add(x, y, out, grid, mode, flush):  # type: ignore[no-untyped-def]
    """out = round(x + y), flat float64: one addition of an accumulator."""
    for tile in prange((out.size + _TILE - 1) // _TILE):
        a, z = tile * _TILE, min((tile + 1) * _TILE, out.size)
        c = out[a:z]
        c[:] = x[a:z]
        if mode == 0:
            _step_nearest(c, 1.0, y[a:z], grid, True, flush, z - a)
        else:
            _step_any(c, 1.0, y[a:z], grid, mode, True, flush, z - a)


@parallel_jit
def add_to_odd(x, y, out):  # type: ignore[no-untyped-def]
    """out = x + y rounded to odd, flat float64."""
    for i in prange(out.size):
        out[i] = to_odd_sum(x[i], y[i])


@jit
def _step_native(c, x, row, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        c[j] = fma(x, row[j], c[j])


@parallel_jit
def matmul_native(a, b, out):  # type: ignore[no-untyped-def]
    """The chain of IEEE fused multiply-adds in the arrays' own float32 or float64."""
    batch, rows, columns = out.shape
    for n in prange(batch * rows):
        left, right = a[n // rows, n % rows], b[n // rows]
        for j0 in range(0, columns, _TILE):
            j1 = min(j0 + _TILE, columns)
            c = out[n // rows, n % rows, j0:j1]
            for k in range(left.size):
                _step_native(c, left[k], right[k, j0:j1], j1 - j0)
