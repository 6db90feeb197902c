"""The interface of block formats: kinds, names, variants, sizes in bytes, and refusals."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tapeout.formats import (
    BlockFormat,
    InputError,
    Stochastic,
    decode,
    get_format,
    list_block_formats,
    quantize,
    unpack_blocks,
)
from tapeout.formats.blocks.conversion import decode_blocks, encode_blocks, quantize_blocks


def block(name: str, **changes: object) -> BlockFormat:
    fmt = get_format(name)
    assert isinstance(fmt, BlockFormat)
    return replace(fmt, **changes)  # type: ignore[arg-type]


X = (np.random.default_rng(0).standard_normal((6, 80)) * 3).astype(np.float32)


def test_names_and_aliases_resolve() -> None:
    assert [get_format(name).name for name in list_block_formats()] == list_block_formats()
    for alias, name in (("mxfp8", "mxfp8_e4m3"), ("mxfp4", "mxfp4_e2m1"), ("nvfp4", "nvfp4")):
        assert get_format(alias).name == name
    with pytest.raises(InputError, match="did you mean"):
        get_format("mxpf8_e4m3")


def test_a_format_is_built_from_parts_in_one_line() -> None:
    e5m6, bf16 = get_format("e5m6"), get_format("bf16")
    mine = BlockFormat("mine", e5m6, bf16, (1, 16), "absmax")  # type: ignore[arg-type]
    assert np.abs(quantize_blocks(X, mine) / X - 1).max() < 2.0**-6
    assert encode_blocks(X, mine).pack()["codes"].dtype == np.uint16


@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp6_e2m3", "nvfp4", "uint4_g32", "int8_g64"])
def test_tensors_and_arrays_agree_and_nothing_is_changed(name: str) -> None:
    fmt, kept = block(name), X.copy()
    for x in (X, X.T, X[::2, ::-1], X.astype(np.float64)):
        given = torch.from_numpy(x.copy())
        out = quantize_blocks(given, fmt)
        assert isinstance(out, torch.Tensor) and out.dtype == given.dtype
        assert np.array_equal(out.numpy(), quantize_blocks(np.ascontiguousarray(x), fmt))
        assert np.array_equal(out.numpy(), quantize(x, fmt))
        codes = encode_blocks(given, fmt)
        assert isinstance(codes.codes, torch.Tensor) and codes.shape == x.shape
        assert torch.equal(decode_blocks(codes), out)
    assert np.array_equal(X, kept)
    turned = quantize_blocks(torch.from_numpy(X).mT, fmt, axis=0)
    assert np.array_equal(turned.numpy().T, quantize_blocks(X, fmt))
    frozen = X.copy()
    frozen.flags.writeable = False
    assert np.array_equal(quantize_blocks(frozen, fmt), quantize_blocks(X, fmt))


def test_a_number_is_one_block() -> None:
    assert quantize_blocks(0.3, block("mxfp8_e4m3")) == 0.3125
    assert isinstance(quantize_blocks(0.3, block("mxfp8_e4m3")), float)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("mxfp8_e4m3", 6 * (80 + 3)), ("mxfp6_e3m2", 6 * (60 + 3)), ("mxfp4", 6 * (40 + 3)),
        ("nvfp4", 6 * (40 + 5) + 4), ("int4_g32", 6 * (40 + 6)), ("msfp12", 6 * (40 + 5)),
        ("uint4_g32", 6 * (40 + 2 * 3 + 2)), ("float8_e4m3fn_128x128", 6 * 80 + 4),
        ("linear2_4bit_b64", 6 * (40 + 8)),
    ],
)  # fmt: skip
def test_packed_bytes(name: str, size: int) -> None:
    codes = encode_blocks(X, block(name))
    packed = codes.pack()
    assert codes.bytes == size == sum(part.nbytes for part in packed.values())
    again = unpack_blocks(packed, codes.fmt, codes.shape)
    assert np.array_equal(decode_blocks(again), quantize_blocks(X, codes.fmt))


def test_random_bits_do_not_depend_on_the_blocks() -> None:
    """Scales of 1 leave the elements as they are: then any blocking is plain quantization."""
    x = np.clip(X, -3.9, 3.9)
    x[:, ::8] = 4.0
    rounding = Stochastic(16)
    want = quantize(x, "float4_e2m1fn", rounding=rounding, seed=7, stream=3)
    for axis, size in ((-1, (8,)), (-1, (16,)), (-1, (2, 40)), (-1, ())):
        fmt = block("mxfp4", block=size, axis=axis)
        assert np.array_equal(quantize_blocks(x, fmt, rounding=rounding, seed=7, stream=3), want)


def test_a_nan_takes_its_block_and_no_other() -> None:
    x = X.copy()
    x[2, 40] = np.nan
    for name in ("mxfp8_e4m3", "mxfp4", "int8_g32", "uint8_g32"):
        out = quantize_blocks(x, block(name))
        assert np.isnan(out[2, 32:64]).all() and np.isnan(out).sum() == 32


def test_the_last_block_has_its_own_scale() -> None:
    x = np.ones((1, 33), np.float32)
    x[0, 32] = 1000.0
    codes = encode_blocks(x, block("mxfp4"))
    assert codes.scales.tolist() == [[127 - 2, 127 + 9 - 2]]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: quantize_blocks(X, block("mxfp4"), axis=2), ["axis = 2", "-2 to 1"]),
        (lambda: quantize_blocks(X, block("mxfp4"), overflow="infinity"), ["infinity", "saturate"]),
        (lambda: quantize_blocks(X, block("mxfp8"), overflow="wrap"), ["wrap", "saturate"]),
        (lambda: quantize_blocks(X, block("linear2_4bit_b64"), rounding="up"), ["up", "nearest"]),
        (lambda: quantize_blocks(np.arange(3), block("mxfp4")), ["int64", "float32"]),
        (lambda: quantize_blocks(X, block("float8_e4m3fn_128x128"), axis=0), ["tile", "later"]),
        (lambda: block("mxfp4", rule="flor"), ["flor", "did you mean"]),
        (lambda: block("mxfp4", block=(0,)), ["(0,)", "at least 1"]),
        (lambda: block("mxfp4", block=(2, 3, 4)), ["more than two"]),
        (lambda: block("mxfp4", rule="nvfp4"), ["nvfp4", "tensor_scale"]),
        (lambda: block("mxfp4", rule="minmax"), ["minmax", "integer"]),
        (lambda: block("nvfp4", least_scale=0.3), ["0.3", "least_scale"]),
        (lambda: decode(np.zeros(3, np.uint8), "mxfp4"), ["mxfp4", "scales", "BlockCodes"]),
        (lambda: unpack_blocks({}, block("mxfp4"), (3,)), ["codes", "missing"]),
        (lambda: quantize_blocks(X, block("mxfp4"), rounding=Stochastic(4),
                                 random_bits=np.zeros((2, 2), int)), ["random_bits", "(6, 80)"]),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_with_value_and_remedy(call, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError) as refusal:
        call()
    message = str(refusal.value)
    assert "\n" not in message and all(word in message for word in words), message
