"""Every code of every format: what it decodes to, and that it is what its value encodes to."""

import ml_dtypes
import numpy as np
import pytest

from tapeout.formats import (
    FixedFormat,
    FloatFormat,
    Format,
    IntegerFormat,
    decode,
    encode,
    get_format,
    list_formats,
)
from tapeout.formats.reference import decode_exact, encode_exact
from tapeout.formats.table_reference import table_code_exact, table_value_exact

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
    fmt = get_format(name)
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
    fmt = get_format(name)
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
