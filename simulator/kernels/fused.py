"""Multi-term fused dot products: align to the largest exponent, truncate, sum exactly, round once.

One block of L products and an addend c, as in `simulator.reference.fused_block`:

    emax = max(min_exponent, e(a_i) + e(b_i) over nonzero products, e(c) if c != 0)
    S    = sum_i trunc(a_i b_i 2^(F - emax)) + trunc(c 2^(F - emax))       exact integers
    c'   = round(S 2^(emax - F)),  overflow -> infinity,  zero -> +0

Why the arithmetic below is exact. `wide`: a product of two operands of at most 26 significand
bits is exact in float64, scaling by a power of two is exact, and S is an integer below
2^(F + 2) (L + 1) < 2^53. `narrow` (operands of at most 12 significand bits and exponents within
-31 to 32, such as fp8 and fp16): a product is exact in float32; the conversion to int32 truncates
toward zero, which is the alignment step itself; S < 2^31.

Cost a product: 3 integer and 4 floating vector operations (exponents: load, add, maximum;
significands: multiply, scale, truncate, add) and 6 or 8 bytes from cache. Columns are the vector
lanes, so no step is horizontal; four products share one pass over the running maxima and sums.
The passes are functions of their own because LLVM vectorises a loop only if it can show in a few
comparisons that its arrays do not overlap.
"""

import numpy as np

from ...formats.jit import bits_float, float_bits, jit, parallel_jit, prange, scalar_jit
from ...formats.kernels import power_of_two, round_simple

#: Exponent of a zero operand: low enough that no sum with it is the largest.
ZERO_EXPONENT = -8192
#: Columns a pass: long enough to pay for its start, short enough for the first-level cache.
_TILE = 256


@scalar_jit
def exponent(x, min_exponent):  # type: ignore[no-untyped-def]
    """floor(log2 |x|), subnormals at `min_exponent`, zero at ZERO_EXPONENT; x float64."""
    e = max(((float_bits(x) >> 52) & 2047) - 1023, min_exponent)
    return np.int64(ZERO_EXPONENT) if x == 0.0 else e


@parallel_jit
def exponents(x, min_exponent):  # type: ignore[no-untyped-def]
    """`exponent` of each element of matrices (B, R, C), as int16."""
    batch, rows, columns = x.shape
    out = np.empty(x.shape, np.int16)
    for n in prange(batch * rows):
        source, target = x[n // rows, n % rows], out[n // rows, n % rows]
        for j in range(columns):
            target[j] = exponent(np.float64(source[j]), min_exponent)
    return out


@jit
def _start(c, emax, floor, c_floor, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        emax[j] = max(exponent(c[j], c_floor), floor)


@jit
def _raise_maximum(emax, e0, e1, e2, e3, r0, r1, r2, r3, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        high = max(e0 + np.int32(r0[j]), e1 + np.int32(r1[j]))
        low = max(e2 + np.int32(r2[j]), e3 + np.int32(r3[j]))
        emax[j] = max(emax[j], max(high, low))


@jit
def _scale_narrow(emax, scale, total, fraction_bits, width):  # type: ignore[no-untyped-def]
    """2^(F - emax) in float32; a nonzero product has emax > -64, so the clamp changes nothing."""
    for j in range(width):
        places = min(max(np.int32(fraction_bits) - emax[j], np.int32(-126)), np.int32(127))
        scale[j] = bits_float(np.int32((places + np.int32(127)) << np.int32(23)))
        total[j] = 0


@jit
def _scale_wide(emax, scale, total, fraction_bits, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        scale[j] = power_of_two(fraction_bits - np.int64(emax[j]))
        total[j] = 0.0


@jit
def _add_narrow(total, scale, x0, x1, x2, x3, r0, r1, r2, r3, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        u = scale[j]
        total[j] += (np.int32(x0 * r0[j] * u) + np.int32(x1 * r1[j] * u)) + (
            np.int32(x2 * r2[j] * u) + np.int32(x3 * r3[j] * u)
        )


@jit
def _add_wide(total, scale, x0, x1, x2, x3, r0, r1, r2, r3, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        u = scale[j]
        total[j] += (
            np.trunc(x0 * np.float64(r0[j]) * u) + np.trunc(x1 * np.float64(r1[j]) * u)
        ) + (np.trunc(x2 * np.float64(r2[j]) * u) + np.trunc(x3 * np.float64(r3[j]) * u))


@scalar_jit
def _aligned(total, c, emax, fraction_bits):  # type: ignore[no-untyped-def]
    """The exact sum of the aligned products and the aligned c, back on its scale."""
    total += np.trunc(c * power_of_two(fraction_bits - emax))
    return total * power_of_two(emax - fraction_bits)


@scalar_jit
def _overflowed(value, grid):  # type: ignore[no-untyped-def]
    value = np.copysign(np.inf, value) if np.abs(value) > grid.largest else value
    return 0.0 if value == 0.0 else value


@jit
def _finish(c, value, total, emax, fraction_bits, grid, nearest, width):  # type: ignore[no-untyped-def]
    """c takes the rounded sum; an infinity that an earlier block overflowed to stays.

    Three loops: LLVM vectorises each of them, but not their fusion.
    """
    for j in range(width):
        value[j] = _aligned(np.float64(total[j]), c[j], np.int64(emax[j]), fraction_bits)
    for j in range(width):
        value[j] = round_simple(value[j], grid, nearest)
    for j in range(width):
        c[j] = c[j] if np.isinf(c[j]) else _overflowed(value[j], grid)


@parallel_jit
def matmul_narrow(a, b, ea, eb, out, block, fraction_bits, floor, grid, nearest, c_floor):  # type: ignore[no-untyped-def]
    """out (B, M, N) float64 holds C and gets the result; a (B, M, K), b (B, K, N) float32, finite.

    ea, eb are the `exponents` of a and b. K is a multiple of `block`, `block` of 4. `floor` is
    the unit's min_exponent, `c_floor` the exponent of a subnormal c.
    """
    batch, rows, columns = out.shape
    for n in prange(batch * rows):
        i = n % rows
        x, ex, y, ey = a[n // rows, i], ea[n // rows, i], b[n // rows], eb[n // rows]
        emax = np.empty(_TILE, np.int32)
        scale = np.empty(_TILE, np.float32)
        total = np.empty(_TILE, np.int32)
        value = np.empty(_TILE, np.float64)
        for j0 in range(0, columns, _TILE):
            j1 = min(j0 + _TILE, columns)
            width = j1 - j0
            c = out[n // rows, i, j0:j1]
            for k0 in range(0, x.size, block):
                _start(c, emax, floor, c_floor, width)
                for k in range(k0, k0 + block, 4):
                    _raise_maximum(
                        emax, np.int32(ex[k]), np.int32(ex[k + 1]),
                        np.int32(ex[k + 2]), np.int32(ex[k + 3]),
                        ey[k, j0:j1], ey[k + 1, j0:j1], ey[k + 2, j0:j1], ey[k + 3, j0:j1], width,
                    )  # fmt: skip
                _scale_narrow(emax, scale, total, fraction_bits, width)
                for k in range(k0, k0 + block, 4):
                    _add_narrow(
                        total, scale, x[k], x[k + 1], x[k + 2], x[k + 3],
                        y[k, j0:j1], y[k + 1, j0:j1], y[k + 2, j0:j1], y[k + 3, j0:j1], width,
                    )  # fmt: skip
                _finish(c, value, total, emax, fraction_bits, grid, nearest, width)


@parallel_jit
def matmul_wide(a, b, ea, eb, out, block, fraction_bits, floor, grid, nearest, c_floor):  # type: ignore[no-untyped-def]
    """As `matmul_narrow`, with products and sums in float64; a, b float32 or float64."""
    batch, rows, columns = out.shape
    for n in prange(batch * rows):
        i = n % rows
        x, ex, y, ey = a[n // rows, i], ea[n // rows, i], b[n // rows], eb[n // rows]
        emax = np.empty(_TILE, np.int32)
        scale = np.empty(_TILE, np.float64)
        total = np.empty(_TILE, np.float64)
        value = np.empty(_TILE, np.float64)
        for j0 in range(0, columns, _TILE):
            j1 = min(j0 + _TILE, columns)
            width = j1 - j0
            c = out[n // rows, i, j0:j1]
            for k0 in range(0, x.size, block):
                _start(c, emax, floor, c_floor, width)
                for k in range(k0, k0 + block, 4):
                    _raise_maximum(
                        emax, np.int32(ex[k]), np.int32(ex[k + 1]),
                        np.int32(ex[k + 2]), np.int32(ex[k + 3]),
                        ey[k, j0:j1], ey[k + 1, j0:j1], ey[k + 2, j0:j1], ey[k + 3, j0:j1], width,
                    )  # fmt: skip
                _scale_wide(emax, scale, total, fraction_bits, width)
                for k in range(k0, k0 + block, 4):
                    _add_wide(
                        total, scale, np.float64(x[k]), np.float64(x[k + 1]),
                        np.float64(x[k + 2]), np.float64(x[k + 3]),
                        y[k, j0:j1], y[k + 1, j0:j1], y[k + 2, j0:j1], y[k + 3, j0:j1], width,
                    )  # fmt: skip
                _finish(c, value, total, emax, fraction_bits, grid, nearest, width)


@parallel_jit
def matmul_special(a, b, out, hit, block, fraction_bits, floor, grid, nearest, emins):  # type: ignore[no-untyped-def]
    """Outputs where `hit`, whose operands or C hold an infinity or NaN, one block at a time.

    emins: the smallest exponents of a's, b's and c's formats.
    """
    batch, rows, columns = out.shape
    for n in prange(batch * rows):
        x, y, c = a[n // rows, n % rows], b[n // rows], out[n // rows, n % rows]
        for j in range(columns):
            if hit[n // rows, n % rows, j]:
                for k in range(0, x.size, block):
                    c[j] = _block(
                        x, y[:, j], k, block, c[j], fraction_bits, floor, grid, nearest, emins
                    )


@jit
def _block(a, b, k0, block, c, fraction_bits, floor, grid, nearest, emins):  # type: ignore[no-untyped-def]
    """One block with any operands: NaN, Inf * 0 and Inf - Inf give NaN, else Inf wins."""
    infinite, bad = (c if np.isinf(c) else 0.0), np.isnan(c)
    emax = max(exponent(c, emins[2]), floor)
    for k in range(k0, k0 + block):
        x, y = np.float64(a[k]), np.float64(b[k])
        p = x * y
        if np.isnan(p):
            bad = True
        elif np.isinf(p):
            bad = bad or (infinite != 0.0 and infinite != p)
            infinite = p
        else:
            emax = max(emax, exponent(x, emins[0]) + exponent(y, emins[1]))
    if bad:
        return np.nan
    if infinite != 0.0:
        return infinite
    total = 0.0
    for k in range(k0, k0 + block):
        total += np.trunc(np.float64(a[k]) * np.float64(b[k]) * power_of_two(fraction_bits - emax))
    value = round_simple(_aligned(total, c, emax, fraction_bits), grid, nearest)
    return _overflowed(value, grid)
