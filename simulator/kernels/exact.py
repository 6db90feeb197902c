"""Exact sums of products (Kulisch), rounded once.

`matmul` keeps each sum as s + e, by two cascaded TwoSums (Knuth): s the running sum, e the sum of
its errors. A product is exact in float64; while adding up the errors makes no error, s + e is the
exact sum, and s + e rounded to odd is what the accumulator's rounding needs. Else (terms more
than about 100 bits apart) e turns NaN, and the block is summed again in digits.
Cost a product: 1 multiplication and 13 additions on 64-bit lanes; columns are the lanes.

The digits: a sum is an integer in 32-bit digits, each held in an int64 so that 2^31
products can be added before a carry is due. A product of two operands of at most 26 significand
bits has at most 52 bits; digit 0 counts units of 2^`lowest`. At the end the carries are settled
and the leading bits, with a sticky bit for the rest, go into one float64 rounded to odd.
Cost a product in digits: about 20 scalar operations and 3 digit updates in the first-level cache.
"""

import numpy as np

from ...formats.jit import float_bits, jit, parallel_jit, prange, scalar_jit
from ...formats.kernels import power_of_two
from . import grid as grids
from .align import TILE
from .chain import to_odd_sum

#: The `spec` array: block, exponent of the lowest bit, digits, rounding mode, then the grid.
BLOCK, LOWEST, DIGITS, MODE, GRID = range(5)

_FRACTION = np.int64((1 << 52) - 1)
_DIGIT = np.int64((1 << 32) - 1)


@jit
def _split(x):  # type: ignore[no-untyped-def]
    """x = sig * 2^e with an odd or zero integer sig below 2^53; x finite, normal or zero."""
    if x == 0.0:
        return np.int64(0), np.int64(0)
    bits = float_bits(x)
    sig = (bits & _FRACTION) | (_FRACTION + 1)
    e = ((bits >> 52) & 2047) - 1075
    while sig & 1 == 0:
        sig >>= 1
        e += 1
    return (-sig if bits < 0 else sig), e


@jit
def _add(digits, product, e, lowest):  # type: ignore[no-untyped-def]
    """digits += product * 2^e for an integer |product| < 2^53."""
    whole, sign = np.abs(product), np.int64(-1 if product < 0 else 1)
    for part in range(2):
        place = e - lowest + 26 * part
        piece = ((whole >> 26) if part else (whole & 0x3FFFFFF)) << (place & 31)
        digits[place >> 5] += sign * (piece & _DIGIT)
        digits[(place >> 5) + 1] += sign * (piece >> 32)


@jit
def _settle(digits):  # type: ignore[no-untyped-def]
    """Carry until each digit is 0 .. 2^32 - 1 of the magnitude; returns the sign."""
    carry = np.int64(0)
    for d in range(digits.size):
        t = digits[d] + carry
        digits[d] = t & _DIGIT
        carry = t >> 32
    if carry >= 0:
        return 1.0
    borrow = np.int64(1)
    for d in range(digits.size):
        t = (digits[d] ^ _DIGIT) + borrow
        digits[d] = t & _DIGIT
        borrow = t >> 32
    return -1.0


@jit
def _total(digits, lowest):  # type: ignore[no-untyped-def]
    """The sum as a float64 rounded to odd; overwrites `digits`."""
    sign = _settle(digits)
    top = digits.size - 1
    while top >= 0 and digits[top] == 0:
        top -= 1
    if top < 0:
        return 0.0
    length = 0
    while digits[top] >> length:
        length += 1
    low = 32 * top + length - 54
    sig, sticky = np.int64(0), False
    for d in range(top + 1):
        places = 32 * d - low
        if places >= 0:
            sig |= digits[d] << places
        elif places > -32:
            sig |= digits[d] >> -places
            sticky = sticky or (digits[d] & ((np.int64(1) << -places) - 1)) != 0
        else:
            sticky = sticky or digits[d] != 0
    sig = (sig >> 1) | np.int64(sticky or (sig & 1) != 0)
    return sign * np.float64(sig) * power_of_two(low + 1 + lowest)


@scalar_jit
def _two_sum(x, y):  # type: ignore[no-untyped-def]
    s = x + y
    back = s - x
    return s, (x - (s - back)) + (y - back)


@scalar_jit
def _cascade(s, e, p):  # type: ignore[no-untyped-def]
    """(s, e) + p as such a pair; e is NaN once two numbers no longer hold the sum."""
    total, error = _two_sum(s, p)
    errors, rest = _two_sum(e, error)
    return total, errors if rest == 0.0 else np.nan


@jit
def accumulate(s, e, x, row, width):  # type: ignore[no-untyped-def]
    """s + e += x row."""
    for j in range(width):
        s[j], e[j] = _cascade(s[j], e[j], x * np.float64(row[j]))


@jit
def accumulate_two(s, e, x0, x1, row0, row1, width):  # type: ignore[no-untyped-def]
    """Two products in one pass."""
    for j in range(width):
        total, errors = _cascade(s[j], e[j], x0 * np.float64(row0[j]))
        s[j], e[j] = _cascade(total, errors, x1 * np.float64(row1[j]))


@jit
def _begin(s, e, c, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        s[j], e[j] = c[j], 0.0


@jit
def join(s, e, width):  # type: ignore[no-untyped-def]
    """s = s + e rounded to odd where e is a number; whether it is none for some finite s."""
    lost = np.int64(0)
    for j in range(width):
        finite, known = np.abs(s[j]) < np.inf, e[j] == e[j]
        lost |= np.int64(finite & (not known))
        s[j] = to_odd_sum(s[j], e[j]) if finite & known else s[j]
    return lost != 0


@jit
def sum_in_digits(x, column, c, lowest, digits):  # type: ignore[no-untyped-def]
    """c + x . column to odd, all finite."""
    digits[:] = 0
    sig, e = _split(c)
    if sig != 0:
        _add(digits, sig, e, lowest)
    for k in range(x.size):
        sa, ea = _split(np.float64(x[k]))
        sb, eb = _split(np.float64(column[k]))
        if sa != 0 and sb != 0:
            _add(digits, sa * sb, ea + eb, lowest)
    return _total(digits, lowest)


@jit
def _positive_zeros(s, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        s[j] = 0.0 if s[j] == 0.0 else s[j]


@jit
def _again(x, y, c, s, e, lowest, digits, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        if np.isnan(e[j]) and np.abs(s[j]) < np.inf:
            s[j] = sum_in_digits(x, y[:, j], c[j], lowest, digits)


@parallel_jit
def matmul(a, b, out, spec):  # type: ignore[no-untyped-def]
    """out (B, M, N) float64 holds C and gets the result of all blocks; a (B, M, K), b (B, K, N)."""
    batch, rows, columns = out.shape
    for n in prange(batch * rows):
        grid, block, depth = grids.unpack(spec[GRID:]), spec[BLOCK], a.shape[2]
        digits = np.empty(spec[DIGITS], np.int64)
        s, e = np.empty(TILE), np.empty(TILE)
        x, y = a[n // rows, n % rows], b[n // rows]
        for j0 in range(0, columns, TILE):
            width = min(TILE, columns - j0)
            j1 = j0 + width
            c = out[n // rows, n % rows, j0:j1]
            for k0 in range(0, max(depth, 1), block):
                k1 = min(k0 + block, depth)
                _begin(s, e, c, width)
                for k in range(k0, k1 - 1, 2):
                    accumulate_two(
                        s, e, np.float64(x[k]), np.float64(x[k + 1]),
                        y[k, j0:j1], y[k + 1, j0:j1], width,
                    )  # fmt: skip
                if (k1 - k0) % 2 == 1:
                    accumulate(s, e, np.float64(x[k1 - 1]), y[k1 - 1, j0:j1], width)
                if join(s, e, width):
                    _again(x[k0:k1], y[k0:k1, j0:j1], c, s, e, spec[LOWEST], digits, width)
                _positive_zeros(s, width)
                grids.round_row(s, grid, spec[MODE], False, width)
                c[:] = s[:width]


@parallel_jit
def round_rows(sums, spec):  # type: ignore[no-untyped-def]
    """Sums to odd (B, M, N) rounded in place, zeros positive."""
    batch, rows, columns = sums.shape
    for n in prange(batch * rows):
        row = sums[n // rows, n % rows]
        _positive_zeros(row, columns)
        grids.round_row(row, grids.unpack(spec[GRID:]), spec[MODE], False, columns)
