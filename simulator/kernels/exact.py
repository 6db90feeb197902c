"""Exact sums of products (Kulisch), rounded once.

`matmul_long` keeps each sum as an integer in 32-bit digits, each held in an int64 so that 2^31
products can be added before a carry is due. A product of two operands of at most 26 significand
bits has at most 52 bits; digit 0 counts units of 2^`lowest`. At the end the carries are settled
and the leading bits, with a sticky bit for the rest, go into one float64 rounded to odd.
Cost a product: about 20 scalar operations and 3 digit updates in the first-level cache.
"""

import numpy as np

from ...formats.jit import float_bits, jit, parallel_jit, prange
from ...formats.kernels import power_of_two

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


@parallel_jit
def matmul_long(a, b, out, lowest, digits_needed):  # type: ignore[no-untyped-def]
    """out (B, M, N) float64 = C + sum of products, rounded to odd; a (B, M, K), b (B, K, N) finite.

    2^lowest divides every product and every C. out holds C on entry.
    """
    batch, rows, columns = out.shape
    for n in prange(batch * rows):
        digits = np.empty(digits_needed, np.int64)
        left, right, c = a[n // rows, n % rows], b[n // rows], out[n // rows, n % rows]
        for j in range(columns):
            digits[:] = 0
            sig, e = _split(c[j])
            if sig != 0:
                _add(digits, sig, e, lowest)
            for k in range(left.size):
                sa, ea = _split(np.float64(left[k]))
                sb, eb = _split(np.float64(right[k, j]))
                if sa != 0 and sb != 0:
                    _add(digits, sa * sb, ea + eb, lowest)
            c[j] = _total(digits, lowest)
