"""Chains in Triton: c <- round(c + x y), one product a step; the twin of `chain_tiles.py`.

A product of two operands is exact in the lane: the plan (`execution.device.chain_plan`) asks for
float64 lanes where float32 does not hold every product. Then c + x y is one addition whose error
is known, and the first rounding of `chain_steps.py` (nearest, to odd, toward zero) follows from it
without directed instructions. NEAREST with AS_IS products that the lane does not hold, the
float32 or float64 of IEEE itself, is the one fused multiply-add, `tl.fma`, that is meant.

Excluded: contraction, by compiling without fusion (a contracted c + x y would be harmless where
x y is exact, but not in `fused = false` with AS_IS products); tf32 and reassociation, since there
is no `tl.dot` and k ascends in one loop; flushing, since no operation has `.ftz`.

Cost a product on an H200 (132 SMs at 1.98 GHz; 128 float32, 64 integer, 64 float64 operations a
clock and SM): NEAREST and IN_PLACE, the bfloat16 accumulator of narrow operands: 2 float and about
7 integer operations, floor 2.3 T MAC/s; ODD or ZERO in float32: 9 float, about 16 integer, 1.0 T;
general in float64: 8 float64 and about 30 64-bit integer operations, 0.25 T; stochastic adds a
Philox block for each 16, 8 or 4 products, 10, 20 or 40 integer operations a product. Bytes do not
count: a tile of 64 columns reads 8 bytes of B for 64 products.
"""

import triton
import triton.language as tl

from ....formats.device.triton.bits import round_bits
from ....formats.device.triton.random import draw_block, static_lane
from .sums import bits_of, bounded_sum, float_of, flushed


@triton.jit
def _in_place(bits, r, t: tl.constexpr):
    """Bits without the low ones of a format with the lane's exponents; r in place."""
    last: tl.constexpr = 1 << t.drop
    if t.drop == 0:
        out = bits
    elif t.mode == 0:
        out = (bits + (last // 2 - 1) + ((bits >> t.drop) & 1)) & -last
    elif t.mode == 1:
        out = (bits + last // 2) & -last
    elif t.mode == 2:
        out = bits & -last
    elif t.mode == 3:
        out = tl.where(bits < 0, bits, bits + (last - 1)) & -last
    elif t.mode == 4:
        out = tl.where(bits < 0, bits + (last - 1), bits) & -last
    elif t.mode == 5:
        kept = bits & -last
        out = tl.where((bits & (last - 1)) != 0, kept | last, kept)
    elif t.mode == 6:
        out = (bits + (r << (t.drop - t.k))) & -last
    else:
        out = (bits + ((2 * r + 1) << (t.drop - t.k - 1))) & -last
    return out


@triton.jit
def second(bits, r, t: tl.constexpr, g: tl.constexpr):
    """A first sum, or an exact product, in its format; NaN is asked for before bits are carried."""
    value = float_of(bits)
    if t.reach == t.AS_IS:
        return value
    elif t.reach == t.IN_PLACE:
        rounded = float_of(_in_place(bits, r, t))
        return tl.where(value == value, rounded, value)
    else:
        rounded = float_of(round_bits(bits, r, g))
        if t.smallest > 0.0:
            rounded = flushed(rounded, t.smallest)
        return rounded


@triton.jit
def step(x, y, c, r, s: tl.constexpr, gs: tl.constexpr, p: tl.constexpr, gp: tl.constexpr):
    """round(c + x y); s, gs: of the sum, p, gp: of the product, which is exact if p is FUSED."""
    if s.fma:
        return tl.fma(x, y, c)
    product = x * y
    if p.reach != p.FUSED:
        product = second(bits_of(product), r * 0, p, gp)
    if s.kind == s.NEAREST:
        bits = bits_of(c + product)
    else:
        bits = bounded_sum(c, product, s.kind == s.ZERO)
    return second(bits, r, s, gs)


@triton.jit(
    do_not_specialize=[
        "seed",
        "stream",
        "first",
        "every",
        "blocks",
        "column_numbers",
        "row_numbers",
    ]
)
def matmul(
    a_at, b_at, c_at, peaks_at, rows, columns, depth,
    a_batch, a_row, a_k, b_batch, b_k, b_column,
    seed, stream, first, every, blocks, row_numbers, column_numbers,
    s: tl.constexpr, gs: tl.constexpr, p: tl.constexpr, gp: tl.constexpr,
    LANE: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """D = C, chained with the products of a (B, M, K) and b (B, K, N); c (B, M, N), contiguous,
    holds C and gets D. Random bits as `chain_random.py` lays them out: product k is step
    first + k every of its dot product, whose blocks are `blocks`.
    """
    h = tl.program_id(1).to(tl.int64)
    across = tl.cdiv(columns, COLUMNS)
    i = (tl.program_id(0) // across).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    j = (tl.program_id(0) % across).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    down, right = i < rows, j < columns
    inside = down[:, None] & right[None, :]
    place = (h * rows + i[:, None]) * columns + j[None, :]
    a_at += h * a_batch + i * a_row
    b_at += h * b_batch + j * b_column
    c = tl.load(c_at + place, mask=inside, other=0.0).to(LANE)
    r = bits_of(c) * 0
    if s.k == 0:
        for k in range(depth):
            x = tl.load(a_at + k * a_k, mask=down, other=0.0).to(LANE)
            y = tl.load(b_at + k * b_k, mask=right, other=0.0).to(LANE)
            c = step(x[:, None], y[None, :], c, r, s, gs, p, gp)
    else:
        steps: tl.constexpr = 128 // WIDTH
        number = h * rows * columns + i[:, None] * row_numbers + j[None, :] * column_numbers
        peak = bits_of(tl.abs(c))
        last = first + (depth - 1) * every
        for block in range(first // steps, last // steps + 1):
            w0, w1, w2, w3 = draw_block(number * blocks + block, seed, stream)
            for lane in tl.static_range(steps):
                at = block * steps + lane - first
                k = at // every
                if (at >= 0) & (k * every == at) & (k < depth):
                    x = tl.load(a_at + k * a_k, mask=down, other=0.0).to(LANE)
                    y = tl.load(b_at + k * b_k, mask=right, other=0.0).to(LANE)
                    drawn = static_lane(w0, w1, w2, w3, lane, WIDTH, s.k).to(r.dtype)
                    c = step(x[:, None], y[None, :], c, drawn, s, gs, p, gp)
            peak = tl.maximum(peak, bits_of(tl.abs(c)))
        largest = tl.max(tl.max(tl.where(inside, peak, 0), axis=1), axis=0)
        tl.store(peaks_at + tl.program_id(1) * tl.num_programs(0) + tl.program_id(0), largest)
    tl.store(c_at + place, c.to(c_at.dtype.element_ty), mask=inside)


@triton.jit
def add(
    x_at, y_at, out_at, count, smallest_in, s: tl.constexpr, g: tl.constexpr, BLOCK: tl.constexpr
):
    """out = round(x + y) by the accumulator's addition, flat; in float64, rounded to odd first."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    x = tl.load(x_at + at, mask=inside, other=0.0).to(tl.float64)
    y = tl.load(y_at + at, mask=inside, other=0.0).to(tl.float64)
    x, y = flushed(x, smallest_in), flushed(y, smallest_in)
    if s.kind == s.NEAREST:
        bits = bits_of(x + y)
    else:
        bits = bounded_sum(x, y, False)
    result = second(bits, bits * 0, s, g)
    tl.store(out_at + at, result.to(out_at.dtype.element_ty), mask=inside)
