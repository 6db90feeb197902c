"""Posits against SoftPosit and against the bit strings of the standard."""

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from tapeout.formats import decode, encode, get_format, list_formats, quantize
from tapeout.formats.tables.reference import posit_exact

softposit = pytest.importorskip(
    "softposit", reason="SoftPosit is not installed: it needs a C compiler to build"
)


def beside(x: np.ndarray) -> np.ndarray:
    """Every number, the float64 on either side of it, and all their negatives."""
    x = np.concatenate((x, np.nextafter(x, np.inf), np.nextafter(x, 0.0)))
    return np.concatenate((x, -x))


def turning_points(name: str, extra_es: int) -> np.ndarray:
    """Every value and every threshold of a posit format, by the standard's bit strings."""
    bits = int(name[5:].split("es")[0])
    exact = [posit_exact(code, bits + 1, extra_es) for code in range(1 << bits)]
    return np.array([float(x) for x in exact if x is not None])


def test_eight_bits_es0_equals_softposit_at_every_turning_point() -> None:
    x = beside(turning_points("posit8es0", 0))
    want = [softposit.convertDoubleToP8(v).v for v in x.tolist()]
    assert encode(x, "posit8es0").tolist() == want
    codes = np.arange(256, dtype=np.uint8)
    values = decode(codes, "posit8es0").tolist()
    for code, value in zip(codes.tolist(), values, strict=True):
        posit = softposit.posit8(bits=code)
        assert math.isnan(value) if code == 0x80 else float(posit) == value


def test_sixteen_bits_es1_equals_softposit() -> None:
    rng = np.random.default_rng(16)
    points = rng.choice(turning_points("posit16es1", 1), 4000)
    noise = rng.standard_normal(4000) * 2.0 ** rng.integers(-30, 30, 4000)
    x = np.concatenate((beside(points), noise))
    want = [softposit.convertDoubleToP16(v).v for v in x.tolist()]
    assert encode(x, "posit16es1").tolist() == want


def in_bits(x: float, bits: int) -> int:
    """SoftPosit's posit with es = 2 of any width stands at the left end of 32 bits."""
    return int(softposit.convertDoubleToPX2(x, bits).v) >> (32 - bits)


@pytest.mark.parametrize("bits", range(2, 13))
def test_es2_of_every_width_decodes_as_softposit(bits: int) -> None:
    name = f"posit{bits}es2"
    values = decode(np.arange(2 ** (bits - 1), dtype=np.uint16), name)
    for code, value in enumerate(values.tolist()):
        assert in_bits(value, bits) == code


@pytest.mark.parametrize("bits", range(2, 17))
def test_es2_of_every_width_rounds_as_softposit(bits: int) -> None:
    rng = np.random.default_rng(bits)
    name = f"posit{bits}es2"
    points = turning_points(name, 2)
    x = beside(points if len(points) < 600 else rng.choice(points, 600))
    x = np.concatenate((x, rng.standard_normal(400) * 2.0 ** rng.integers(-40, 40, 400)))
    want = [in_bits(v, bits) for v in x.tolist()]
    assert encode(x, name).tolist() == want


def test_nothing_but_zero_becomes_zero_and_nothing_finite_becomes_not_real() -> None:
    x = np.array([1e-300, -1e-300, 5e-324, 1e300, -1e300, 0.0, -0.0])
    for name in ("posit8es0", "posit16es1", "posit2es0", "posit7es3"):
        row = get_format(name)
        top = row.largest
        for rounding in ("nearest_even", "nearest_away"):
            got = quantize(x, name, rounding=rounding)
            assert got.tolist() == [1 / top, -1 / top, 1 / top, top, -top, 0.0, 0.0]
            assert not np.signbit(got[-2:]).any()
        bad = np.array([np.inf, -np.inf, np.nan])
        assert np.isnan(quantize(bad, name)).all()
        assert (encode(bad, name) == 1 << (row.bits - 1)).all()
    assert quantize(x[:2], "posit8es0", rounding="toward_zero").tolist() == [0.0, 0.0]


def test_published_examples() -> None:
    """Gustafson & Yonemoto 2017, figure 5: 0 0001 101 11011101 with es = 3 is 477/2^27."""
    assert decode(0b0000110111011101, "posit16es3") == 477 / 134217728
    assert decode(0b01000000, "posit8") == 1.0 and get_format("posit8").largest == 2.0**24


def every_half() -> np.ndarray:
    """Every bfloat16 and float16, as float64."""
    bits = np.arange(2**16, dtype=np.uint16)
    with np.errstate(invalid="ignore"):  # signalling NaN
        return np.concatenate((bits.view(ml_dtypes.bfloat16), bits.view(np.float16)), dtype=float)


@pytest.mark.parametrize("name", [n for n in list_formats() if n.startswith("posit")])
def test_every_half_goes_to_the_nearest_posit(name: str) -> None:
    """The threshold between two neighbours is the posit of one more bit that lies between them."""
    bits, es = (int(part) for part in name[5:].split("es"))
    x = every_half()
    size = np.abs(x)
    codes = np.arange(1, 1 << (bits - 1))  # the positive posits, ascending
    between = [posit_exact(2 * code + 1, bits + 1, es) for code in codes[:-1].tolist()]
    thresholds = np.array([float(t or 0) for t in between])
    assert [Fraction(t) for t in thresholds.tolist()] == between
    index = np.searchsorted(thresholds, size, side="left")
    tie = np.append(thresholds, np.nan)[np.minimum(index, thresholds.size)] == size
    code = codes[index + (tie & (codes[index] % 2 == 1))]
    code = np.where(size == 0, 0, np.where(x < 0, (1 << bits) - code, code))
    code = np.where(np.isfinite(x), code, 1 << (bits - 1))
    assert np.array_equal(encode(x, name), code)
    want = [
        math.nan if (v := posit_exact(c, bits, es)) is None else float(v) for c in code.tolist()
    ]
    assert np.array_equal(quantize(x, name), np.array(want), equal_nan=True)
