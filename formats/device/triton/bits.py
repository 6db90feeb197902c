"""Rounding on the bits of float32 or float64 numbers: the Triton twin of `formats.kernels`.

From the bits of x to the bits of the result there are only integer operations of one width: no
product that could be contracted into a fused multiply-add, no division, no subnormal that could be
flushed, nothing that could be reassociated to other bits. s low bits of the significand go:

    s = quantum + W - e below 2^min_exponent, W - fraction_bits from there on

with W = 23 or 52 and e the exponent of x. Up to s = W they are cut in place, where a carry into
the exponent is the right one; beyond, the magnitude is below the quantum and becomes 0 or it.

Cost an element, nearest-even and saturated: about 30 integer operations of the width.
"""

import triton
import triton.language as tl


@triton.jit
def shifted(bits, places, t: tl.constexpr):
    """floor(bits * 2^-places); `places` may be negative or huge."""
    last: tl.constexpr = t.wide - 1
    right = bits >> tl.minimum(tl.maximum(places, 0), last)
    left = bits << tl.minimum(tl.maximum(-places, 0), last)
    return tl.where(places < 0, left, right)


@triton.jit
def nearest_even_shift(bits, places, t: tl.constexpr):
    """bits * 2^-places to the nearest integer, ties to even."""
    last: tl.constexpr = t.wide - 1
    kept = shifted(bits, places, t)
    inside = tl.minimum(tl.maximum(places, 0), last - 1)
    rest = tl.where(places > 0, bits - (kept << inside), 0)
    half = tl.full(bits.shape, 1, bits.dtype) << tl.minimum(tl.maximum(places - 1, 0), last - 1)
    return kept + ((rest > half) | ((rest == half) & ((kept & 1) == 1))).to(bits.dtype)


@triton.jit
def carry(kept, rest, places, s, negative, r, t: tl.constexpr):
    """1 where the magnitude kept + rest * 2^-s goes up to kept + 1, else 0.

    places: s within 0 to W + 2, where W is the fraction's width; r: an integer below 2^k. Modes by
    `formats.rounding.Mode`.
    """
    one = tl.full(kept.shape, 1, kept.dtype)
    if t.mode == 0:
        half = one << tl.maximum(places - 1, 0)
        up = (rest > half) | ((rest == half) & ((kept & 1) == 1))
        return up.to(kept.dtype)
    elif t.mode == 1:
        return (rest >= (one << tl.maximum(places - 1, 0))).to(kept.dtype)
    elif t.mode == 2:
        return kept * 0
    elif t.mode == 3:
        return ((rest != 0) & (negative == 0)).to(kept.dtype)
    elif t.mode == 4:
        return ((rest != 0) & negative).to(kept.dtype)
    elif t.mode == 5:
        return ((rest != 0) & ((kept & 1) == 0)).to(kept.dtype)
    elif t.mode == 6:
        return (shifted(rest, s - t.k, t) + r) >> t.k
    elif t.mode == 7:
        return (shifted(rest, s - t.k - 1, t) + 2 * r + 1) >> (t.k + 1)
    else:
        return (nearest_even_shift(rest, s - t.k, t) + r) >> t.k


@triton.jit
def round_magnitude(bits, r, t: tl.constexpr):
    """The magnitude's bits on the grid of unbounded exponent; infinity stays, NaN is of no use."""
    magnitude = bits & t.magnitude
    field = magnitude >> t.fraction
    sig = (magnitude & t.fraction_mask) | tl.where(field > 0, t.implicit, 0)
    e = (tl.maximum(field, 1) - t.bias).to(tl.int32)
    s = tl.where(e < t.min_exponent, t.quantum + t.fraction - e, t.fraction - t.fraction_bits)
    places = tl.minimum(tl.maximum(s, 0), t.fraction + 2).to(bits.dtype)
    kept = sig >> places
    rest = sig - (kept << places)
    up = carry(kept, rest, places, s.to(bits.dtype), bits < 0, r, t)
    inside = tl.minimum(places, t.fraction)
    cut = ((magnitude >> inside) + up) << inside
    tiny = tl.where(up != 0, t.quantum_bits, 0)
    return tl.where(places > t.fraction, tiny, cut)


@triton.jit
def round_bits(bits, r, t: tl.constexpr):
    """The bits of a number, int32 or int64, to those of the value it is rounded to.

    Beyond the range, what the overflow policy of the target says; a NaN keeps its bits.
    """
    rounded = round_magnitude(bits, r, t)
    magnitude = bits & t.magnitude
    negative = bits < 0
    sign = bits & t.sign
    if t.signed_zero:
        out = rounded | sign
    else:
        out = tl.where(rounded == 0, 0, rounded | sign)
    if t.has_zero == 0:
        rises = (negative == 0) & (magnitude != 0) & (rounded < t.low)
        out = tl.where(rises, t.low, out)
        out = tl.where((rounded == 0) & (rises == 0), t.absent, out)
    infinite = magnitude == t.infinity
    if t.low_is_negative:
        below = negative & (rounded > t.low)
    else:
        below = negative & (rounded != 0)
    above = (negative == 0) & (rounded > t.high)
    out = tl.where(above, tl.where(infinite, t.infinite_up, t.over_up), out)
    out = tl.where(below, tl.where(infinite, t.infinite_down, t.over_down), out)
    return tl.where(magnitude > t.infinity, bits, out.to(bits.dtype))


@triton.jit
def wrap_bits(bits, r, t: tl.constexpr):
    """As `round_bits` into integers modulo 2^n quanta, n at most 32; int64, x finite."""
    rounded = round_magnitude(bits, r, t)
    field = rounded >> t.fraction
    sig = (rounded & t.fraction_mask) | tl.where(field > 0, t.implicit, 0)
    places = tl.maximum(field, 1) - t.bias - t.fraction - t.quantum
    left = (sig & 0xFFFFFFFF) << tl.minimum(tl.maximum(places, 0), 31)
    right = sig >> tl.minimum(tl.maximum(-places, 0), 63)
    steps = tl.where(places > 31, 0, tl.where(places < 0, right, left)) & t.wrap_mask
    steps = tl.where(bits < 0, -steps, steps) & t.wrap_mask
    steps = tl.where(steps > t.wrap_largest, steps - t.wrap_mask - 1, steps)
    # A whole number below 2^32 times a power of two: exact, and never subnormal.
    value = steps.to(tl.float64) * t.quantum_value
    return value.to(tl.int64, bitcast=True)


@triton.jit
def float_code(bits, c: tl.constexpr):
    """The code of a value of a float format, from its bits."""
    magnitude = bits & c.magnitude
    field = magnitude >> c.fraction
    sig = (magnitude & c.fraction_mask) | tl.where(field > 0, c.implicit, 0)
    e = tl.maximum(field, 1) - c.bias
    places = c.quantum + c.fraction - e
    small = sig >> tl.minimum(tl.maximum(places, 0), c.wide - 1)
    body = tl.where(magnitude >= c.least_normal, (magnitude >> c.drop) - c.rebias, small)
    body = tl.where(magnitude == c.infinity, c.infinity_code, body)
    code = tl.where(bits < 0, body | c.sign_code, body)
    return tl.where(magnitude > c.infinity, c.nan_code, code)


@triton.jit
def whole_code(value, c: tl.constexpr):
    """Two's complement in the low bits; `value` is a multiple of the quantum."""
    if c.wide == 32:
        return (value * c.steps).to(tl.int32) & c.mask
    else:
        return (value * c.steps).to(tl.int64) & c.mask
