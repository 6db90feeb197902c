"""Products fused and truncated first, their sum and the addend aligned anew and floored.

One block, as in `simulator.reference.fused.two_stage_block`; with one lane the odd sum is empty:

    D  = floor(D_even 2^(e_even - ed)) + floor(D_odd 2^(e_odd - ed))     units of 2^(ed - F)
    em = max(ed, e(c));  s = floor(D, 2^(em - G)) + floor(c, 2^(em - F))
    c' = round(floor(s, 2^(e(s) - sum_bits)))

Why it is exact: `align` for the sums of products; every floor is of an integer times a power of
two, and s is an integer number of 2^(em - max(F, G)) below 2^53, which the row has checked.

Cost: that of `align` a product, and about 70 operations on 64-bit lanes a block.
"""

import numpy as np

from ...formats.jit import float_bits, jit, parallel_jit, prange, scalar_jit
from ...formats.kernels import INFINITY, bound, power_of_two, round_finite
from . import grid as grids
from .align import ROWS, TILE, ZERO_EXPONENT, clear, exponent, make_scratch, normal_power, sum_block

#: The `spec` array: block, lanes, F, guard bits, bits of the sum (or -1), c's reach (or -1),
#: smallest exponent of c, rounding mode, then the accumulator's grid.
BLOCK, LANES, FRACTION_BITS, GUARD, SUM_BITS, DROP, C_FLOOR, MODE, GRID = range(9)
_NONE = np.int16(2 * ZERO_EXPONENT)


@jit
def _fill(emax, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        emax[j] = _NONE


@scalar_jit
def _two(t):  # type: ignore[no-untyped-def]
    """2^t, for t beyond float64's normal range its end: such terms are zeros."""
    return normal_power(min(max(t, np.int64(-1022)), np.int64(1023)))


@scalar_jit
def _joined(even, e_even, odd, e_odd, c, fraction_bits, guard, drop, c_floor):  # type: ignore[no-untyped-def]
    """The sum of both lanes and c after every floor but the last."""
    ed = max(e_even, e_odd)
    total = np.floor(even * _two(e_even - ed)) + np.floor(odd * _two(e_odd - ed))
    e_c = exponent(c, c_floor)
    e_c = c_floor if c == 0.0 else e_c
    em = max(ed, e_c)
    width = max(guard, fraction_bits)
    total = np.floor(total * _two(ed - fraction_bits - em + guard)) * _two(width - guard)
    addend = np.floor(c * _two(fraction_bits - em)) * _two(width - fraction_bits)
    addend = 0.0 if (drop >= 0) & (e_c < em - drop) else addend
    total = (total + addend) * _two(em - width)
    return 0.0 if total == 0.0 else total


@jit
def _join(c, even, e_even, odd, e_odd, spec, width):  # type: ignore[no-untyped-def]
    fraction_bits, guard, drop, c_floor = (
        spec[FRACTION_BITS],
        spec[GUARD],
        spec[DROP],
        spec[C_FLOOR],
    )
    for j in range(width):
        even[j] = _joined(
            even[j], np.int64(e_even[j]), odd[j], np.int64(e_odd[j]), c[j],
            fraction_bits, guard, drop, c_floor,
        )  # fmt: skip


@jit
def _floor_sum(value, bits, smallest, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        e = max(((float_bits(value[j]) >> 52) & 2047) - 1023, smallest)
        value[j] = np.floor(value[j] * normal_power(bits - e)) * normal_power(e - bits)


@jit
def _store(c, value, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        c[j] = c[j] if np.isinf(c[j]) else value[j]


@jit
def _finish(c, even, e_even, odd, e_odd, spec, width):  # type: ignore[no-untyped-def]
    grid = grids.unpack(spec[GRID:])
    _join(c, even, e_even, odd, e_odd, spec, width)
    if spec[SUM_BITS] >= 0:
        _floor_sum(even, spec[SUM_BITS], grid.min_exponent, width)
    grids.round_row(even, grid, spec[MODE], False, width)
    _store(c, even, width)


@parallel_jit
def matmul(a, b, ea, eb, out, spec, chunk):  # type: ignore[no-untyped-def]
    """out (B, M, N) float64 holds C and gets the result; a (B, M, K), b (B, K, N), finite.

    K is a multiple of the block, in each of which the products of lane 0 come before those of
    lane 1. Outputs whose operands are not finite get something of no use.
    """
    batch, rows, columns = out.shape
    groups = (rows + ROWS - 1) // ROWS
    for n in prange(batch * groups):
        h, i0 = n // groups, n % groups * ROWS
        e_even, e_odd = np.empty(TILE, np.int16), np.empty(TILE, np.int16)
        even, odd = make_scratch(), make_scratch()
        block, size = spec[BLOCK], spec[BLOCK] // spec[LANES]
        clear(odd[3], TILE)
        _fill(e_odd, TILE)
        for j0 in range(0, columns, TILE):
            width = min(TILE, columns - j0)
            for k0 in range(0, a.shape[2], block):
                for i in range(i0, min(i0 + ROWS, rows)):
                    c = out[h, i, j0 : j0 + width]
                    _fill(e_even, width)
                    sum_block(
                        a[h, i], ea[h, i], b[h], eb[h], k0, size, j0, width, e_even, even,
                        spec[FRACTION_BITS], chunk,
                    )  # fmt: skip
                    if spec[LANES] == 2:
                        _fill(e_odd, width)
                        sum_block(
                            a[h, i], ea[h, i], b[h], eb[h], k0 + size, size, j0, width, e_odd, odd,
                            spec[FRACTION_BITS], chunk,
                        )  # fmt: skip
                    _finish(c, even[3], e_even, odd[3], e_odd, spec, width)


@parallel_jit
def matmul_special(a, b, ea, eb, out, hit, spec):  # type: ignore[no-untyped-def]
    """Outputs where `hit`: an infinity, a NaN or a product beyond the accumulator is possible."""
    batch, rows, columns = out.shape
    for n in prange(batch * rows):
        h, i = n // rows, n % rows
        for j in range(columns):
            if hit[h, i, j]:
                for k in range(0, a.shape[2], spec[BLOCK]):
                    out[h, i, j] = _block(
                        a[h, i], b[h, :, j], ea[h, i], eb[h, :, j], k, out[h, i, j], spec
                    )


@jit
def _block(a, b, ea, eb, k0, c, spec):  # type: ignore[no-untyped-def]
    """One block with any operands: NaN, Inf * 0 and Inf - Inf give NaN, else Inf wins."""
    grid = grids.unpack(spec[GRID:])
    infinite, bad = (c if np.isinf(c) else 0.0), np.isnan(c)
    size, tops, sums = spec[BLOCK] // spec[LANES], np.full(2, np.int64(_NONE)), np.zeros(2)
    for k in range(k0, k0 + spec[BLOCK]):
        p = np.float64(a[k]) * np.float64(b[k])
        if np.isnan(p):
            bad = True
        elif np.abs(p) >= 2.0 * power_of_two(exponent(grid.largest, grid.min_exponent)):
            p = np.copysign(np.inf, p)
            bad = bad or (infinite != 0.0 and infinite != p)
            infinite = p
        else:
            lane = (k - k0) // size
            tops[lane] = max(tops[lane], np.int64(ea[k]) + np.int64(eb[k]))
    if bad:
        return np.nan
    if infinite != 0.0:
        return infinite
    for k in range(k0, k0 + spec[BLOCK]):
        lane = (k - k0) // size
        p = np.float64(a[k]) * np.float64(b[k])
        sums[lane] += np.trunc(p * _two(spec[FRACTION_BITS] - tops[lane]))
    value = _joined(
        sums[0], tops[0], sums[1], tops[1], c,
        spec[FRACTION_BITS], spec[GUARD], spec[DROP], spec[C_FLOOR],
    )  # fmt: skip
    if spec[SUM_BITS] >= 0:
        e = max(((float_bits(value) >> 52) & 2047) - 1023, grid.min_exponent)
        value = np.floor(value * power_of_two(spec[SUM_BITS] - e)) * power_of_two(
            e - spec[SUM_BITS]
        )
    mode = spec[MODE]
    return bound(round_finite(value, grid, mode, 0, 0), grid, mode, INFINITY)
