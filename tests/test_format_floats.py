"""The P3109 family against gfloat, and what the fields of a float row mean."""

from itertools import product

import gfloat
import numpy as np
import pytest
from gfloat.formats import format_info_p3109

from tapeout.formats import FloatFormat, InputError, decode, encode, get_format, p3109, quantize
from tapeout.formats.format import FixedFormat, IntegerFormat


def same(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Equal values, zeros of equal sign, or both NaN."""
    equal: np.ndarray = (x == y) & (np.signbit(x) == np.signbit(y))
    return np.asarray(equal | (np.isnan(x) & np.isnan(y)))


Kind = tuple[int, int, bool, bool]
KINDS = [
    (width, precision, signed, extended)
    for width in range(3, 16)
    for signed, extended in product((True, False), repeat=2)
    for precision in range(1, width + (not signed))
    if width - precision + (not signed) <= 10
]


def theirs(kind: Kind) -> gfloat.FormatInfo:
    width, precision, signed, extended = kind
    return format_info_p3109(
        width,
        precision,
        gfloat.Signedness.Signed if signed else gfloat.Signedness.Unsigned,
        gfloat.Domain.Extended if extended else gfloat.Domain.Finite,
    )


def label(kind: Kind) -> str:
    width, precision, signed, extended = kind
    return f"binary{width}p{precision}{'s' if signed else 'u'}{'e' if extended else 'f'}"


def test_every_code_of_every_p3109_format_decodes_as_gfloat() -> None:
    for kind in KINDS:
        row, info = p3109(*kind), theirs(kind)
        codes = np.arange(2 ** kind[0], dtype=np.uint16)
        with np.errstate(all="ignore"):
            want = gfloat.decode_ndarray(info, codes.astype(np.int64))
        assert same(decode(codes, row).astype(float), want).all(), kind
        assert row.name == label(kind) and get_format(row.name) == row
        assert (row.bits, row.largest) == (kind[0], info.max), kind


ROUNDINGS = {
    "nearest_even": gfloat.RoundMode.TiesToEven,
    "nearest_away": gfloat.RoundMode.TiesToAway,
    "toward_zero": gfloat.RoundMode.TowardZero,
    "up": gfloat.RoundMode.TowardPositive,
    "down": gfloat.RoundMode.TowardNegative,
}


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("width", [3, 5, 8])
def test_p3109_rounds_as_gfloat(width: int, rounding: str) -> None:
    """gfloat saturates infinities too; its overflow without saturation has rules of its own."""
    rng = np.random.default_rng(width)
    for kind in (k for k in KINDS if k[0] == width and k[2]):
        row, info = p3109(*kind), theirs(kind)
        values = decode(np.arange(2**width, dtype=np.uint16), row).astype(float)
        values = np.unique(values[np.isfinite(values)])
        ties = (values[1:] + values[:-1]) / 2
        x = np.concatenate((values, ties, rng.choice(values, 50) * rng.uniform(0.4, 1.6, 50)))
        want = gfloat.round_ndarray(info, x, ROUNDINGS[rounding], sat=True)
        assert (quantize(x, row, rounding=rounding) == want).all(), kind


@pytest.mark.parametrize(
    ("name", "largest", "smallest", "bits"),
    [
        ("ue4m3", 448.0, 2.0**-9, 7),
        ("ue5m3", 114688.0, 2.0**-17, 8),
        ("dlfloat16", 2.0**33 - 2.0**24, 2.0**-31 * (1 + 2.0**-9), 16),
        ("cfloat8_1_4_3b0", 30720.0 * 2, 2.0**-2, 8),
        ("cfloat8_1_4_3b63", 1.875 * 2.0**-48, 2.0**-65, 8),
        ("cfloat8_1_5_2b31", 1.75, 2.0**-32, 8),
        ("cfloat16_uhp", (2 - 2.0**-10) * 2.0**31, 2.0**-30, 16),
        ("e4m3b11fnuz", 30.0, 2.0**-13, 8),
        ("e4m3b3", 3840.0, 2.0**-5, 8),
        ("e4m3nu", 2.0**8 * 1.625, 2.0**-9, 7),
        ("e4m3nuz", 2.0**7 * 1.75, 2.0**-10, 8),
        ("e2m1f", 6.0, 0.5, 4),
        ("binary8p4se", 224.0, 2.0**-10, 8),
        ("binary8p3sf", 2.0**15 * 1.75, 2.0**-17, 8),
    ],
)
def test_extremes(name: str, largest: float, smallest: float, bits: int) -> None:
    row = get_format(name)
    assert isinstance(row, FloatFormat)
    assert (row.largest, row.min_subnormal, row.bits) == (largest, smallest, bits)


def test_special_codes() -> None:
    assert np.isnan(decode(0x7F, "ue4m3")) and decode(0x7E, "ue4m3") == 448.0
    assert [encode(np.inf, n, overflow="infinity") for n in ("e4m3n", "e4m3nu")] == [0x7E, 0x7E]
    assert decode(np.array([0x7F, 0xFF, 0xFE], np.uint8), "e4m3nuz").tolist() == [
        np.inf, -np.inf, -2.0**7 * 1.75
    ]  # fmt: skip
    assert np.isnan(decode(0x80, "e4m3nuz")) and encode(np.nan, "e4m3nuz") == 0x80
    assert decode(np.array([0xFD, 0xFE, 0xFF], np.uint8), "binary8p3ue").tolist()[:2] == [
        2.0**31 * 1.25, np.inf
    ]  # fmt: skip
    assert encode(np.nan, "binary8p3ue") == 0xFF
    negative = quantize(np.array([-1.0, -np.inf]), "binary8p3ue", overflow="infinity")
    assert np.isnan(negative).all()
    assert quantize(np.array([-1.0, -np.inf]), "binary8p3ue").tolist() == [0.0, 0.0]
    assert decode(np.array([0x7FFF, 0xFFFF, 0x8000], np.uint16), "dlfloat16").tolist()[2] == 0.0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"nan": "ieee", "fraction_bits": 0}, "needs a fraction bit"),
        ({"nan": "negative_zero", "signed": False}, "needs a sign"),
        ({"normal_zero_field": True}, "no subnormals"),
        ({"bias": 1100}, "bias 1100"),
        ({"bias": -1100}, "bias -1100"),
        ({"published": (1.0, 1.0, 1.0)}, "extremes"),
    ],
)
def test_impossible_rows_are_refused(fields: dict, words: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(InputError, match=words):
        FloatFormat(**({"name": "odd", "exponent_bits": 4, "fraction_bits": 3} | fields))


def test_fixed_point_is_an_integer_over_a_power_of_two() -> None:
    row = get_format("q3.4")
    assert isinstance(row, FixedFormat)
    assert (row.bits, row.lowest, row.largest, row.quantum) == (8, -8.0, 7.9375, 0.0625)
    x = np.random.default_rng(7).standard_normal(20_000) * 6
    for rounding in ("nearest_even", "toward_zero", "up", "down", "to_odd", "stochastic"):
        whole = quantize(x * 16, "int8", rounding=rounding, seed=3)
        assert (quantize(x, "q3.4", rounding=rounding, seed=3) * 16 == whole).all()
        assert (
            encode(x, "q3.4", rounding=rounding, seed=3) == whole.astype(np.int8).view("u1")
        ).all()
    wrapped = quantize(x * 16, "int8", overflow="wrap") / 16
    assert (quantize(x, "q3.4", overflow="wrap") == wrapped).all()
    assert (quantize(x.astype(np.float32), "uq2.3", overflow="wrap") < 4).all()


def test_symmetric_integers_never_take_the_lowest_code() -> None:
    row = get_format("int8_symmetric")
    assert isinstance(row, IntegerFormat) and (row.lowest, row.largest) == (-127.0, 127.0)
    x = np.array([-1e9, -128.0, -127.4, 127.6])
    assert quantize(x, row).tolist() == [-127, -127, -127, 127]
    assert quantize(x / 128, "q0.7_symmetric").tolist() == [-127 / 128] * 3 + [127 / 128]
