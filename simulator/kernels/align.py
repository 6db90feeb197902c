"""Alignment: exponents of operands, their largest over a block, and truncated sums of products.

The passes of fused and two-stage orders. For a block of products and one row of outputs,

    emax_j = max(start_j, e(x_k) + e(y_kj) over nonzero products)
    total_j = sum_k trunc(x_k y_kj 2^(F - emax_j))                            exact integers

Why the arithmetic is exact. `wide`: a product of two operands of at most 26 significand bits is
exact in float64, scaling by a power of two is exact, and the sum is an integer below 2^53.
`narrow`: products are exact in float32 (see `execution.layout.products_are_narrow`, which looks
at the operands' exponents: at most 24 bits, the last at 2^-149 or above, below 2^126); so is their
scaling, unless it ends below 1, where truncation gives 0 all the same; the conversion to int32
truncates toward zero, which is the alignment step itself; and sums of `chunk` products, each
below 2^(F + 2), stay below 2^31 before they move to float64.

Cost a product, narrow: 2 vector operations on 16-bit lanes (exponents: add, maximum) and 4 on
32-bit lanes (significands: multiply, scale, truncate, add), 6 bytes from the first-level cache.
Columns are the vector lanes, so no step is horizontal; four products share one pass over the
running maxima and sums. The passes are functions of their own because LLVM vectorises a loop
only if it can show in a few comparisons that its arrays do not overlap.
"""

import numpy as np

from ...formats.jit import bits_float, float_bits, jit, parallel_jit, prange, scalar_jit

#: Exponent of a zero operand: low enough that no sum with it is the largest.
ZERO_EXPONENT = -8192
#: Exponent of an infinity or NaN, as `exponent` reads it.
SPECIAL_EXPONENT = 1024
#: Columns a pass: long enough to pay for its start, short enough for the first-level cache.
TILE = 256
#: Rows that share the columns of a block while these are in the cache.
ROWS = 8


@scalar_jit
def normal_power(t):  # type: ignore[no-untyped-def]
    """2^t as float64 for -1022 <= t <= 1023."""
    return bits_float((t + 1023) << 52)


@scalar_jit
def exponent(x, min_exponent):  # type: ignore[no-untyped-def]
    """floor(log2 |x|), subnormals at `min_exponent`, zero at ZERO_EXPONENT; x float64."""
    e = max(((float_bits(x) >> 52) & 2047) - 1023, min_exponent)
    return np.int64(ZERO_EXPONENT) if x == 0.0 else e


@jit
def _survey_row(source, target, min_exponent):  # type: ignore[no-untyped-def]
    low, high = np.int64(-ZERO_EXPONENT), np.int64(ZERO_EXPONENT)
    for j in range(source.size):
        e = exponent(np.float64(source[j]), min_exponent)
        target[j] = e
        high = max(high, e)
        low = min(low, np.int64(-ZERO_EXPONENT) if e == ZERO_EXPONENT else e)
    return low, high


@parallel_jit
def survey(x, min_exponent):  # type: ignore[no-untyped-def]
    """(exponents of matrices (B, R, C) as int16, the least of a nonzero element, the largest)."""
    batch, rows, _ = x.shape
    out = np.empty(x.shape, np.int16)
    ends = np.empty((batch * rows, 2), np.int64)
    for n in prange(batch * rows):
        low, high = _survey_row(x[n // rows, n % rows], out[n // rows, n % rows], min_exponent)
        ends[n, 0], ends[n, 1] = low, high
    low, high = np.int64(-ZERO_EXPONENT), np.int64(ZERO_EXPONENT)
    for n in range(batch * rows):
        low, high = min(low, ends[n, 0]), max(high, ends[n, 1])
    return out, low, high


@jit
def raise_maximum(emax, e0, e1, e2, e3, r0, r1, r2, r3, width):  # type: ignore[no-untyped-def]
    """emax, e and r are int16: sums of two stay above -16385 and below 2049."""
    for j in range(width):
        s0, s1 = np.int16(e0 + r0[j]), np.int16(e1 + r1[j])
        s2, s3 = np.int16(e2 + r2[j]), np.int16(e3 + r3[j])
        high = s0 if s0 > s1 else s1
        low = s2 if s2 > s3 else s3
        top = high if high > low else low
        emax[j] = top if top > emax[j] else emax[j]


@jit
def scale_narrow(emax, scale, total, fraction_bits, width):  # type: ignore[no-untyped-def]
    """2^(F - emax) in float32; the clamp changes no nonzero product's truncation."""
    for j in range(width):
        places = min(
            max(np.int32(fraction_bits) - np.int32(emax[j]), np.int32(-126)), np.int32(127)
        )
        scale[j] = bits_float(np.int32((places + np.int32(127)) << np.int32(23)))
        total[j] = 0


@jit
def scale_wide(emax, scale, width, fraction_bits):  # type: ignore[no-untyped-def]
    for j in range(width):
        scale[j] = normal_power(min(fraction_bits - np.int64(emax[j]), np.int64(1023)))


@jit
def add_narrow(total, scale, x0, x1, x2, x3, r0, r1, r2, r3, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        u = scale[j]
        total[j] += (np.int32(x0 * r0[j] * u) + np.int32(x1 * r1[j] * u)) + (
            np.int32(x2 * r2[j] * u) + np.int32(x3 * r3[j] * u)
        )


@jit
def add_wide(total, scale, x0, x1, x2, x3, r0, r1, r2, r3, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        u = scale[j]
        total[j] += (
            np.trunc(x0 * np.float64(r0[j]) * u) + np.trunc(x1 * np.float64(r1[j]) * u)
        ) + (np.trunc(x2 * np.float64(r2[j]) * u) + np.trunc(x3 * np.float64(r3[j]) * u))


@jit
def _widen(part, total, width):  # type: ignore[no-untyped-def]
    """The first int32 sums as the float64 sums of the block."""
    for j in range(width):
        total[j] = np.float64(part[j])
        part[j] = 0


@jit
def _move(part, total, width):  # type: ignore[no-untyped-def]
    """Further int32 sums into the float64 sums of the block."""
    for j in range(width):
        total[j] += np.float64(part[j])
        part[j] = 0


@jit
def clear(total, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        total[j] = 0.0


@jit
def sum_block(x, ex, y, ey, k0, size, j0, width, emax, scratch, fraction_bits, chunk):  # type: ignore[no-untyped-def]
    """Products k0 .. k0 + size - 1 of one row and `width` columns: emax rises, total is the sum.

    chunk: products that int32 holds, or 0 for the wide arithmetic. scratch: (scale32, part,
    scale64, total) of at least `width`.
    """
    scale32, part, scale64, total = scratch
    j1 = j0 + width
    for k in range(k0, k0 + size, 4):
        raise_maximum(
            emax, ex[k], ex[k + 1], ex[k + 2], ex[k + 3],
            ey[k, j0:j1], ey[k + 1, j0:j1], ey[k + 2, j0:j1], ey[k + 3, j0:j1], width,
        )  # fmt: skip
    if chunk > 0:
        scale_narrow(emax, scale32, part, fraction_bits, width)
        for first in range(k0, k0 + size, chunk):
            for k in range(first, min(first + chunk, k0 + size), 4):
                add_narrow(
                    part, scale32, np.float32(x[k]), np.float32(x[k + 1]),
                    np.float32(x[k + 2]), np.float32(x[k + 3]),
                    y[k, j0:j1], y[k + 1, j0:j1], y[k + 2, j0:j1], y[k + 3, j0:j1], width,
                )  # fmt: skip
            if first == k0:
                _widen(part, total, width)
            else:
                _move(part, total, width)
    else:
        clear(total, width)
        scale_wide(emax, scale64, width, fraction_bits)
        for k in range(k0, k0 + size, 4):
            add_wide(
                total, scale64, np.float64(x[k]), np.float64(x[k + 1]),
                np.float64(x[k + 2]), np.float64(x[k + 3]),
                y[k, j0:j1], y[k + 1, j0:j1], y[k + 2, j0:j1], y[k + 3, j0:j1], width,
            )  # fmt: skip


@jit
def make_scratch():  # type: ignore[no-untyped-def]
    """The scratch of `sum_block`."""
    return (
        np.empty(TILE, np.float32), np.empty(TILE, np.int32),
        np.empty(TILE, np.float64), np.empty(TILE, np.float64),
    )  # fmt: skip
