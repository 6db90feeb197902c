"""Exact sums of products in Triton, rounded once, and integer sums that saturate.

The twin of `exact.py`: a sum is kept as s + e by two cascaded TwoSums (Knuth), exact while adding
up the errors makes no error; where it does, e turns NaN, and the launcher runs the kernel again
with the digits. Those are exact for any operands: for each 32-bit digit, ascending, the bits of
all products in it are added as integers; once for the sign, once for the magnitude, whose digits
then join from the lowest up, each sum rounded to odd, which keeps what lies below apart from zero.

Excluded: contraction and reassociation would break the TwoSums (see `sums.py`).

Cost a product: 1 multiplication and 13 additions in float64: floor on an H200 1.2 T MAC/s. Digits:
about 25 64-bit integer operations a product and digit, twice.
"""

import triton
import triton.language as tl

from ....formats.device.triton.bits import round_bits
from .align import load_vector
from .sums import bits_of, float_of, to_odd_sum, two_sum


@triton.jit
def cascade(s, e, p):
    """(s, e) + p as such a pair; e is NaN once two numbers no longer hold the sum."""
    total, error = two_sum(s, p)
    errors, rest = two_sum(e, error)
    return total, tl.where(rest == 0.0, errors, float("nan"))


@triton.jit
def join(s, e):
    """(s + e rounded to odd where e is a number, where it is none for a finite s)."""
    finite = tl.abs(s) < float("inf")
    known = e == e
    return tl.where(finite & known, to_odd_sum(s, e), s), finite & (known == 0)


@triton.jit
def _digit_of(p, place, LOWEST: tl.constexpr):
    """The bits of p / 2^LOWEST in digit place / 32, with p's sign, int64; p normal or zero."""
    bits = bits_of(p)
    sig = (bits & 0xFFFFFFFFFFFFF) | 0x10000000000000
    off = ((bits >> 52) & 2047) - 1075 - LOWEST - place
    left = (sig & 0xFFFFFFFF) << tl.minimum(tl.maximum(off, 0), 31)
    right = sig >> tl.minimum(tl.maximum(-off, 0), 63)
    piece = tl.where(off >= 0, left, right) & 0xFFFFFFFF
    piece = tl.where((off >= 32) | (p == 0.0), 0, piece)
    return tl.where(bits < 0, -piece, piece)


@triton.jit
def _digit_sum(carry, c, a_at, b_at, a_k, b_k, k0, end, down, right, place, LOWEST: tl.constexpr):
    """carry + the digit of c and of all products from k0 to end - 1."""
    total = carry + _digit_of(c, place, LOWEST)
    for k in range(k0, end):
        x = load_vector(a_at, k, a_k, end, down).to(tl.float64)
        y = load_vector(b_at, k, b_k, end, right).to(tl.float64)
        total += _digit_of(x[:, None] * y[None, :], place, LOWEST)
    return total


@triton.jit
def sum_in_digits(
    c, a_at, b_at, a_k, b_k, k0, end, down, right, LOWEST: tl.constexpr, DIGITS: tl.constexpr
):
    """c + the products to odd; of use where all are finite."""
    carry = (c * 0.0 != c * 0.0).to(tl.int64) * 0
    for d in range(DIGITS):
        total = _digit_sum(carry, c, a_at, b_at, a_k, b_k, k0, end, down, right, 32 * d, LOWEST)
        carry = total >> 32
    negative = carry < 0
    carry = carry * 0
    result = carry.to(tl.float64)
    for d in range(DIGITS):
        plain = _digit_sum(carry * 0, c, a_at, b_at, a_k, b_k, k0, end, down, right, 32 * d, LOWEST)
        total = carry + tl.where(negative, -plain, plain)
        carry = total >> 32
        field = carry * 0 + (32 * d + LOWEST + 1023)
        unit = (field << 52).to(tl.float64, bitcast=True)
        result = to_odd_sum(result, (total & 0xFFFFFFFF).to(tl.float64) * unit)
    return tl.where(negative, -result, result)


@triton.jit
def matmul(
    a_at, b_at, c_at, out_at, lost_at, rows, columns, depth,
    a_batch, a_row, a_k, b_batch, b_k, b_column,
    f: tl.constexpr, g: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """out = C with the blocks of products; lost (programs): whether a pair did not hold a sum."""
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
    any_lost = c != c
    any_lost = any_lost & (c == c)
    for k0 in range(0, depth, f.block):
        end = tl.minimum(k0 + f.block, depth)
        s = c
        e = c * 0.0
        e = tl.where(e == e, e, 0.0)
        for k in range(k0, end):
            x = load_vector(a_at, k, a_k, end, down).to(tl.float64)
            y = load_vector(b_at, k, b_k, end, right).to(tl.float64)
            s, e = cascade(s, e, x[:, None] * y[None, :])
        value, lost = join(s, e)
        any_lost = any_lost | (lost & inside)
        if f.digits > 0:
            again = sum_in_digits(c, a_at, b_at, a_k, b_k, k0, end, down, right, f.lowest, f.digits)
            value = tl.where(lost, again, value)
        value = tl.where(value == 0.0, 0.0, value)
        bits = bits_of(value)
        c = float_of(round_bits(bits, bits * 0, g))
    found = tl.max(tl.max(any_lost.to(tl.int32), axis=1), axis=0)
    tl.store(lost_at + tl.program_id(1) * tl.num_programs(0) + tl.program_id(0), found)
    tl.store(out_at + number, c.to(out_at.dtype.element_ty), mask=inside)


@triton.jit
def saturate(
    a_at, b_at, c_at, rows, columns, depth, a_batch, a_row, a_k, b_batch, b_k, b_column,
    LOW: tl.constexpr, HIGH: tl.constexpr, PART_LOW: tl.constexpr, PART_HIGH: tl.constexpr,
    BLOCK: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Integer sums as `integer.py`: sums of GROUP products clamped and added, the total clamped
    after each BLOCK; integers below 2^53 in float64, exact whatever is contracted."""
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
    for k0 in range(0, depth, BLOCK):
        end = tl.minimum(k0 + BLOCK, depth)
        for k1 in range(k0, end, GROUP):
            part = c * 0.0
            for k in range(k1, tl.minimum(k1 + GROUP, end)):
                x = load_vector(a_at, k, a_k, end, down).to(tl.float64)
                y = load_vector(b_at, k, b_k, end, right).to(tl.float64)
                part += x[:, None] * y[None, :]
            part = tl.where(part < PART_LOW, PART_LOW, tl.where(part > PART_HIGH, PART_HIGH, part))
            c += part
        c = tl.where(c < LOW, LOW, tl.where(c > HIGH, HIGH, c))
    tl.store(c_at + number, c.to(c_at.dtype.element_ty), mask=inside)
