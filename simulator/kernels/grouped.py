"""Fused sums of scaled groups: each group of products summed exactly, aligned by its scales alone.

One block of an addend c and groups g of products, as in `simulator.reference.fused`:

    v_g  = (sum a_k b_k) sa_g sb_g,  E_g = e(sa_g) + e(sb_g)      (no E_g if all products are 0)
    emax = max(min_exponent, E_g, e(c) if c != 0)
    S    = sum_g trunc(v_g 2^(F - emax)) + trunc(c 2^(F - emax))       exact integers
    c'   = round(S 2^(emax - F)),  overflow -> infinity,  zero -> +0

Why it is exact: the caller has checked that a group's sum, times both scales' significands, fits
the 53 bits of float64 (and the sum alone the 24 of float32, if the operands come so), and that
S < 2^53. Whether a product of a group is nonzero is one AND of two masks with a bit an element.

Cost: a multiplication and an addition a product, about 12 operations a group, and the rounding of
`fused.finish` a block. Columns are the vector lanes.
"""

import numpy as np

from ...formats.jit import jit, parallel_jit, prange
from ...formats.kernels import power_of_two, round_finite, round_random
from . import grid as grids
from .align import ROWS, TILE, clear, exponent, normal_power
from .fused import (
    BITS,
    BLOCK,
    C_FLOOR,
    FLOOR,
    FRACTION_BITS,
    GRID,
    MODE,
    SCALE_BLOCK,
    aligned,
    finish,
    overflowed,
    random_word,
    start,
)


@parallel_jit
def row_masks(x, group):  # type: ignore[no-untyped-def]
    """(B, R, K) -> (B, R, K / group): bit n is set if element n of the group is not zero."""
    batch, rows, depth = x.shape
    out = np.zeros((batch, rows, depth // group), np.int32)
    for n in prange(batch * rows):
        source, target = x[n // rows, n % rows], out[n // rows, n % rows]
        for g in range(depth // group):
            mask = np.int32(0)
            for k in range(group):
                mask |= np.int32(source[g * group + k] != 0.0) << np.int32(k)
            target[g] = mask
    return out


@jit
def _set_bits(masks, row, bit):  # type: ignore[no-untyped-def]
    for j in range(row.size):
        masks[j] |= bit if row[j] != 0.0 else np.int32(0)


@parallel_jit
def column_masks(x, group):  # type: ignore[no-untyped-def]
    """(B, K, C) -> (B, K / group, C), as `row_masks`."""
    batch, depth, columns = x.shape
    parts = depth // group
    out = np.zeros((batch, parts, columns), np.int32)
    for n in prange(batch * parts):
        h, g = n // parts, n % parts
        for k in range(group):
            _set_bits(out[h, g], x[h, g * group + k], np.int32(1) << np.int32(k))
    return out


@jit
def _add_products(total, x0, x1, x2, x3, r0, r1, r2, r3, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        total[j] += (x0 * r0[j] + x1 * r1[j]) + (x2 * r2[j] + x3 * r3[j])


@jit
def _raise_group(emax, mask, masks, e, row, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        own = np.int16(e + row[j])
        top = own if own > emax[j] else emax[j]
        emax[j] = top if (mask & masks[j]) != 0 else emax[j]


@jit
def _scale_sums(total, emax, fraction_bits, unit, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        unit[j] = normal_power(min(fraction_bits - np.int64(emax[j]), np.int64(1023)))
        total[j] = 0.0


@jit
def _add_group(total, part, unit, scale, row, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        total[j] += np.trunc(np.float64(part[j]) * (scale * row[j]) * unit[j])


@parallel_jit
def matmul(a, b, masks_a, masks_b, sa, sb, ea, eb, out, group, spec, key):  # type: ignore[no-untyped-def]
    """out (B, M, N) float64 holds C and gets the result; a (B, M, K), b (B, K, N), finite.

    masks_a, masks_b from `row_masks` and `column_masks`; sa (B, M, S), sb (B, S, N) float64
    scales and ea, eb their exponents; K is a multiple of the block.
    """
    batch, rows, columns = out.shape
    groups = (rows + ROWS - 1) // ROWS
    for n in prange(batch * groups):
        h, i0 = n // groups, n % groups * ROWS
        block, scale_block = spec[BLOCK], spec[SCALE_BLOCK]
        emax, unit, total = np.empty(TILE, np.int16), np.empty(TILE), np.empty(TILE)
        parts = np.empty((block // group, TILE), a.dtype)
        for j0 in range(0, columns, TILE):
            width = min(TILE, columns - j0)
            j1 = j0 + width
            for k0 in range(0, a.shape[2], block):
                for i in range(i0, min(i0 + ROWS, rows)):
                    c, x, y = out[h, i, j0:j1], a[h, i], b[h]
                    start(c, emax, spec[FLOOR], spec[C_FLOOR], width)
                    for g in range(block // group):
                        k1, part = k0 + g * group, parts[g]
                        clear(part, width)
                        for k in range(k1, k1 + group, 4):
                            _add_products(
                                part, x[k], x[k + 1], x[k + 2], x[k + 3], y[k, j0:j1],
                                y[k + 1, j0:j1], y[k + 2, j0:j1], y[k + 3, j0:j1], width,
                            )  # fmt: skip
                        s, m = k1 // scale_block, k1 // group
                        _raise_group(
                            emax, masks_a[h, i, m], masks_b[h, m, j0:j1], ea[h, i, s],
                            eb[h, s, j0:j1], width,
                        )  # fmt: skip
                    _scale_sums(total, emax, spec[FRACTION_BITS], unit, width)
                    for g in range(block // group):
                        s = (k0 + g * group) // scale_block
                        _add_group(total, parts[g], unit, sa[h, i, s], sb[h, s, j0:j1], width)
                    output = (h * rows + i) * columns + j0
                    finish(c, total, emax, spec, key, output, k0, width)


@parallel_jit
def matmul_special(a, b, sa, sb, ea, eb, out, hit, group, spec, key):  # type: ignore[no-untyped-def]
    """Outputs where `hit`, whose operands, scales or C hold an infinity or NaN."""
    batch, rows, columns = out.shape
    for n in prange(batch * rows):
        h, i = n // rows, n % rows
        for j in range(columns):
            if hit[h, i, j]:
                for k in range(0, a.shape[2], spec[BLOCK]):
                    out[h, i, j] = _block(
                        a[h, i], b[h, :, j], sa[h, i], sb[h, :, j], ea[h, i], eb[h, :, j], k,
                        out[h, i, j], group, spec, key, n * columns + j,
                    )  # fmt: skip


@jit
def _block(a, b, sa, sb, ea, eb, k0, c, group, spec, key, output):  # type: ignore[no-untyped-def]
    """One block with any operands: NaN, Inf * 0 and Inf - Inf give NaN, else Inf wins."""
    infinite, bad = (c if np.isinf(c) else 0.0), np.isnan(c)
    emax = np.int64(max(exponent(c, spec[C_FLOOR]), spec[FLOOR]))
    for k in range(k0, k0 + spec[BLOCK]):
        s = k // spec[SCALE_BLOCK]
        p = np.float64(a[k]) * np.float64(b[k]) * (sa[s] * sb[s])
        if np.isnan(p):
            bad = True
        elif np.isinf(p):
            bad = bad or (infinite != 0.0 and infinite != p)
            infinite = p
        elif p != 0.0:
            emax = max(emax, np.int64(ea[s]) + np.int64(eb[s]))
    if bad:
        return np.nan
    if infinite != 0.0:
        return infinite
    total, unit = 0.0, power_of_two(min(spec[FRACTION_BITS] - emax, np.int64(1023)))
    for k1 in range(k0, k0 + spec[BLOCK], group):
        part, s = 0.0, k1 // spec[SCALE_BLOCK]
        for k in range(k1, k1 + group):
            part += np.float64(a[k]) * np.float64(b[k])
        total += np.trunc(part * (sa[s] * sb[s]) * unit)
    grid, value = grids.unpack(spec[GRID:]), aligned(total, c, emax, spec[FRACTION_BITS])
    if spec[BITS] > 0:
        r = np.int64(random_word(key, np.uint64(output), k0) >> np.uint32(32 - spec[BITS]))
        value = round_random(value, grid, spec[BITS], r)
    else:
        value = round_finite(value, grid, spec[MODE], 0, 0)
    return overflowed(value, grid)
