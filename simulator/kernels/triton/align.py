"""Exponents of operands and truncated sums of products in Triton: the twin of `align.py`.

    emax = max(start, e(x_k) + e(y_k) over the block)
    total = sum_k trunc(x_k y_k 2^(F - emax))                               an integer

`narrow`: a product is exact in float32, so is its scaling unless it ends below 1, and the
conversion to int32 truncates toward zero, which is the alignment step itself. Else the same in
float64 and int64. Sums are of integers, so their order is of no consequence.

Cost a product, narrow: 2 integer operations for the exponents (add, maximum), 2 float32 products,
a conversion and an integer addition.
"""

import triton
import triton.language as tl

#: Exponents of zero and of what lies outside of every block.
ZERO: tl.constexpr = tl.constexpr(-8192)


@triton.jit
def exponent(x, LEAST: tl.constexpr):
    """floor(log2 |x|) as int32, subnormals at LEAST, zero at -8192."""
    if x.dtype == tl.float32:
        field = (x.to(tl.int32, bitcast=True) >> 23) & 255
        e = field - 127
    else:
        field = (x.to(tl.int64, bitcast=True) >> 52) & 2047
        e = field.to(tl.int32) - 1023
    return tl.where(x == 0.0, -8192, tl.maximum(e, LEAST))


@triton.jit
def power(t):
    """2^t as float64, t clamped to -1022 .. 1023."""
    t = tl.minimum(tl.maximum(t, -1022), 1023)
    return ((t.to(tl.int64) + 1023) << 52).to(tl.float64, bitcast=True)


@triton.jit
def narrow_power(t):
    """2^t as float32, t clamped to -126 .. 127: the clamp changes no nonzero truncated product."""
    t = tl.minimum(tl.maximum(t, -126), 127)
    return ((t + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def within(mask, k, end):
    """The mask where k < end; k is one number for all, which the interpreter has in Python."""
    return mask & ((tl.zeros(mask.shape, tl.int32) + k) < end)


@triton.jit
def load_vector(at, k, stride, end, mask):
    """Element k of each row or column, 0 from `end` on."""
    return tl.load(at + k * stride, mask=within(mask, k, end), other=0.0)


@triton.jit
def raise_exponents(
    emax, a_at, b_at, ea_at, eb_at, a_k, b_k, ea_k, eb_k, k0, end, size, stride, down, right,
    LEAST_A: tl.constexpr, LEAST_B: tl.constexpr, EXPONENTS: tl.constexpr,
):  # fmt: skip
    """emax over products k0, k0 + stride, ..., `size` of them, below `end`."""
    for m in range(size):
        k = k0 + m * stride
        if EXPONENTS:
            e = tl.load(ea_at + k * ea_k, mask=within(down, k, end), other=-8192).to(tl.int32)
            f = tl.load(eb_at + k * eb_k, mask=within(right, k, end), other=-8192).to(tl.int32)
        else:
            e = exponent(load_vector(a_at, k, a_k, end, down), LEAST_A)
            f = exponent(load_vector(b_at, k, b_k, end, right), LEAST_B)
        emax = tl.maximum(emax, e[:, None] + f[None, :])
    return emax


@triton.jit
def truncated_sum(
    emax, a_at, b_at, a_k, b_k, k0, end, size, stride, down, right,
    FRACTION_BITS: tl.constexpr, NARROW: tl.constexpr, SHORT: tl.constexpr,
):  # fmt: skip
    """The sum of truncated products as int64; SHORT: int32 holds it on the way."""
    if NARROW:
        unit = narrow_power(FRACTION_BITS - emax)
    else:
        unit = power(FRACTION_BITS - emax)
    total = (emax * 0).to(tl.int32 if SHORT else tl.int64)
    for m in range(size):
        k = k0 + m * stride
        x = load_vector(a_at, k, a_k, end, down)
        y = load_vector(b_at, k, b_k, end, right)
        if NARROW:
            term = (x[:, None] * y[None, :] * unit).to(tl.int32)
        else:
            term = (x.to(tl.float64)[:, None] * y.to(tl.float64)[None, :] * unit).to(tl.int64)
        total += term.to(total.dtype)
    return total.to(tl.int64)


@triton.jit
def special_products(
    infinite, bad, a_at, b_at, a_k, b_k, k0, end, size, down, right, LIMIT: tl.constexpr
):
    """What infinite and missing products make of a block: (an infinity or 0, whether it is NaN).

    Products from LIMIT on are infinite too.
    """
    for m in range(size):
        x = load_vector(a_at, k0 + m, a_k, end, down).to(tl.float64)
        y = load_vector(b_at, k0 + m, b_k, end, right).to(tl.float64)
        p = x[:, None] * y[None, :]
        endless = tl.abs(p) >= LIMIT
        p = tl.where(endless, tl.where(p > 0, float("inf"), float("-inf")), p)
        bad = bad | (p != p) | (endless & (infinite != 0.0) & (infinite != p))
        infinite = tl.where(endless, p, infinite)
    return infinite, bad
