"""Chains of float16 fused multiply-adds, nearest-even, on the bits of float16 numbers.

With operands of at most 11 significand bits together, so that products are no wider than float16,
the sum rounded to float32 and then to float16 is the sum rounded once (`chain_plan.innocuous`,
whose subnormal case holds for float16's quantum too: an inexact float32 sum below 2^-14 has an
addend below 2^-26 and cannot reach the middle of two numbers 2^-24 apart). So it does not matter
whether the machine has a float16 fused multiply-add or LLVM writes it out in float32.

Cost a product: one operation on 16 lanes with AVX512-FP16; on 8 lanes an fma and two conversions
with F16C.
"""

from ...formats.jit import fma_half, jit, parallel_jit, prange
from .chain_tiles import COLUMNS, place_of


@jit
def _one(c, x, row):  # type: ignore[no-untyped-def]
    for j in range(c.size):
        c[j] = fma_half(x, row[j], c[j])


@jit
def _four(c, x, rows0, rows1, rows2, rows3):  # type: ignore[no-untyped-def]
    x0, x1, x2, x3 = x[0], x[1], x[2], x[3]
    for j in range(c.size):
        near = fma_half(x1, rows1[j], fma_half(x0, rows0[j], c[j]))
        c[j] = fma_half(x3, rows3[j], fma_half(x2, rows2[j], near))


@jit
def run_tile(n, a, b, out):  # type: ignore[no-untyped-def]
    """Tile n of a product; int16 a (B, M, K), b (B, K, N), out (B, M, N): the start, then D."""
    depth = b.shape[1]
    h, i0, i1, j0, j1 = place_of(n, a.shape[1], b.shape[2], COLUMNS)
    whole = depth // 4 * 4
    for k in range(0, whole, 4):
        for i in range(i0, i1):
            rows = b[h, k, j0:j1], b[h, k + 1, j0:j1], b[h, k + 2, j0:j1], b[h, k + 3, j0:j1]
            _four(out[h, i, j0:j1], a[h, i, k : k + 4], rows[0], rows[1], rows[2], rows[3])
    for k in range(whole, depth):
        for i in range(i0, i1):
            _one(out[h, i, j0:j1], a[h, i, k], b[h, k, j0:j1])


@parallel_jit
def spread_tiles(tiles, a, b, out):  # type: ignore[no-untyped-def]
    """All tiles, on the threads of `set_threads`."""
    for n in prange(tiles):
        run_tile(n, a, b, out)
