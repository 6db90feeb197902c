"""The scales of blocks from their largest magnitudes: the Triton twin of `formats.blocks.scales`.

In float64: comparisons, products with powers of two, single quotients (IEEE in float64) and their
rounding to float32, which for one operation of float32 numbers is no double rounding; the
rounding into the scale format is that of `bits.py`. Nothing can be contracted: each product is
rounded to float32 or compared before anything is added.

Floor: a read and three writes an entry, one for each block; a thirty-second of the elements' for
MX, so it does not count.
"""

import triton
import triton.language as tl

from .bits import round_bits


@triton.jit
def power(e):
    """2^e as float64 for -1022 <= e <= 1023."""
    return ((e.to(tl.int64) + 1023) << 52).to(tl.float64, bitcast=True)


@triton.jit
def fl(x, s: tl.constexpr):
    """float64 rounded to float32, where that is the dtype of the input."""
    if s.narrow:
        return x.to(tl.float32).to(tl.float64)
    else:
        return x


@triton.jit
def stored(x, s: tl.constexpr, t: tl.constexpr):
    """x rounded into the scale format, not below the least scale that is stored."""
    bits = x.to(tl.int64, bitcast=True)
    scale = round_bits(bits, bits * 0, t).to(tl.float64, bitcast=True)
    return tl.where(scale < s.least_scale, s.least_scale, scale)


@triton.jit
def shared_exponent(amax, s: tl.constexpr):
    """E of a power-of-two scale; amax not NaN. Subnormal amax are scaled up first, exactly."""
    a = amax
    if s.rule == s.RATIO:
        a = fl(amax / s.largest, s)
    tiny = a < 2.2250738585072014e-308
    bits = tl.where(tiny, a * 18014398509481984.0, a).to(tl.int64, bitcast=True)
    e = (bits >> 52) - 1023
    fraction = bits & 0xFFFFFFFFFFFFF
    if s.rule == s.EVEN:
        # Up to 2^(e + 1) from the tie on: 2 - 2^-(even_bits + 1), as a fraction.
        above = fraction >= s.tie
    else:
        above = fraction > 0
    e = e - tl.where(tiny, 54, 0)
    if s.rule != s.FLOOR:
        e = e + above.to(tl.int64)
    if s.rule != s.RATIO:
        e = e - s.emax
    e = tl.maximum(tl.minimum(e, s.most), s.least)
    endless = a == float("inf")
    e = tl.where(endless, s.top, e)
    return tl.where(a == 0.0, s.least, e)


@triton.jit
def scale_blocks(
    amax_at, stored_at, factors_at, totals_at, entries, encode, decode,
    s: tl.constexpr, t: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Stored scale, multiplier or divisor, and factor of restored values of each block.

    encode, decode: float64 scalars in memory, the tensor's scale. Outputs in float64 (stored) and
    in the dtype of the tables.
    """
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < entries
    amax = tl.load(amax_at + at, mask=inside, other=0.0).to(tl.float64)
    missing = amax != amax
    huge = s.huge
    if s.rule <= s.RATIO:
        e = shared_exponent(amax, s)
        scale = _wide_power(e)
        factor = tl.where(amax == 0.0, 1.0, _wide_power(-e))
        total = tl.where(amax == 0.0, 1.0, scale)
    else:
        tensor_encode, tensor_decode = tl.load(encode), tl.load(decode)
        share = fl(amax / s.largest, s)
        if s.rule == s.TWO_LEVEL:
            scale = stored(fl(share * tensor_encode, s), s, t)
            total = fl(scale * tensor_decode, s)
            factor = _at_most(fl(1.0 / total, s), huge)
        elif s.rule == s.TWO_LEVEL_DIVIDED:
            relative = tl.where(amax == 0.0, 0.0, fl(share / tensor_encode, s))
            scale = stored(relative, s, t)
            total = fl(scale * tensor_decode, s)
            inverse = fl(tl.full(amax.shape, 1.0, tl.float64) / tensor_encode, s)
            factor = _at_most(fl(inverse / scale, s), huge)
        else:
            scale = stored(share, s, t)
            total = scale
            if s.rule == s.RECIPROCAL:
                inverse = _at_most(fl(1.0 / scale, s), huge)
                factor = tl.where(scale == 0.0, 0.0, inverse)
            else:
                factor = tl.where(scale == 0.0, float("inf"), scale)
    scale = tl.where(missing, amax, scale)
    factor = tl.where(missing, amax, factor)
    total = tl.where(missing, amax, total)
    tl.store(stored_at + at, scale, mask=inside)
    tl.store(factors_at + at, factor.to(factors_at.dtype.element_ty), mask=inside)
    tl.store(totals_at + at, total.to(totals_at.dtype.element_ty), mask=inside)


@triton.jit
def _wide_power(e):
    """2^e as float64 for -1074 <= e <= 1023."""
    normal = (tl.maximum(e, -1022) + 1023) << 52
    small = tl.full(e.shape, 1, tl.int64) << tl.minimum(tl.maximum(e + 1074, 0), 62)
    return tl.where(e >= -1022, normal, small).to(tl.float64, bitcast=True)


@triton.jit
def _at_most(x, limit):
    """x, at most `limit`; NaN becomes the limit, as Python's min(x, limit) does not: x first."""
    return tl.where(x > limit, limit, x)


@triton.jit
def reciprocal_scales(
    amax_at, s_at, factor_at, entries, largest, shrink, unshrink, BLOCK: tl.constexpr
):
    """s = fl(largest / amax), at most the largest float32, 1 for 0; factor fl(1 / s), NaN where
    amax is not finite; fl(s shrink) and fl(factor unshrink). All float32."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < entries
    amax = tl.load(amax_at + at, mask=inside, other=1.0)
    top = tl.zeros((BLOCK,), tl.float32) + largest
    s = tl.math.div_rn(top, amax)
    s = tl.where(amax == 0.0, 1.0, s)
    s = tl.where(s > 3.4028234663852886e38, 3.4028234663852886e38, s)
    factor = tl.math.div_rn(tl.full((BLOCK,), 1.0, tl.float32), s)
    finite = tl.abs(amax) < float("inf")
    factor = tl.where(finite, factor, float("nan"))
    tl.store(s_at + at, s * shrink, mask=inside)
    tl.store(factor_at + at, factor * unshrink, mask=inside)
