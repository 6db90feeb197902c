"""Sums rounded to odd, in float32 or float64: the twins of `odd.py` and `chain.py`.

A float rounded to odd is the exact result, or whichever of its neighbours has the last bit 1;
rounded once more to two bits less it equals the exact result rounded at once. The error of a sum is
exact by Knuth's TwoSum, six additions that must be made as they stand: the kernels are compiled
without contraction, LLVM reassociates nothing without fast-math, and no operation flushes
subnormals, which `tests/test_triton_ptx.py` reads off the compiled code.

A device's NaN has all bits set, so a carry in its integer would turn it into a zero: whoever rounds
on bits asks for NaN first.
"""

import triton
import triton.language as tl


@triton.jit
def bits_of(x):
    """The bits of float32 or float64 x."""
    if x.dtype == tl.float32:
        return x.to(tl.int32, bitcast=True)
    else:
        return x.to(tl.int64, bitcast=True)


@triton.jit
def float_of(bits):
    """The float with these bits."""
    if bits.dtype == tl.int32:
        return bits.to(tl.float32, bitcast=True)
    else:
        return bits.to(tl.float64, bitcast=True)


@triton.jit
def two_sum(x, y):
    """(nearest x + y, exact rest), where the sum is finite."""
    total = x + y
    back = total - x
    return total, (x - (total - back)) + (y - back)


@triton.jit
def nudged(nearest, residual):
    """The odd neighbour where `nearest` is inexact and even; residual = exact - nearest, or NaN."""
    bits = bits_of(nearest)
    outward = (residual > 0.0) == (nearest > 0.0)
    inexact = (residual > 0.0) | (residual < 0.0)
    step = tl.where(outward, 1, -1).to(bits.dtype)
    return float_of(tl.where(inexact & ((bits & 1) == 0), bits + step, bits))


@triton.jit
def to_odd_sum(x, y):
    """x + y rounded to odd; infinities and NaN as in x + y. Finite sums must not overflow."""
    total, rest = two_sum(x, y)
    finite = tl.abs(total) < float("inf")
    return tl.where(finite, nudged(total, rest), total)


@triton.jit
def bounded_sum(x, y, TRUNCATE: tl.constexpr):
    """The bits of x + y to odd, or toward zero (TRUNCATE), where the sum may leave the lane.

    Beyond the largest number both are that number, whose bits are those of infinity less one.
    """
    total, rest = two_sum(x, y)
    bits = bits_of(total)
    inward = (rest != 0.0) & ((rest > 0.0) != (total > 0.0))
    if TRUNCATE:
        found = tl.where(inward, bits - 1, bits)
    else:
        step = tl.where(inward, -1, 1).to(bits.dtype)
        found = tl.where((rest != 0.0) & ((bits & 1) == 0), bits + step, bits)
    endless = tl.abs(total) == float("inf")
    finite = (tl.abs(x) < float("inf")) & (tl.abs(y) < float("inf"))
    found = tl.where(tl.abs(total) < float("inf"), found, bits)
    return tl.where(endless & finite, bits - 1, found)


@triton.jit
def lowered(x, y, total):
    """x + y = total toward -infinity: a zero is -0 unless both terms are +0 (IEEE 754, 6.3)."""
    negative = (bits_of(x) | bits_of(y)) < 0
    return tl.where((total == 0.0) & negative, -0.0, total)


@triton.jit
def flushed(x, smallest):
    """x, magnitudes below `smallest` as zeros of its sign; NaN stays."""
    bits = bits_of(x)
    lowest = bits_of(tl.full(x.shape, -0.0, x.dtype))
    return tl.where(tl.abs(x) < smallest, float_of(bits & lowest), x)
