"""How far the values of an array reach: its largest magnitude and its lowest bit."""

import numpy as np

from ...formats.jit import bits_float, float_bits, jit

_FRACTION = np.int64((1 << 52) - 1)
_ABS = np.int64((1 << 63) - 1)
_INFINITE = np.int64(0x7FF) << 52


@jit
def extent(x):  # type: ignore[no-untyped-def]
    """(e, m) of a flat array: all finite values are multiples of 2^e and at most m.

    (1100, 0.0) if there is none but zeros. Exact down to 2^-1022, which no operand goes below.
    """
    low, high = np.int64(1100), np.int64(0)
    for i in range(x.size):
        bits = float_bits(np.float64(x[i])) & _ABS
        sig = (bits & _FRACTION) | (_FRACTION + 1)
        tail = (float_bits(np.float64(sig & -sig)) >> 52) - 1023
        e = (bits >> 52) - 1023 - 52 + tail
        counts = (bits != 0) & (bits < _INFINITE)
        low = min(low, e if counts else low)
        high = max(high, bits if counts else high)
    return low, bits_float(high)
