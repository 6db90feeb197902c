"""Fused blocks in Triton: align, truncate, sum exactly, round once; the twin of `fused.py`.

    S = sum_i trunc(a_i b_i 2^(F - emax)) + trunc(c 2^(F - emax)),   c' = round(S 2^(emax - F))

Sums are integers below 2^53 (the row has checked), so their order, and whether something is
contracted, is of no consequence; the scaling is by powers of two; the rounding is on bits.
There is no `tl.dot`: tensor cores would truncate as the GPU does, not as the emulated chip.

Cost a product on an H200, narrow: 6 operations, of which 3 on the integer pipe and a conversion on
another (64 a clock and SM each): floor 5.6 T MAC/s; per block of L products about 90 64-bit
operations for c, the rounding and the store, or 90 · 2 / L a product: with L = 32 and 16 floors of
1.9 and 1.2 T MAC/s.
"""

import triton
import triton.language as tl

from ....formats.device.triton.bits import round_bits
from ....formats.device.triton.random import draw_block
from .align import exponent, power, raise_exponents, special_products, truncated_sum, within
from .sums import bits_of, float_of


@triton.jit
def settled(
    total, c, emax, number, k0, seed, stream, before, words, f: tl.constexpr, g: tl.constexpr
):
    """The integer sum and the aligned c, rounded: float64, a zero is +0."""
    addend = (c * power(f.fraction_bits - emax)).to(tl.int64)
    value = (total + addend).to(tl.float64) * power(emax - f.fraction_bits)
    bits = bits_of(value)
    r = bits * 0
    if g.k > 0:
        word, _, _, _ = draw_block((number * words + before + k0) >> 2, seed, stream)
        r = (word >> (32 - g.k)).to(tl.int64)
    rounded = float_of(round_bits(bits, r, g))
    return tl.where(rounded == 0.0, 0.0, rounded)


@triton.jit(do_not_specialize=["seed", "stream", "before", "words"])
def matmul(
    a_at, b_at, c_at, ea_at, eb_at, sa_at, sb_at, rows, columns, depth,
    a_batch, a_row, a_k, b_batch, b_k, b_column,
    sa_batch, sa_row, sa_k, sb_batch, sb_k, sb_column, seed, stream, before, words,
    f: tl.constexpr, g: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """c (B, M, N), contiguous, holds C and gets D; a (B, M, K), b (B, K, N).

    ea, eb: exponents in the strides of a and b, if f.exponents; sa (B, M, S), sb (B, S, N): the
    exponents of scales that move whole blocks, if f.scale_block. f.special: operands or C may
    hold infinities and NaN. The words of a stochastic rounding are those of `fused.random_word`.
    """
    h = tl.program_id(1).to(tl.int64)
    across = tl.cdiv(columns, COLUMNS)
    i = (tl.program_id(0) // across).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    j = (tl.program_id(0) % across).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    down, right = i < rows, j < columns
    inside = down[:, None] & right[None, :]
    number = (h * rows + i[:, None]) * columns + j[None, :]
    a_at += h * a_batch + i * a_row
    b_at += h * b_batch + j * b_column
    ea_at += h * a_batch + i * a_row
    eb_at += h * b_batch + j * b_column
    sa_at += h * sa_batch + i * sa_row
    sb_at += h * sb_batch + j * sb_column
    c = tl.load(c_at + number, mask=inside, other=0.0).to(tl.float64)
    for k0 in range(0, depth, f.block):
        emax = tl.maximum(exponent(c, f.c_floor), f.floor)
        if f.scale_block > 0:
            at = k0 // f.scale_block
            left = tl.load(sa_at + at * sa_k, mask=down, other=0).to(tl.int32)
            top = tl.load(sb_at + at * sb_k, mask=right, other=0).to(tl.int32)
            move = left[:, None] + top[None, :]
            emax = emax - move
        emax = raise_exponents(
            emax, a_at, b_at, ea_at, eb_at, a_k, b_k, a_k, b_k, k0, depth, f.block, 1, down,
            right, f.least_a, f.least_b, f.exponents,
        )  # fmt: skip
        total = truncated_sum(
            emax, a_at, b_at, a_k, b_k, k0, depth, f.block, 1, down, right, f.fraction_bits,
            f.narrow, f.short,
        )  # fmt: skip
        if f.scale_block > 0:
            emax = emax + move
        value = settled(total, c, emax, number, k0, seed, stream, before, words, f, g)
        if f.special:
            endless = tl.abs(c) == float("inf")
            infinite, bad = special_products(
                tl.where(endless, c, 0.0), c != c, a_at, b_at, a_k, b_k, k0, depth, f.block, down,
                right, float("inf"),
            )  # fmt: skip
            value = tl.where(infinite != 0.0, infinite, value)
            value = tl.where(bad, float("nan"), value)
            c = value
        else:
            c = tl.where(tl.abs(c) == float("inf"), c, value)
    tl.store(c_at + number, c.to(c_at.dtype.element_ty), mask=inside)


@triton.jit
def _any_nonzero(a_at, b_at, a_k, b_k, k0, end, size, down, right, found):
    """Whether a product of the group is not zero."""
    from_ = found
    for m in range(size):
        x = tl.load(a_at + (k0 + m) * a_k, mask=within(down, k0 + m, end), other=0.0)
        y = tl.load(b_at + (k0 + m) * b_k, mask=within(right, k0 + m, end), other=0.0)
        from_ = from_ | ((x != 0.0)[:, None] & (y != 0.0)[None, :])
    return from_


@triton.jit
def _group_sum(zero, a_at, b_at, a_k, b_k, k0, end, size, down, right):
    """The exact sum of a group of products, in the dtype of `zero`."""
    total = zero
    for m in range(size):
        x = tl.load(a_at + (k0 + m) * a_k, mask=within(down, k0 + m, end), other=0.0).to(zero.dtype)
        y = tl.load(b_at + (k0 + m) * b_k, mask=within(right, k0 + m, end), other=0.0).to(
            zero.dtype
        )
        total += x[:, None] * y[None, :]
    return total


@triton.jit
def _special_group(infinite, bad, scale, a_at, b_at, a_k, b_k, k0, end, size, down, right):
    for m in range(size):
        x = tl.load(a_at + (k0 + m) * a_k, mask=within(down, k0 + m, end), other=0.0).to(tl.float64)
        y = tl.load(b_at + (k0 + m) * b_k, mask=within(right, k0 + m, end), other=0.0).to(
            tl.float64
        )
        p = x[:, None] * y[None, :] * scale
        endless = tl.abs(p) == float("inf")
        bad = bad | (p != p) | (endless & (infinite != 0.0) & (infinite != p))
        infinite = tl.where(endless, p, infinite)
    return infinite, bad


@triton.jit(do_not_specialize=["seed", "stream", "before", "words"])
def matmul_grouped(
    a_at, b_at, c_at, sa_at, sb_at, ea_at, eb_at, rows, columns, depth,
    a_batch, a_row, a_k, b_batch, b_k, b_column,
    sa_batch, sa_row, sa_k, sb_batch, sb_k, sb_column, seed, stream, before, words,
    f: tl.constexpr, g: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """As `matmul` for groups summed exactly and aligned by their scales alone (`grouped.py`).

    sa, sb: float64 scales, ea, eb their exponents in the same strides. A group's sum is an integer
    number of its least step that float32 (f.narrow) or float64 holds, so it may be contracted.
    """
    h = tl.program_id(1).to(tl.int64)
    across = tl.cdiv(columns, COLUMNS)
    i = (tl.program_id(0) // across).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    j = (tl.program_id(0) % across).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    down, right = i < rows, j < columns
    inside = down[:, None] & right[None, :]
    number = (h * rows + i[:, None]) * columns + j[None, :]
    a_at += h * a_batch + i * a_row
    b_at += h * b_batch + j * b_column
    sa_at += h * sa_batch + i * sa_row
    sb_at += h * sb_batch + j * sb_column
    ea_at += h * sa_batch + i * sa_row
    eb_at += h * sb_batch + j * sb_column
    c = tl.load(c_at + number, mask=inside, other=0.0).to(tl.float64)
    for k0 in range(0, depth, f.block):
        emax = tl.maximum(exponent(c, f.c_floor), f.floor)
        infinite = tl.where(tl.abs(c) == float("inf"), c, 0.0)
        bad = c != c
        for k1 in range(k0, k0 + f.block, f.group):
            at = k1 // f.scale_block
            sa = tl.load(sa_at + at * sa_k, mask=within(down, k1, depth), other=1.0)
            sb = tl.load(sb_at + at * sb_k, mask=within(right, k1, depth), other=1.0)
            e = tl.load(ea_at + at * sa_k, mask=within(down, k1, depth), other=0).to(tl.int32)
            ef = tl.load(eb_at + at * sb_k, mask=within(right, k1, depth), other=0).to(tl.int32)
            counts = _any_nonzero(
                a_at, b_at, a_k, b_k, k1, depth, f.group, down, right, emax != emax
            )
            counts = counts & ((sa != 0.0)[:, None] & (sb != 0.0)[None, :])
            own = e[:, None] + ef[None, :]
            emax = tl.where(counts, tl.maximum(own, emax), emax)
            if f.special:
                infinite, bad = _special_group(
                    infinite, bad, sa[:, None] * sb[None, :], a_at, b_at, a_k, b_k, k1, depth,
                    f.group, down, right,
                )  # fmt: skip
        unit = power(f.fraction_bits - emax)
        total = (emax * 0).to(tl.int64)
        for k1 in range(k0, k0 + f.block, f.group):
            at = k1 // f.scale_block
            sa = tl.load(sa_at + at * sa_k, mask=within(down, k1, depth), other=1.0)
            sb = tl.load(sb_at + at * sb_k, mask=within(right, k1, depth), other=1.0)
            if f.narrow:
                zero = (emax * 0).to(tl.float32)
            else:
                zero = (emax * 0).to(tl.float64)
            part = _group_sum(zero, a_at, b_at, a_k, b_k, k1, depth, f.group, down, right)
            scaled = part.to(tl.float64) * (sa[:, None] * sb[None, :]) * unit
            total += scaled.to(tl.int64)
        value = settled(total, c, emax, number, k0, seed, stream, before, words, f, g)
        if f.special:
            value = tl.where(infinite != 0.0, infinite, value)
            c = tl.where(bad, float("nan"), value)
        else:
            c = tl.where(tl.abs(c) == float("inf"), c, value)
    tl.store(c_at + number, c.to(c_at.dtype.element_ty), mask=inside)
