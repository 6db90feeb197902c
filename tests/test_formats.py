"""Formats: every code of every small format, and other libraries' casts as oracles."""

import ml_dtypes
import numpy as np
import pytest
import torch

from tapeout.formats import (
    InputError,
    decode,
    encode,
    get_format,
    quantize,
)

ML_DTYPES = {
    name: getattr(ml_dtypes, name)
    for name in (
        "float8_e4m3", "float8_e3m4", "float8_e4m3b11fnuz",
        "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
        "float8_e8m0fnu", "float6_e3m2fn", "float6_e2m3fn", "float4_e2m1fn",
    )
}  # fmt: skip


def same(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Equal values, zeros of equal sign, or both NaN."""
    equal: np.ndarray = (x == y) & (np.signbit(x) == np.signbit(y))
    return np.asarray(equal | (np.isnan(x) & np.isnan(y)))


@pytest.mark.parametrize("name", ML_DTYPES)
def test_every_code_decodes_as_ml_dtypes(name: str) -> None:
    fmt = get_format(name)
    codes = np.arange(2**fmt.bits, dtype=np.uint16 if fmt.bits > 8 else np.uint8)
    theirs = (
        codes.view(ML_DTYPES[name])
        if fmt.bits in (8, 16)
        else codes.astype(np.uint8).view(ML_DTYPES[name])
    )
    assert same(decode(codes, name), theirs.astype(np.float32)).all()


def every_half() -> dict[str, np.ndarray]:
    bits = np.arange(2**16, dtype=np.uint16)
    return {
        "bfloat16": bits.view(ml_dtypes.bfloat16).astype(np.float32),
        "float16": bits.view(np.float16).astype(np.float32),
    }


def their_cast(x: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(all="ignore"):
        return x.astype(ML_DTYPES[name]).astype(np.float32)


@pytest.mark.parametrize("source", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    "name", [n for n in ML_DTYPES if n.startswith("float8") and n != "float8_e8m0fnu"]
)
def test_nearest_even_equals_ml_dtypes_on_every_16_bit_pattern(name: str, source: str) -> None:
    x = every_half()[source]
    assert same(quantize(x, name, overflow="infinity"), their_cast(x, name)).all()


@pytest.mark.parametrize("name", ["float6_e3m2fn", "float6_e2m3fn", "float4_e2m1fn"])
def test_formats_without_nan_saturate_as_ml_dtypes(name: str) -> None:
    x = every_half()["bfloat16"]
    x = x[~np.isnan(x)]
    assert same(quantize(x, name), their_cast(x, name)).all()


def test_scale_format_equals_ml_dtypes_on_positive_numbers() -> None:
    """But for the lowest binade, where ml_dtypes 0.6 sends 1.01 * 2^-127 up to 2^-126."""
    x = every_half()["bfloat16"]
    x = x[((x > 0) & ~((x > 2.0**-127) & (x < 2.0**-126))) | np.isnan(x)]
    assert same(quantize(x, "e8m0", overflow="nan"), their_cast(x, "float8_e8m0fnu")).all()


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "bfloat16"])
def test_nearest_even_equals_ml_dtypes_on_ten_million_floats(name: str) -> None:
    rng = np.random.default_rng(20)
    for _ in range(10):
        x = rng.integers(0, 2**32, 1_000_000, dtype=np.uint32).view(np.float32)
        assert same(quantize(x, name, overflow="infinity"), their_cast(x, name)).all()


def test_float16_equals_numpy_from_float64_without_double_rounding() -> None:
    x = np.random.default_rng(3).standard_normal(200_000) * 2.0 ** np.arange(-20, 20).repeat(5000)
    with np.errstate(over="ignore"):
        assert same(
            quantize(x, "float16", overflow="infinity"), x.astype(np.float16).astype(float)
        ).all()


def test_shapes_strides_kinds_and_dtypes_are_kept() -> None:
    x = np.random.default_rng(0).standard_normal((6, 5, 4)).astype(np.float32)
    flat = quantize(np.ascontiguousarray(x[::2, :, ::-1]), "e4m3")
    assert (quantize(x[::2, :, ::-1], "e4m3") == flat).all()
    t = torch.from_numpy(x)
    for tensor in (t, t.double(), t.mT, t[1:1], t[0, 0, 0]):
        out = quantize(tensor, "e4m3")
        assert out.shape == tensor.shape and out.dtype == tensor.dtype
        assert np.array_equal(out.numpy(), quantize(tensor.contiguous().numpy(), "e4m3"))
    codes = encode(t.mT, "float4_e2m1fn")
    assert codes.dtype == torch.uint8 and codes.shape == t.mT.shape
    assert torch.equal(decode(codes, "e2m1"), quantize(t.mT, "e2m1"))
    assert quantize(np.empty((0, 3), np.float32), "int4").shape == (0, 3)


def test_a_number_gives_a_number() -> None:
    assert quantize(0.3, "e4m3") == 0.3125 and isinstance(quantize(0.3, "e4m3"), float)
    assert encode(1.0, "e5m2") == 0x3C and decode(0x3C, "e5m2") == 1.0


def test_overflow_policies() -> None:
    x = np.array([500.0, -1e9, np.inf, -np.inf], np.float32)
    assert quantize(x, "e4m3").tolist() == [448, -448, 448, -448]
    assert np.isnan(quantize(x, "e4m3", overflow="infinity")).all()
    assert quantize(x, "e5m2", overflow="infinity").tolist() == [512, -np.inf, np.inf, -np.inf]
    assert quantize(x, "e5m2", overflow="infinity", rounding="toward_zero").tolist() == [
        448, -57344, np.inf, -np.inf
    ]  # fmt: skip
    assert np.isnan(quantize(x, "e5m2", overflow="nan")[1:]).all()
    wrapped = quantize(np.array([8.0, -9.0, 23.0, 1e6]), "int4", overflow="wrap")
    assert wrapped.tolist() == [-8, 7, 7, 0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: quantize(1.0, "e4m4m4"), ['"e4m4m4"', "float8_e4m3fn", "eXmY"]),
        (lambda: quantize(1.0, "float8_e4m4"), ["did you mean"]),
        (lambda: quantize(1.0, "e4m3", rounding="nearest"), ['"nearest"', "nearest_even"]),
        (lambda: quantize(1.0, "e4m3", overflow="clip"), ['"clip"', "saturate"]),
        (lambda: quantize(np.arange(3), "e4m3"), ["int64", "float32, float64"]),
        (lambda: quantize(np.array([np.nan]), "int4"), ["1 NaN", "int4"]),
        (lambda: quantize(np.ones(1, np.float32), "float64"), ["float32 cannot hold", "float64"]),
        (lambda: quantize(1.0, "int4", overflow="nan"), ["int4", "saturate"]),
        (lambda: quantize(1.0, "e4m3", overflow="wrap"), ["wrap", "integers"]),
        (lambda: decode(np.array([16], np.uint8), "int4"), ["16", "0 to 15"]),
        (lambda: decode(np.array([1], np.int8), "int4"), ["int8", "unsigned"]),
        (lambda: get_format("e12m3"), ["e12m3", "2 to 11"]),
        (lambda: get_format("int33"), ["int33", "1 to 32"]),
        (lambda: get_format("uint8_symmetric"), ["uint8_symmetric", "signed"]),
        (lambda: get_format("q0.33"), ["q0.33", "1 to 32"]),
        (lambda: get_format("e4m3b2000"), ["e4m3b2000", "bias"]),
        (lambda: get_format("posit17es1"), ["posit17es1", "2 to 16"]),
        (lambda: get_format("posit8es5"), ["posit8es5", "0 to 4"]),
        (lambda: get_format("lns8g3"), ["lns8g3", "power of two"]),
        (lambda: get_format("lns16g1"), ["lns16g1", "float64"]),
        (lambda: get_format("binary8p8se"), ["precision 8", "width - 1"]),
        (lambda: get_format("binary15p1se"), ["binary15p1se", "float64"]),
        (lambda: get_format("cfloat8_1_4_3b64"), ["cfloat8_1_4_3b64", "0 to 63"]),
        (lambda: quantize(np.array([np.nan]), "lns8g8"), ["1 NaN", "lns8g8"]),
        (lambda: quantize(1.0, "lns8g8", overflow="infinity"), ["lns8g8", "saturate"]),
        (lambda: quantize(1.0, "posit8es0", overflow="nan"), ["posit8es0", "saturate"]),
        (lambda: quantize(1.0, "posit8es0", overflow="wrap"), ["posit8es0", "integers"]),
        (lambda: quantize(np.ones(1, np.float32), "posit16es4"), ["posit16es4", "float64"]),
        (lambda: quantize(1.0, "q3.4_symmetric", overflow="wrap"), ["q3.4_symmetric", "all codes"]),
    ],
)
def test_bad_input_is_one_sentence_with_value_and_remedy(call, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError) as refusal:
        call()
    message = str(refusal.value)
    assert "\n" not in message
    assert all(word in message for word in words), message
