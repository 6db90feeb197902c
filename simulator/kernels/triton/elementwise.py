"""Elementwise operations in Triton, correctly rounded into a format: the twin of `elementwise.py`.

To odd in float64, then once more on bits (`odd.py` shows that two roundings make one). `plain`, a
unit whose arithmetic is IEEE float32 or float64, is the single instruction: `add.rn`, `mul.rn`,
`div_rn`, `sqrt_rn`, `fma`. PyTorch's own kernels are not that everywhere: a division by a number
on the host is a multiplication by its reciprocal there.

Excluded: contraction, by compiling without fusion, where TwoSum and products stand apart; the
approximate division and root of float32, by `div_rn` and `sqrt_rn` (float64 has no other);
flushing: no operation has `.ftz`, what the emulated chip flushes is chosen by comparison.

Floor on an H200: 12 bytes an element of two operands, 2.5 ps; rounded, about 90 32-bit operations,
5 ps; a quotient in float64 about 30 more.
"""

import triton
import triton.language as tl

from ....formats.device.triton.bits import round_bits
from ....formats.device.triton.random import draw_element
from .sums import bits_of, float_of, flushed, lowered, nudged, two_sum


@triton.jit
def combine(x, y, v: tl.constexpr):
    """float64 x + y, or x y (v.product), to odd."""
    if v.product:
        return x * y
    total, rest = two_sum(x, y)
    total = nudged(total, rest)
    if v.down:
        total = lowered(x, y, total)
    return total


@triton.jit
def settled(x, r, v: tl.constexpr, t: tl.constexpr):
    """float64 x rounded into the unit's format, as float32."""
    value = float_of(round_bits(bits_of(x), r, t))
    if v.flush_out > 0.0:
        value = flushed(value, v.flush_out)
    return value.to(tl.float32)


@triton.jit
def drawn(index, seed, stream, v: tl.constexpr, t: tl.constexpr):
    """The random integers of these elements, int64; 0 without."""
    r = index * 0
    if t.k > 0:
        r = draw_element(index, seed, stream, v.width, t.k)
    return r


@triton.jit
def _plain(x, y, z, OP: tl.constexpr):
    if OP == 0:
        return x + y
    elif OP == 1:
        return x - y
    elif OP == 2:
        return x * y
    elif OP == 3:
        if x.dtype == tl.float32:
            return tl.math.div_rn(x, y)
        else:
            return x / y
    elif OP == 4:
        if x.dtype == tl.float32:
            return tl.math.sqrt_rn(x)
        else:
            return tl.sqrt(x)
    else:
        return tl.fma(x, y, z)


@triton.jit
def _to_odd(x, y, z, v: tl.constexpr, OP: tl.constexpr):
    """op of float64 x, y, z that are float32 numbers, rounded to odd; see `odd.py`."""
    if OP == 2:
        return x * y
    elif OP == 3:
        quotient = x / y
        remainder = tl.fma(-quotient, y, x)
        return nudged(quotient, tl.where(y > 0.0, remainder, -remainder))
    elif OP == 4:
        root = tl.sqrt(x)
        return nudged(root, tl.fma(-root, root, x))
    else:
        if OP == 1:
            y = -y
        if OP == 5:
            x = x * y
            y = z
        total, rest = two_sum(x, y)
        total = nudged(total, rest)
        if v.down:
            total = lowered(x, y, total)
        return total


@triton.jit(do_not_specialize=["seed", "stream"])
def operate(
    a_at, b_at, c_at, out_at, count, seed, stream,
    v: tl.constexpr, t: tl.constexpr, OP: tl.constexpr, PLAIN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out = op(a, b, c) rounded once; flat. OP: ADD .. FMA of `kernels.odd`."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    x = tl.load(a_at + at, mask=inside, other=1.0)
    y = tl.load(b_at + at, mask=inside, other=1.0)
    z = tl.load(c_at + at, mask=inside, other=1.0)
    if PLAIN:
        result = _plain(x, y, z, OP)
    else:
        x = flushed(x.to(tl.float64), v.flush_in)
        y = flushed(y.to(tl.float64), v.flush_in)
        z = flushed(z.to(tl.float64), v.flush_in)
        wide = _to_odd(x, y, z, v, OP)
        result = settled(wide, drawn(at, seed, stream, v, t), v, t)
    tl.store(out_at + at, result, mask=inside)


@triton.jit(do_not_specialize=["seed", "stream"])
def settle(
    x_at, out_at, count, seed, stream, v: tl.constexpr, t: tl.constexpr, BLOCK: tl.constexpr
):
    """out = float64 x, computed by other means, rounded into the format."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    x = tl.load(x_at + at, mask=inside, other=0.0)
    result = settled(x, drawn(at, seed, stream, v, t), v, t)
    tl.store(out_at + at, result, mask=inside)
