"""Sums and products over the middle axis of (O, L, C) in Triton, in a vector unit's order.

The twin of `reduction.py` and `accumulation.py`. A tree adds x[l] + x[l + p], p the largest power
of two below the length: a level is one launch over the numbers of that level, or, for plain
rows of up to 4096, all levels are in one program's registers, filled up with -0, which changes no
sum. A sequence is a loop in one program. Nothing is reassociated: there is no `tl.sum`, which adds
in an order of its own.

Floor on an H200: 4 bytes a number in one program, 0.8 ps; level by level 16 bytes, 3.3 ps.
"""

import triton
import triton.language as tl

from .elementwise import combine, drawn, settled


@triton.jit
def _joined(x, y, index, seed, stream, v: tl.constexpr, t: tl.constexpr):
    """x + y, or x y, in the accumulator; `index`: of its random bits."""
    if v.plain:
        if v.product:
            return x * y
        else:
            return x + y
    else:
        wide = combine(x.to(tl.float64), y.to(tl.float64), v)
        return settled(wide, drawn(index, seed, stream, v, t), v, t)


@triton.jit(do_not_specialize=["seed", "stream", "made"])
def fold(
    x_at, out_at, length, half, columns, total, row_numbers, made, seed, stream,
    v: tl.constexpr, t: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A level: out (O, half, C) of x (O, length, C), `total` numbers.

    Addition m of a level draws element o row_numbers + made + m.
    """
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < total
    outer = at // (half * columns)
    within = at % (half * columns)
    low = outer * length * columns + within
    adds = within + half * columns < length * columns
    x = tl.load(x_at + low, mask=inside, other=0.0).to(out_at.dtype.element_ty)
    y = tl.load(x_at + low + half * columns, mask=inside & adds, other=0.0).to(x.dtype)
    result = _joined(x, y, outer * row_numbers + made + within, seed, stream, v, t)
    tl.store(out_at + at, tl.where(adds, result, x), mask=inside)


@triton.jit
def tree_rows(
    x_at, out_at, rows, length,
    PRODUCT: tl.constexpr, LEVELS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """All levels of rows (O, L) in one program; WIDTH = 2^LEVELS >= L, plain arithmetic."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    inside = (row < rows)[:, None] & (column < length)[None, :]
    neutral = 1.0 if PRODUCT else -0.0
    x = tl.load(x_at + row[:, None] * length + column[None, :], mask=inside, other=neutral)
    x = x.to(out_at.dtype.element_ty)
    for level in tl.static_range(LEVELS):
        half: tl.constexpr = WIDTH >> (level + 1)
        low, high = tl.split(tl.permute(tl.reshape(x, (ROWS, 2, half)), (0, 2, 1)))
        if PRODUCT:
            x = low * high
        else:
            x = low + high
    tl.store(out_at + row[:, None] + tl.zeros((ROWS, 1), tl.int64), x, mask=(row < rows)[:, None])


@triton.jit(do_not_specialize=["seed", "stream"])
def sequence(
    x_at, out_at, length, columns, total, seed, stream,
    v: tl.constexpr, t: tl.constexpr, SCAN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out (O, C), or all partial results (O, L, C) with SCAN, of x (O, L, C) in ascending l.

    Addition n of row o draws element o L C + (n - 1) C + c, or with SCAN that of its place.
    """
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < total
    outer = at // columns
    column = at % columns
    base = outer * length * columns + column
    so_far = tl.load(x_at + base, mask=inside, other=0.0).to(out_at.dtype.element_ty)
    if SCAN:
        tl.store(out_at + base, so_far, mask=inside)
    for n in range(1, length):
        place = base + n * columns
        x = tl.load(x_at + place, mask=inside, other=0.0).to(so_far.dtype)
        index = place if SCAN else place - columns
        so_far = _joined(so_far, x, index, seed, stream, v, t)
        if SCAN:
            tl.store(out_at + place, so_far, mask=inside)
    if SCAN == 0:
        tl.store(out_at + at, so_far, mask=inside)


@triton.jit(do_not_specialize=["seed", "stream"])
def add_rows(
    out_at, index_at, source_at, count, columns, seed, stream,
    v: tl.constexpr, t: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out[index[s]] += source[s] for s ascending, (R, C), (S,), (S, C); bits s C + c.

    A program owns its columns, and waits for all of its threads between two rows.
    """
    column = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = column < columns
    for s in range(count):
        place = tl.load(index_at + s).to(tl.int64) * columns + column
        number = column + tl.zeros((BLOCK,), tl.int64) + s * columns
        x = tl.load(out_at + place, mask=inside, other=0.0)
        y = tl.load(source_at + number, mask=inside, other=0.0).to(x.dtype)
        tl.store(out_at + place, _joined(x, y, number, seed, stream, v, t), mask=inside)
        tl.debug_barrier()  # the next row may be this one, read by another thread
