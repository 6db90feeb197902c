"""Every code of every format, and every 16-bit number rounded to the nearest value of each.

Codes are held against the exact reference, rounding against plain searches among the values.
"""

from fractions import Fraction
from itertools import pairwise
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tapeout.formats import (
    CodebookFormat,
    FixedFormat,
    FloatFormat,
    Format,
    IntegerFormat,
    LogFormat,
    decode,
    encode,
    get_format,
    list_formats,
    quantize,
)
from tapeout.formats.catalog import get_element
from tapeout.formats.reference import decode_exact, encode_exact
from tapeout.formats.tables.reference import (
    compare_with_power,
    table_code_exact,
    table_value_exact,
)

CUSTOM = [
    "e3m4", "e5m10", "e4m3fnuz", "e2m2fn", "e4m3b11", "e5m2b-3fnuz", "e4m3u", "e3m2nu", "e2m3nuz",
    "e4m3b20f", "e3m3fu", "e1m3fn", "e8m1", "cfloat8_1_4_3b0", "cfloat8_1_5_2b63",
    "cfloat16_shpb40", "int6", "int13", "uint5", "int5_symmetric", "q0.3", "q5.0", "uq4.4",
    "uq0.9", "q2.9_symmetric", "posit5es3", "posit13es2", "posit16es0", "posit16es4", "lns12g64",
    "lns6g4l", "lns7g1l", "lns5g2n", "binary5p2ue", "binary11p1se", "binary15p9sf",
]  # fmt: skip
NAMES = [n for n in [*list_formats(), *CUSTOM] if get_format(n).bits <= 16]


def same(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Equal values, zeros of equal sign, or both NaN."""
    equal: np.ndarray = (x == y) & (np.signbit(x) == np.signbit(y))
    return np.asarray(equal | (np.isnan(x) & np.isnan(y)))


def in_a_grid(fmt: Format) -> bool:
    return isinstance(fmt, FloatFormat | IntegerFormat | FixedFormat)


def unused(codes: np.ndarray, fmt: Format) -> np.ndarray:
    """The codes that no value encodes to, though they decode to one."""
    if isinstance(fmt, IntegerFormat | FixedFormat):
        return np.asarray((codes == 1 << (fmt.bits - 1)) & fmt.symmetric)
    flushed = isinstance(fmt, FloatFormat) and fmt.name == "cfloat16_uhp"
    return np.asarray((codes < 1 << 10) & (codes > 0)) if flushed else np.zeros(codes.shape, bool)


def exact_value(code: int, fmt: Format) -> float:
    if isinstance(fmt, FloatFormat | IntegerFormat | FixedFormat):
        return decode_exact(code, fmt)
    return table_value_exact(code, fmt)


def exact_code(value: float, fmt: Format) -> int:
    if isinstance(fmt, FloatFormat | IntegerFormat | FixedFormat):
        return encode_exact(value, fmt)
    return table_code_exact(value, fmt)


def check_against_the_reference(name: str, codes: np.ndarray) -> None:
    fmt = get_element(name)
    values = decode(codes, name)
    exact = np.array([exact_value(int(c), fmt) for c in codes])
    assert same(values.astype(np.float64), exact.astype(values.dtype).astype(np.float64)).all()
    real = ~np.isnan(values) & ~unused(codes, fmt)
    assert [exact_code(float(v), fmt) for v in values[real]] == codes[real].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_codes_decode_as_the_reference(name: str) -> None:
    count = 2 ** get_format(name).bits
    codes = np.arange(0, count, max(1, count // 1021), dtype=np.uint16)
    check_against_the_reference(name, codes)
    check_against_the_reference(name, np.arange(max(0, count - 30), count, dtype=np.uint16))


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in NAMES if get_format(n).bits > 10])
def test_every_code_decodes_as_the_reference(name: str) -> None:
    check_against_the_reference(name, np.arange(2 ** get_format(name).bits, dtype=np.uint16))


@pytest.mark.parametrize("name", NAMES)
def test_every_code_is_what_its_value_encodes_to(name: str) -> None:
    fmt = get_element(name)
    codes = np.arange(2**fmt.bits, dtype=np.uint16)
    values = decode(codes, name)
    real = ~np.isnan(values) & ~unused(codes, fmt)
    policy = "infinity" if np.isinf(values).any() else "saturate"
    back = encode(values[real], name, overflow=policy)
    assert back.dtype == (np.uint8 if fmt.bits <= 8 else np.uint16)
    assert (back == codes[real]).all()
    if real.all():
        return
    one = codes[np.isnan(values)]
    if one.size:
        assert encode(np.array([np.nan]), name)[0] in one


@pytest.mark.parametrize("name", ["int1", "int2", "int4", "uint1", "uint2", "uint4"])
def test_integers_decode_as_ml_dtypes(name: str) -> None:
    codes = np.arange(2 ** get_format(name).bits, dtype=np.uint8)
    theirs = codes.view(getattr(ml_dtypes, name)).astype(np.float32)
    assert decode(codes, name).tolist() == theirs.tolist()


@pytest.mark.parametrize("name", ["int8", "int16", "uint8", "uint16", "float16"])
def test_codes_decode_as_numpy(name: str) -> None:
    dtype = np.dtype(name)
    codes = np.arange(2 ** get_format(name).bits, dtype=f"u{dtype.itemsize}")
    assert same(decode(codes, name), codes.view(dtype).astype(np.float32)).all()


NEAREST = [
    n for n in [*list_formats(), *CUSTOM]
    if get_format(n).bits <= 16 and n != "float8_e8m0fnu"
]  # fmt: skip
FINITE = [n for n in NEAREST if in_a_grid(get_element(n))]
BOOKS = [n for n in NEAREST if isinstance(get_format(n), CodebookFormat)]
LOGS = [n for n in NEAREST if isinstance(get_format(n), LogFormat)]


def halves() -> np.ndarray:
    """Every bfloat16 and float16 that is not NaN, as float64."""
    bits = np.arange(2**16, dtype=np.uint16)
    with np.errstate(invalid="ignore"):  # signalling NaN
        x = np.concatenate((bits.view(ml_dtypes.bfloat16), bits.view(np.float16)), dtype=float)
    return np.asarray(x[~np.isnan(x)])


X = halves()


def values_and_codes(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The finite values, ascending, and their codes; of two zeros the positive one."""
    fmt = get_element(name)
    codes = np.arange(2**fmt.bits, dtype=np.uint16)
    if getattr(fmt, "symmetric", False):
        codes = codes[codes != 1 << (fmt.bits - 1)]
    values = decode(codes, name).astype(float)
    codes, values = codes[np.isfinite(values)], values[np.isfinite(values)]
    values, first = np.unique(values, return_index=True)
    return values, codes[first]


def nearest(x: np.ndarray, values: np.ndarray, codes: np.ndarray, even: bool) -> np.ndarray:
    """The nearest values, from midpoints that float64 holds exactly; ties by code or by size."""
    middles = (values[1:] + values[:-1]) / 2
    assert ((middles - values[:-1]) == (values[1:] - middles)).all()
    index = np.searchsorted(middles, x, side="left")
    tie = np.append(middles, np.nan)[index] == x
    up = codes[index] % 2 == 1 if even else x > 0
    return np.asarray(values[index + (tie & up)])


@pytest.mark.parametrize("rounding", ["nearest_even", "nearest_away"])
@pytest.mark.parametrize("name", [n for n in FINITE if n != "dlfloat16"])
def test_every_half_goes_to_the_nearest_value(name: str, rounding: str) -> None:
    values, codes = values_and_codes(name)
    want = nearest(X, values, codes, rounding == "nearest_even")
    got = quantize(X, name, rounding=rounding)
    assert (got == want).all()
    zero = want == 0
    keeps = encode(-0.0, name) != 0
    assert (np.signbit(got[zero]) == (np.signbit(X[zero]) & keeps)).all()
    assert (decode(encode(X, name, rounding=rounding), name) == want).all()


@pytest.mark.parametrize(
    "name", [n for n in FINITE if isinstance(f := get_format(n), FloatFormat) and f.infinity]
)
def test_overflow_to_infinity_begins_half_a_step_above_the_largest(name: str) -> None:
    fmt = get_format(name)
    assert isinstance(fmt, FloatFormat)
    values, codes = values_and_codes(name)
    step = 2.0 ** (np.floor(np.log2(fmt.largest)) - fmt.fraction_bits)
    values, codes = np.append(values, fmt.largest + step), np.append(codes, codes[-1] + 1)
    if fmt.signed:
        values, codes = np.append(-values[-1], values), np.append(codes[-1], codes)
    want = nearest(X, values, codes, True)
    want = np.where(np.abs(want) > fmt.largest, np.copysign(np.inf, X), want)
    if not fmt.signed:
        # A tie between 0 and the least negative number goes to 0, whatever that one's code.
        below = nearest(X, np.append(-values[1], values), np.append(1, codes), True) < 0
        want = np.where(below, np.nan, np.where(want == 0, 0.0, want))
    got = quantize(X, name, overflow="infinity")
    assert ((got == want) | (np.isnan(got) & np.isnan(want))).all()
    lost = quantize(X, name, overflow="nan")
    assert (np.isnan(lost) == (np.isinf(want) | np.isnan(want))).all()


def test_dlfloat_equals_its_published_conversion() -> None:
    """Add half an ulp and cut; above the largest NaN; what has exponent field and fraction 0, 0."""
    x = np.concatenate((X, np.random.default_rng(5).standard_normal(100_000) * 2.0**-30))
    x = x.astype(np.float32)
    bits = x.view(np.uint32).astype(np.int64)
    field = ((bits >> 23) & 255) - 127 + 31
    fraction = (bits & 0x7FFFFF) + (1 << 13)
    carry = fraction > 0x7FFFFF
    field, fraction = field + carry, np.where(carry, 0, fraction)
    body = np.where(field >= 0, field << 9 | fraction >> 14, 0)
    over = (bits & 0x7FFFFFFF) > ((63 + 96) << 23 | 510 << 14 | 0x1FFF)
    codes = np.where(over, 0x7FFF, body)
    got = encode(x, "dlfloat16", rounding="nearest_away", overflow="nan").astype(np.int64)
    assert (
        np.where(over, got & 0x7FFF, got) == np.where(over, codes, codes | bits >> 31 << 15)
    ).all()


def test_every_half_goes_to_the_nearest_dlfloat() -> None:
    """The bits of float32, to 9 fraction bits, ties to even; exponent field and fraction 0 is 0."""
    bits = X.astype(np.float32).view(np.uint32).astype(np.int64)
    size = bits & 0x7FFFFFFF
    rounded = (size + 0x1FFF + (size >> 14 & 1)) >> 14
    body = np.maximum(rounded - ((127 - 31) << 9), 0)
    want = np.minimum(body, 0x7FFE) | bits >> 31 << 15
    assert np.array_equal(encode(X, "dlfloat16"), want)
    assert np.array_equal(decode(want.astype(np.uint16), "dlfloat16"), quantize(X, "dlfloat16"))


def test_every_half_goes_to_the_nearest_scale() -> None:
    """e8m0: powers of two, halfway up (its significand is always odd); no zero, no sign."""
    positive = X[(X > 0) & np.isfinite(X)]
    fraction, exponent = np.frexp(positive)
    want = np.clip(exponent - 1 + (fraction >= 0.75), -127, 127)
    assert np.array_equal(np.log2(quantize(positive, "e8m0")), want)
    assert (quantize(-positive, "e8m0") == 2.0**-127).all()


def goes_to(thresholds: list[Fraction], below: Any, ties_up: list[bool]) -> np.ndarray:
    """How many thresholds each of X is above; `below(x, T)` is the exact sign of x - T."""
    unique, back = np.unique(X, return_inverse=True)
    exact = [Fraction(x) if np.isfinite(x) else None for x in unique.tolist()]
    counts = np.zeros(len(unique), int)
    for threshold, up in zip(thresholds, ties_up, strict=True):
        low, high = 1, len(exact) - 1  # the ends are the infinities
        while low < high:
            middle = (low + high) // 2
            sign = below(exact[middle], threshold)
            low, high = (low, middle) if sign > 0 or (sign == 0 and up) else (middle + 1, high)
        counts[low:] += 1
    return np.asarray(counts[back])


@pytest.mark.parametrize("name", BOOKS)
def test_every_half_goes_to_the_nearest_codeword(name: str) -> None:
    book = get_format(name)
    assert isinstance(book, CodebookFormat)
    middles = [(a + b) / 2 for a, b in pairwise(book.values)]
    ups = [i % 2 == 1 for i in range(len(middles))]
    want = goes_to(middles, lambda x, t: (x > t) - (x < t), ups)
    assert (encode(X, name) == want).all()
    assert (encode(X.astype(np.float32), name) == want).all()
    assert (quantize(X, name) == np.array([float(v) for v in book.values])[want]).all()


@pytest.mark.parametrize("name", [n for n in LOGS if not n.endswith("l")])
def test_every_half_goes_to_the_nearest_logarithm(name: str) -> None:
    """By integer powers: |x| against 2^((k + 1/2 - bias) / gamma)."""
    fmt = get_format(name)
    assert isinstance(fmt, LogFormat)
    bias = 2 ** (fmt.bits - 2) if fmt.bias is None else fmt.bias
    ks = range(2 ** (fmt.bits - 1) - 1)
    middles = [Fraction(2 * (k - bias) + 1, 2 * fmt.gamma) for k in ks]
    want = goes_to(
        middles, lambda x, t: compare_with_power(x, t) if x > 0 else -1, [False] * len(middles)
    )
    codes = encode(np.abs(X), name)
    assert (codes == np.where(X < 0, codes, want)).all()
    negative = encode(-np.abs(X), name)
    assert (negative == codes | 1 << (fmt.bits - 1)).all()
    assert same(quantize(X, name), decode(encode(X, name), name)).all()


def test_e8m0_equals_the_nearest_power_of_two() -> None:
    """Ties between powers go up; what is not positive goes to the smallest."""
    x = X[np.isfinite(X) & (X > 0)]
    mantissa, exponent = np.frexp(x)
    want = np.ldexp(1.0, np.clip(exponent - 1 + (mantissa >= 0.75), -127, 127))
    assert (quantize(x, "e8m0") == want).all()
    assert (quantize(X[X <= 0], "e8m0") == 2.0**-127).all()
