"""Quantising, encoding and restoring in one pass: a read and a write an element.

Excluded, and how (`tests/test_triton_ptx.py` reads it off the compiled code):

- contraction and flushing: the rounding is integer arithmetic (`bits.py`); the one product or
  quotient before it, fl(x m) or fl(x / m), and the one after it, fl(q t), are single operations,
  with roundings between them, compiled without fusion;
- approximate division: `div_rn` for float32, Triton's own for float64 is IEEE;
- reassociation: there is no sum. Maxima are of integers.

Floor on an H200 (4.8 TB/s): 8 bytes an element of float32, 1.7 ps; about 35 integer operations at
64 lanes a clock and SM make 2.1 ps. So e4m3 is bound by integer operations, at 0.8 of a copy.
Stochastic rounding of at most 8 bits adds a Philox block for each 16 elements: 0.3 ps.
"""

import triton
import triton.language as tl

from .bits import float_code, round_bits, whole_code, wrap_bits
from .random import draw_block, lane_of


@triton.jit
def entry_of(at, columns, rows, inner, tile_rows, tile_columns, down, across):
    """The entry in a table of blocks of element `at`: see `formats.blocks.kernels.Layout`."""
    line = at // inner
    row = line // columns
    column = line % columns
    block = (row // rows * down + row % rows // tile_rows) * across + column // tile_columns
    return block * inner + at % inner


@triton.jit
def rounded(x, r, t: tl.constexpr, c: tl.constexpr, OUT: tl.constexpr):
    """float32 or float64 x as a value (OUT = 0), or the code of a float (1) or an integer (2)."""
    if t.wide == 32:
        bits = x.to(tl.int32, bitcast=True)
        r = r.to(tl.int32)
    else:
        bits = x.to(tl.int64, bitcast=True)
    if t.wraps:
        bits = wrap_bits(bits, r, t)
    else:
        bits = round_bits(bits, r, t)
    if OUT == 1:
        return float_code(bits, c)
    else:
        if t.wide == 32:
            value = bits.to(tl.float32, bitcast=True)
        else:
            value = bits.to(tl.float64, bitcast=True)
        if OUT == 2:
            return whole_code(value, c)
        else:
            return value


@triton.jit(do_not_specialize=["seed", "stream"])
def convert(
    x_at, out_at, given_at, m_at, t_at, count, seed, stream,
    columns, rows, inner, tile_rows, tile_columns, down, across,
    t: tl.constexpr, c: tl.constexpr, SCALE: tl.constexpr, RESTORE: tl.constexpr,
    OUT: tl.constexpr, GIVEN: tl.constexpr, WIDTH: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """out = round(x scaled) restored, or its code; flat, `count` elements.

    SCALE: 0 none, 1 fl(x m), 2 fl(x / m), 3 x m exactly (m a power of two; in float64); m and the
    factor t of RESTORE are entries of flat tables. GIVEN: random integers of the caller, else
    Philox's by element index, of lanes of WIDTH bits. A program takes BLOCKS blocks of them.
    """
    lanes: tl.constexpr = 128 // WIDTH
    block = tl.program_id(0).to(tl.int64) * BLOCKS + tl.arange(0, BLOCKS)[:, None]
    lane = tl.arange(0, lanes)[None, :]
    at = block * lanes + lane
    inside = at < count
    raw = tl.load(x_at + at, mask=inside, other=0.0)
    y = raw.to(tl.float64) if t.wide == 64 else raw.to(tl.float32)
    entry = at * 0
    if SCALE or RESTORE:
        entry = entry_of(at, columns, rows, inner, tile_rows, tile_columns, down, across)
    if SCALE:
        y = _scaled(raw, tl.load(m_at + entry, mask=inside, other=1.0), y, t, SCALE)
    r = tl.zeros(at.shape, tl.int64)
    if t.k > 0:
        if GIVEN:
            r = tl.load(given_at + at, mask=inside, other=0).to(tl.int64)
        else:
            w0, w1, w2, w3 = draw_block(block, seed, stream)
            r = lane_of(w0, w1, w2, w3, lane, WIDTH, t.k)
    result = rounded(y, r, t, c, OUT)
    if RESTORE:
        total = tl.load(t_at + entry, mask=inside, other=1.0)
        result = result.to(total.dtype) * total
    tl.store(out_at + at, result.to(out_at.dtype.element_ty), mask=inside)


@triton.jit
def _scaled(raw, m, y, t: tl.constexpr, SCALE: tl.constexpr):
    """fl(x m) or fl(x / m) in the dtype of x, or x m of a power of two, in the dtype of y."""
    if SCALE == 1:
        result = raw.to(m.dtype) * m
    elif SCALE == 2:
        if m.dtype == tl.float32:
            result = tl.math.div_rn(raw.to(tl.float32), m)
        else:
            result = raw.to(tl.float64) / m
    else:
        # Only float64 input leaves float64; what is left of it rounds as the exact product would.
        wide = raw.to(tl.float64)
        size = tl.abs(wide)
        product = size * m.to(tl.float64)
        product = tl.where(
            (product == float("inf")) & (size < float("inf")), 1.7976931348623157e308, product
        )
        product = tl.where(
            (product < 2.2250738585072014e-308) & (size > 0), 2.2250738585072014e-308, product
        )
        result = tl.where(wide < 0, -product, product)
        result = tl.where(size == 0, wide, result)
    return result.to(y.dtype)


@triton.jit
def find_largest(
    x_at, out_at, entries, columns, rows, inner, tile_rows, tile_columns, down, across, total_rows,
    MASK: tl.constexpr, ENTRIES: tl.constexpr, LENGTH: tl.constexpr,
):  # fmt: skip
    """The largest magnitude of each block, as the bits of x: integers, NaN above infinity."""
    entry = tl.program_id(0).to(tl.int64) * ENTRIES + tl.arange(0, ENTRIES)
    known = entry < entries
    block = entry // inner
    right = block % across
    band = block // across
    top = (band // down) * rows + (band % down) * tile_rows
    bottom = tl.minimum(top + tile_rows, (band // down + 1) * rows)
    left = right * tile_columns
    end = tl.minimum(left + tile_columns, columns)
    best = tl.zeros((ENTRIES,), x_at.dtype.element_ty)
    for step in range(0, tile_rows):
        row = top + step
        for first in range(0, tile_columns, LENGTH):
            column = left[:, None] + first + tl.arange(0, LENGTH)[None, :]
            inside = known[:, None] & (row < bottom)[:, None] & (column < end[:, None])
            at = (row[:, None] * columns + column) * inner + (entry % inner)[:, None]
            bits = tl.load(x_at + at, mask=inside, other=0) & MASK
            best = tl.maximum(best, tl.max(bits, axis=1))
    tl.store(out_at + entry, best, mask=known)


@triton.jit
def count_reached(
    x_at, edges_at, out_at, count, EDGES: tl.constexpr, STEPS: tl.constexpr, BLOCK: tl.constexpr
):
    """How many of the ascending float64 edges each float64 x is at or above, by halving."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    x = tl.load(x_at + at, mask=inside, other=0.0)
    low = tl.zeros((BLOCK,), tl.int32)
    high = tl.full((BLOCK,), EDGES, tl.int32)
    for _ in range(STEPS):
        middle = (low + high) >> 1
        open_ = low < high
        edge = tl.load(edges_at + tl.minimum(middle, EDGES - 1), mask=inside, other=0.0)
        reached = open_ & (edge <= x)
        high = tl.where(open_ & (reached == 0), middle, high)
        low = tl.where(reached, middle + 1, low)
    tl.store(out_at + at, low, mask=inside)


@triton.jit
def look_up(codes_at, table_at, out_at, count, BLOCK: tl.constexpr):
    """out = table[codes]."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    code = tl.load(codes_at + at, mask=inside, other=0)
    tl.store(out_at + at, tl.load(table_at + code, mask=inside, other=0), mask=inside)
