"""Two-stage orders in Triton: products fused and truncated, then aligned anew with the addend.

The twin of `two_stage.py`, whose equations and proof hold here: every floor is of an integer times
a power of two, all below 2^53, so no operation of float64 rounds, and none can be contracted to
other bits. The last rounding is on bits.

Cost a product: that of `align.py`; about 120 64-bit operations a block.
"""

import triton
import triton.language as tl

from ....formats.device.triton.bits import round_bits
from .align import exponent, power, raise_exponents, special_products, truncated_sum
from .sums import bits_of, float_of


@triton.jit
def joined(even, e_even, odd, e_odd, c, f: tl.constexpr):
    """The sum of both lanes and c after every floor but the last."""
    ed = tl.maximum(e_even, e_odd)
    total = tl.floor(even.to(tl.float64) * power(e_even - ed))
    total += tl.floor(odd.to(tl.float64) * power(e_odd - ed))
    e_c = tl.where(c == 0.0, f.c_floor, exponent(c, f.c_floor))
    em = tl.maximum(ed, e_c)
    total = tl.floor(total * power(ed - f.fraction_bits - em + f.guard)) * f.guard_unit
    addend = tl.floor(c * power(f.fraction_bits - em)) * f.fraction_unit
    if f.drop >= 0:
        addend = tl.where(e_c < em - f.drop, 0.0, addend)
    total = (total + addend) * power(em - f.width)
    return tl.where(total == 0.0, 0.0, total)


@triton.jit
def floored(value, f: tl.constexpr):
    """value to a multiple of 2^(e - sum_bits), e its own exponent."""
    e = ((bits_of(value) >> 52) & 2047).to(tl.int32) - 1023
    e = tl.maximum(e, f.c_floor)
    return tl.floor(value * power(f.sum_bits - e)) * power(e - f.sum_bits)


@triton.jit
def matmul(
    a_at, b_at, c_at, rows, columns, depth, a_batch, a_row, a_k, b_batch, b_k, b_column,
    f: tl.constexpr, g: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """c (B, M, N), contiguous, holds C and gets D; lane n of a block has the k = n mod lanes."""
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
    size: tl.constexpr = f.block // f.lanes
    for k0 in range(0, depth, f.block):
        none = tl.full((ROWS, COLUMNS), -16384, tl.int32)
        e_even = raise_exponents(
            none, a_at, b_at, a_at, b_at, a_k, b_k, a_k, b_k, k0, depth, size, f.lanes, down,
            right, f.least_a, f.least_b, False,
        )  # fmt: skip
        even = truncated_sum(
            e_even, a_at, b_at, a_k, b_k, k0, depth, size, f.lanes, down, right, f.fraction_bits,
            f.narrow, f.short,
        )  # fmt: skip
        e_odd, odd = none, even * 0
        if f.lanes == 2:
            e_odd = raise_exponents(
                none, a_at, b_at, a_at, b_at, a_k, b_k, a_k, b_k, k0 + 1, depth, size, 2, down,
                right, f.least_a, f.least_b, False,
            )  # fmt: skip
            odd = truncated_sum(
                e_odd, a_at, b_at, a_k, b_k, k0 + 1, depth, size, 2, down, right,
                f.fraction_bits, f.narrow, f.short,
            )  # fmt: skip
        value = joined(even, e_even, odd, e_odd, c, f)
        if f.sum_bits >= 0:
            value = floored(value, f)
        bits = bits_of(value)
        value = float_of(round_bits(bits, bits * 0, g))
        if f.special:
            endless = tl.abs(c) == float("inf")
            infinite, bad = special_products(
                tl.where(endless, c, 0.0), c != c, a_at, b_at, a_k, b_k, k0, depth, f.block, down,
                right, f.limit,
            )  # fmt: skip
            value = tl.where(infinite != 0.0, infinite, value)
            c = tl.where(bad, float("nan"), value)
        else:
            c = tl.where(tl.abs(c) == float("inf"), c, value)
    tl.store(c_at + number, c.to(c_at.dtype.element_ty), mask=inside)
