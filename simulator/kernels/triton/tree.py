"""Trees in Triton: groups of products summed in pairs, every sum rounded; the twin of `tree.py`.

A tree of a size is two of half that size and an addition, written as a function that is compiled
for each size. Sums are rounded to odd in float64 (see `sums.py` for what would break that, and why
nothing does), then on bits; a leaf of several products is summed as in `exact.py`.

Cost a product: about 8 float64 and 35 64-bit integer operations: floor 0.2 T MAC/s on an H200.
"""

import triton
import triton.language as tl

from ....formats.device.triton.bits import round_bits
from .align import load_vector
from .exact import cascade, join, sum_in_digits
from .sums import bits_of, float_of, flushed, to_odd_sum


@triton.jit
def rounded(value, f: tl.constexpr, g: tl.constexpr):
    """A sum to odd in the accumulator, flushed as the order says."""
    if f.before:
        value = flushed(value, f.smallest)
    bits = bits_of(value)
    value = float_of(round_bits(bits, bits * 0, g))
    if f.after:
        value = flushed(value, f.smallest)
    return value


@triton.jit
def leaf(a_at, b_at, a_k, b_k, k0, depth, down, right, lost, f: tl.constexpr, g: tl.constexpr):
    """(The products of a leaf, exactly summed and rounded, whether a pair ever did not hold it.)"""
    x = load_vector(a_at, k0, a_k, depth, down).to(tl.float64)
    y = load_vector(b_at, k0, b_k, depth, right).to(tl.float64)
    s = x[:, None] * y[None, :]
    if f.leaf > 1:
        e = (s != s).to(tl.float64) * 0.0
        for m in range(1, f.leaf):
            x = load_vector(a_at, k0 + m, a_k, depth, down).to(tl.float64)
            y = load_vector(b_at, k0 + m, b_k, depth, right).to(tl.float64)
            s, e = cascade(s, e, x[:, None] * y[None, :])
        s, none = join(s, e)
        lost = lost | none
        if f.digits > 0:
            # Products beyond the depth are zeros, and what is masked is not added.
            end = tl.minimum(k0 + f.leaf, depth)
            zero = (s != s).to(tl.float64) * 0.0
            again = sum_in_digits(
                zero, a_at, b_at, a_k, b_k, k0, end, down, right, f.lowest, f.digits
            )
            s = tl.where(none, again, s)
    return rounded(s, f, g), lost


@triton.jit
def subtree(
    a_at, b_at, a_k, b_k, k0, depth, down, right, lost,
    f: tl.constexpr, g: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """The rounded sum of SIZE products from k0 on."""
    if SIZE == f.leaf:
        s, lost = leaf(a_at, b_at, a_k, b_k, k0, depth, down, right, lost, f, g)
    else:
        half: tl.constexpr = SIZE // 2
        x, lost = subtree(a_at, b_at, a_k, b_k, k0, depth, down, right, lost, f, g, half)
        y, lost = subtree(a_at, b_at, a_k, b_k, k0 + half, depth, down, right, lost, f, g, half)
        s = rounded(to_odd_sum(x, y), f, g)
    return s, lost


@triton.jit
def matmul(
    a_at, b_at, c_at, out_at, lost_at, rows, columns, depth,
    a_batch, a_row, a_k, b_batch, b_k, b_column,
    f: tl.constexpr, g: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """out = C with the groups of products added in turn; lost (programs): as in `exact.py`."""
    h = tl.program_id(1).to(tl.int64)
    across = tl.cdiv(columns, COLUMNS)
    i = (tl.program_id(0) // across).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    j = (tl.program_id(0) % across).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    down, right = i < rows, j < columns
    inside = down[:, None] & right[None, :]
    number = (h * rows + i[:, None]) * columns + j[None, :]
    a_at += h * a_batch + i * a_row
    b_at += h * b_batch + j * b_column
    c = tl.load(c_at + number, mask=inside, other=0.0).to(tl.float64)
    lost = inside & (inside == 0)
    for k0 in range(0, depth, f.group):
        s, lost = subtree(a_at, b_at, a_k, b_k, k0, depth, down, right, lost, f, g, f.group)
        c = rounded(to_odd_sum(c, s), f, g)
    found = tl.max(tl.max((lost & inside).to(tl.int32), axis=1), axis=0)
    tl.store(lost_at + tl.program_id(1) * tl.num_programs(0) + tl.program_id(0), found)
    tl.store(out_at + number, c.to(out_at.dtype.element_ty), mask=inside)
