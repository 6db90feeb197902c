"""Multi-term fused dot products: align to the largest exponent, truncate, sum exactly, round once.

One block of L products and an addend c, as in `simulator.reference.fused.fused_block`:

    emax = max(min_exponent, e(a_i) + e(b_i) over nonzero products, e(c) if c != 0)
    S    = sum_i trunc(a_i b_i 2^(F - emax)) + trunc(c 2^(F - emax))       exact integers
    c'   = round(S 2^(emax - F)),  overflow -> infinity,  zero -> +0

Why it is exact: `align` for the products; S is an integer below 2^(F + 2) (L + 1) < 2^53, so it
and its scaling are exact in float64. Scales that are powers of two and constant over a block
shift all its exponents alike: the products are aligned without them, and c by emax less them.

Cost: that of `align` a product, and about 45 operations on 64-bit lanes a block for the addend
and the rounding.
"""

import numpy as np

from ...formats.jit import jit, parallel_jit, prange, scalar_jit
from ...formats.kernels import power_of_two, round_finite, round_random
from ...formats.random import philox
from . import grid as grids
from .align import ROWS, TILE, exponent, make_scratch, normal_power, sum_block

#: The `spec` array: block, F, min_exponent, smallest exponent of c, rounding mode, its random
#: bits, elements a scale (0 without), then the accumulator's grid.
BLOCK, FRACTION_BITS, FLOOR, C_FLOOR, MODE, BITS, SCALE_BLOCK, GRID = range(8)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


@jit
def start(c, emax, floor, c_floor, width):  # type: ignore[no-untyped-def]
    """emax = max(e(c), floor)."""
    for j in range(width):
        emax[j] = max(exponent(c[j], c_floor), floor)


@jit
def shift(emax, places, row, sign, width):  # type: ignore[no-untyped-def]
    """emax += sign (places + row): the exponents of a block's scales, in or out."""
    for j in range(width):
        emax[j] = np.int16(emax[j] + sign * np.int16(places + row[j]))


@scalar_jit
def aligned(total, c, emax, fraction_bits):  # type: ignore[no-untyped-def]
    """The exact sum of the aligned products and the aligned c, back on its scale."""
    total += np.trunc(c * normal_power(fraction_bits - emax))
    return total * normal_power(emax - fraction_bits)


@scalar_jit
def overflowed(value, grid):  # type: ignore[no-untyped-def]
    """Infinity beyond the grid, and +0 for any zero."""
    value = np.copysign(np.inf, value) if np.abs(value) > grid.largest else value
    return 0.0 if value == 0.0 else value


@scalar_jit
def random_word(key, output, k):  # type: ignore[no-untyped-def]
    """Word k of an output: key = (seed, stream, words before the first k, words an output).

    All but the output and the seed are multiples of 4, so it is the first of its Philox block.
    """
    block = (output * key[3] + key[2] + np.uint64(k)) >> np.uint64(2)
    word, _, _, _ = philox(
        np.uint32(block & _LOW), np.uint32(block >> _32),
        np.uint32(key[1] & _LOW), np.uint32(key[1] >> _32),
        np.uint32(key[0] & _LOW), np.uint32(key[0] >> _32),
    )  # fmt: skip
    return word


@jit
def _round_random(value, grid, bits, key, output, k, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        r = np.int64(random_word(key, output + np.uint64(j), k) >> np.uint32(32 - bits))
        value[j] = round_random(value[j], grid, bits, r)


@jit
def _align_all(c, value, emax, fraction_bits, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        value[j] = aligned(value[j], c[j], np.int64(emax[j]), fraction_bits)


@jit
def _store(c, value, grid, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        c[j] = c[j] if np.isinf(c[j]) else overflowed(value[j], grid)


@jit
def finish(c, total, emax, spec, key, output, k, width):  # type: ignore[no-untyped-def]
    """c takes the rounded sum; an infinity that an earlier block overflowed to stays.

    Loops apart: LLVM vectorises each of them, but not their fusion. output: the number of the
    first of these outputs; k: the first product of the block.
    """
    grid = grids.unpack(spec[GRID:])
    _align_all(c, total, emax, spec[FRACTION_BITS], width)
    if spec[BITS] > 0:
        _round_random(total, grid, spec[BITS], key, np.uint64(output), k, width)
    else:
        grids.round_row(total, grid, spec[MODE], True, width)
    _store(c, total, grid, width)


@parallel_jit
def matmul(a, b, ea, eb, out, sa, sb, spec, chunk, key):  # type: ignore[no-untyped-def]
    """out (B, M, N) float64 holds C and gets the result; a (B, M, K), b (B, K, N), finite.

    ea, eb: exponents of a and b from `survey`; K is a multiple of the block. sa (B, M, S), sb
    (B, S, N): exponents of the scales, S = 0 without. chunk: see `align.sum_block`. Outputs whose
    operands are not finite get something of no use.
    """
    batch, rows, columns = out.shape
    groups = (rows + ROWS - 1) // ROWS
    for n in prange(batch * groups):
        h, i0 = n // groups, n % groups * ROWS
        y, ey = b[h], eb[h]
        emax, scratch = np.empty(TILE, np.int16), make_scratch()
        block, scale_block = spec[BLOCK], spec[SCALE_BLOCK]
        for j0 in range(0, columns, TILE):
            width = min(TILE, columns - j0)
            for k0 in range(0, a.shape[2], block):
                for i in range(i0, min(i0 + ROWS, rows)):
                    c = out[h, i, j0 : j0 + width]
                    start(c, emax, spec[FLOOR], spec[C_FLOOR], width)
                    if scale_block > 0:
                        s = k0 // scale_block
                        row = sb[h, s, j0 : j0 + width]
                        shift(emax, sa[h, i, s], row, np.int16(-1), width)
                    sum_block(
                        a[h, i], ea[h, i], y, ey, k0, block, j0, width, emax, scratch,
                        spec[FRACTION_BITS], chunk,
                    )  # fmt: skip
                    if scale_block > 0:
                        s = k0 // scale_block
                        row = sb[h, s, j0 : j0 + width]
                        shift(emax, sa[h, i, s], row, np.int16(1), width)
                    output = (h * rows + i) * columns + j0
                    finish(c, scratch[3], emax, spec, key, output, k0, width)


@parallel_jit
def matmul_special(a, b, ea, eb, out, hit, spec, key):  # type: ignore[no-untyped-def]
    """Outputs where `hit`, whose operands or C hold an infinity or NaN, one block at a time."""
    batch, rows, columns = out.shape
    for n in prange(batch * rows):
        h, i = n // rows, n % rows
        for j in range(columns):
            if hit[h, i, j]:
                for k in range(0, a.shape[2], spec[BLOCK]):
                    out[h, i, j] = _block(
                        a[h, i], b[h, :, j], ea[h, i], eb[h, :, j], k, out[h, i, j], spec, key,
                        n * columns + j,
                    )  # fmt: skip


@jit
def _block(a, b, ea, eb, k0, c, spec, key, output):  # type: ignore[no-untyped-def]
    """One block with any operands: NaN, Inf * 0 and Inf - Inf give NaN, else Inf wins."""
    infinite, bad = (c if np.isinf(c) else 0.0), np.isnan(c)
    emax = np.int64(max(exponent(c, spec[C_FLOOR]), spec[FLOOR]))
    for k in range(k0, k0 + spec[BLOCK]):
        p = np.float64(a[k]) * np.float64(b[k])
        if np.isnan(p):
            bad = True
        elif np.isinf(p):
            bad = bad or (infinite != 0.0 and infinite != p)
            infinite = p
        else:
            emax = max(emax, np.int64(ea[k]) + np.int64(eb[k]))
    if bad:
        return np.nan
    if infinite != 0.0:
        return infinite
    total, unit = 0.0, power_of_two(min(spec[FRACTION_BITS] - emax, 1023))
    for k in range(k0, k0 + spec[BLOCK]):
        total += np.trunc(np.float64(a[k]) * np.float64(b[k]) * unit)
    grid, value = grids.unpack(spec[GRID:]), aligned(total, c, emax, spec[FRACTION_BITS])
    if spec[BITS] > 0:
        r = np.int64(random_word(key, np.uint64(output), k0) >> np.uint32(32 - spec[BITS]))
        value = round_random(value, grid, spec[BITS], r)
    else:
        value = round_finite(value, grid, spec[MODE], 0, 0)
    return overflowed(value, grid)
