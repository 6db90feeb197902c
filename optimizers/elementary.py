"""exp and log of float32 and points on a circle, defined by their operations.

A library's functions differ in the last bit from machine to machine and version to version. These
are float32 additions, multiplications and fused multiply-adds, each rounded to nearest, in a fixed
order, so that every machine computes the same bits; `kernels.elementary` computes them fast. The
polynomials are minimax fits of this project. Largest errors: exp 1.06 ulp, log 1.28 ulp, of
`quarter_point` 2.3e-7 absolute (the tests of LMD measure them against float64).

Inside an emulation nothing of this is used: exp and log are the chip's there.
"""

import numpy as np
from numpy.typing import NDArray

Singles = NDArray[np.float32]

_F = np.float32
#: (e^r − 1 − r)/r² on |r| <= ln 2/2, and (log(1 + t) − t)/t² on √½ − 1 <= t < √2 − 1.
EXP = tuple(map(_F, (0.5, 0.16666512191, 0.041666187346, 0.0083695985377, 0.0013951719739)))
LOG = tuple(
    map(
        _F,
        (
            -0.49999991059, 0.33333951235, -0.25001755357, 0.19962072372,
            -0.16570508480, 0.14917974174, -0.14307518303, 0.087348364294,
        ),
    )
)  # fmt: skip
#: sin(πy/4)/y and cos(πy/4) by powers of y², |y| <= 1.
SIN = tuple(map(_F, (0.78539816084, -0.080745432529, 0.0024900010240, -3.5950452239e-05)))
COS = tuple(map(_F, (0.99999997242, -0.30842425356, 0.015849915257, -0.00031888050838)))
LN2, PER_LN2 = _F(0.69314718056), _F(1.44269504089)
#: −ln 2 in two parts; the first has so few bits that n times it is exact.
LN2_HIGH, LN2_LOW = _F(-0.693359375), _F(2.12194440055e-4)
#: 1.5·2²³: added to a float32 below 2²², it leaves the nearest whole number in the low bits.
WHOLE = _F(12582912.0)
ROOT_HALF_BITS = 0x3F3504F3


def fma(a: Singles | np.float32, b: Singles | np.float32, c: Singles | np.float32) -> Singles:
    """a·b + c rounded once: the product is exact in float64, the sum is rounded to odd there."""
    product = np.multiply(a, b, dtype=np.float64)
    addend = np.broadcast_to(np.asarray(c, np.float64), product.shape)
    total = product + addend
    part = total - product
    lost = (product - (total - part)) + (addend - part)
    bits = total.view(np.int64)
    # Away from the even neighbour that was rounded to, where anything was lost.
    toward_zero = (lost < 0) != (total < 0)
    even = (bits & 1) == 0
    odd = np.where((lost != 0) & even, np.where(toward_zero, bits - 1, bits + 1), bits)
    return odd.view(np.float64).astype(np.float32)


def exp(x: Singles) -> Singles:
    """e^x = 2ⁿ·(1 + r + r²·P(r)), n = round(x/ln 2), r = x − n·ln 2; for |x| <= 87."""
    shifted = fma(x, PER_LN2, WHOLE)
    n = shifted - WHOLE
    r = fma(n, LN2_LOW, fma(n, LN2_HIGH, x))
    q: Singles = np.multiply(r, r)
    even = fma(EXP[1], r, EXP[0])
    odd = fma(EXP[4], q, fma(EXP[3], r, EXP[2]))
    p = fma(fma(odd, q, even), q, r) + _F(1)
    scaled: Singles = np.ldexp(p, n.astype(np.int32))
    return scaled


def log(x: Singles) -> Singles:
    """log x = k·ln 2 + t + t²·P(t), x = 2ᵏ·(1 + t), √½ <= 1 + t < √2; for positive normal x."""
    bits = x.view(np.int32) + np.int32(0x3F800000 - ROOT_HALF_BITS)
    k = (bits >> 23).astype(np.float32) - _F(127)
    t = ((bits & 0x7FFFFF) + np.int32(ROOT_HALF_BITS)).view(np.float32) - _F(1)
    z: Singles = np.multiply(t, t)
    low = fma(fma(LOG[3], t, LOG[2]), z, fma(LOG[1], t, LOG[0]))
    high = fma(fma(LOG[7], t, LOG[6]), z, fma(LOG[5], t, LOG[4]))
    zz: Singles = np.multiply(z, z)
    return fma(k, LN2, fma(fma(high, zz, low), z, t))


def quarter_point(y: Singles) -> tuple[Singles, Singles]:
    """√2·cos φ and √2·sin φ of the angle φ = π/4·(1 + y) of the first quadrant, −1 <= y < 1."""
    z: Singles = np.multiply(y, y)
    s: Singles = np.multiply(fma(fma(fma(SIN[3], z, SIN[2]), z, SIN[1]), z, SIN[0]), y)
    c = fma(fma(fma(COS[3], z, COS[2]), z, COS[1]), z, COS[0])
    return np.subtract(c, s), np.add(c, s)
