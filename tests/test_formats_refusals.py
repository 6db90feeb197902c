"""What formats take as input, and how they refuse the rest: one sentence, and no traceback."""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from tapeout.formats import (
    BlockFormat,
    FloatFormat,
    InputError,
    Stochastic,
    decode,
    encode,
    get_format,
    quantize,
    unpack_blocks,
)
from tapeout.formats.generators import draw_words
from tapeout.formats.qpytorch import BlockFloatingPoint
from tapeout.formats.qtorch.rounding import round_blocks
from tapeout.formats.rounding import get_rounding

RANDOM = Stochastic(bits=4)


@pytest.mark.parametrize("fmt", [8, torch.float16, np.float16, ["e4m3"]])
def test_what_is_no_format_is_refused_by_name(fmt: Any) -> None:
    for call in (lambda: quantize(1.5, fmt), lambda: encode(1.5, fmt), lambda: decode(1, fmt)):
        with pytest.raises(InputError, match="list_formats"):
            call()
    with pytest.raises(InputError, match="list_formats"):
        quantize(1.5, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1.5, "a", None])
def test_seeds_streams_axes_and_bits_are_whole_numbers(value: Any) -> None:
    with pytest.raises(InputError, match=r"seed = .* is not a whole number"):
        quantize(1.5, "e4m3", rounding=RANDOM, seed=value)
    with pytest.raises(InputError, match=r"stream = .* is not a whole number"):
        encode(1.5, "e4m3", rounding=RANDOM, stream=value)
    with pytest.raises(InputError, match=r"seed = .* is not a whole number"):
        draw_words("philox", 3, value)
    with pytest.raises(InputError, match=r"bits = .* is not a whole number"):
        Stochastic(bits=value)
    if value is not None:
        with pytest.raises(InputError, match=r"axis = .* is not a whole number"):
            quantize(np.ones(4), "mxfp4", axis=value)


@pytest.mark.parametrize("fmt", ["e4m3", "posit8", "mxfp4", "int8"])
def test_numpy_integers_seed_as_python_ones(fmt: str) -> None:
    x = np.linspace(-2, 2, 101)
    for source in ("philox", "amd_lfsr"):
        if fmt == "mxfp4" and source != "philox":
            continue
        how = Stochastic(bits=8, source=source)
        for seed in (np.int64(5), np.uint8(5), np.int32(-5)):
            mine = quantize(x, fmt, rounding=how, seed=seed, stream=seed)  # type: ignore[arg-type]
            theirs = quantize(x, fmt, rounding=how, seed=int(seed), stream=int(seed))
            assert mine.tobytes() == theirs.tobytes()


def test_bfloat16_arrays_are_taken_as_bfloat16_tensors() -> None:
    wide = np.linspace(-20, 20, 999, dtype=np.float32)
    x, tensor = wide.astype(ml_dtypes.bfloat16), torch.from_numpy(wide).bfloat16()
    for fmt in ("e4m3", "int4", "posit6es1", "mxfp4"):
        y = quantize(x, fmt)
        assert y.dtype == x.dtype
        assert np.array_equal(y.astype(np.float32), quantize(tensor, fmt).float().numpy())
    assert np.array_equal(encode(x, "e4m3"), encode(tensor, "e4m3").numpy())
    with pytest.raises(InputError, match="bfloat16 cannot hold every value of float16"):
        quantize(x, "float16")


def test_tensors_that_numpy_cannot_view() -> None:
    negated = torch._neg_view(torch.tensor([1.55, -2.0]))  # pyright: ignore[reportPrivateImportUsage]
    assert quantize(negated, "e4m3").tolist() == [-1.5, 2.0]
    with pytest.raises(InputError, match="to_dense"):
        quantize(torch.eye(3).to_sparse(), "e4m3")


@pytest.mark.parametrize("number", [2**53 + 1, -(2**60) - 1, 10**400])
def test_an_int_is_not_rounded_on_its_way_in(number: int) -> None:
    with pytest.raises(InputError, match="2\\^53"):
        quantize(number, "float32")
    assert quantize(2**60, "float32") == 2.0**60


@pytest.mark.parametrize("code", [-1, 256, 2.5, 2**64, 2**80])
def test_numbers_that_are_no_codes(code: Any) -> None:
    with pytest.raises(InputError, match="decode: code"):
        decode(code, "e4m3")


@pytest.mark.parametrize("fmt", ["e4m3", "mxfp4", "posit8"])
def test_random_bits_of_a_single_number(fmt: str) -> None:
    for r in (0, 15):
        one = quantize(1.3, fmt, rounding=RANDOM, random_bits=np.array(r))
        row = quantize(np.array([1.3]), fmt, rounding=RANDOM, random_bits=np.array([r]))
        assert one == row[0]


def test_codes_follow_fields_and_not_the_name() -> None:
    half = FloatFormat("float64", 5, 10)
    x = np.array([1.5, -3.3, 1e-7])
    assert np.array_equal(encode(x, half), x.astype(np.float16).view(np.uint16))
    assert np.array_equal(encode(x, "e11m52"), x.view(np.uint64))


def test_blocks_beyond_float16_are_infinite_without_a_warning() -> None:
    x = np.full(4, 65504, np.float16)
    with np.errstate(all="raise"):
        y = quantize(x, "int8_g128", rounding="up")
    assert y.dtype == np.float16


@pytest.mark.parametrize("wl", [2, 3, 8, 24])
@pytest.mark.parametrize("mode", ["nearest_even", "to_odd", "stochastic"])
def test_one_block_of_qtorch_is_a_block_format(wl: int, mode: str) -> None:
    number: Any = BlockFloatingPoint(wl)
    row = get_format(number)
    assert isinstance(row, BlockFormat) and row.bits == wl
    random = np.random.default_rng(wl)
    for shape, exponent in (((50,), 0), ((4, 5), -100), ((2, 3, 4), 100), ((), 3), ((7,), -126)):
        for dtype in (np.float32, np.float64):
            x = np.ldexp(random.uniform(1, 2, shape), exponent).astype(dtype)
            x = np.asarray(x * random.choice([-1, 1, 0.1, 0], shape).astype(dtype))
            x.reshape(-1)[:1] = dtype(1.25 * 2.0**exponent)
            exact = round_blocks(torch.from_numpy(x), number, get_rounding(mode), 5).numpy()
            assert np.array_equal(quantize(x, row, rounding=mode, seed=5), exact)
            assert np.array_equal(quantize(x, number, rounding=mode, seed=5), exact)
            assert np.array_equal(decode(encode(x, number, rounding=mode, seed=5)), exact)


def test_blocks_of_qtorch_that_only_a_tensor_fixes() -> None:
    number: Any = BlockFloatingPoint(6, 0)
    x = np.random.default_rng(1).standard_normal((3, 8)).astype(np.float32)
    whole: Any = BlockFloatingPoint(6)
    rows = [quantize(row, whole) for row in x]
    assert np.array_equal(quantize(x, number), np.stack(rows))
    with pytest.raises(InputError, match="only a tensor"):
        encode(x, number)
    with pytest.raises(InputError, match="overflow, axis is not for"):
        quantize(x, number, overflow="nan", axis=1)


def test_packed_blocks_that_do_not_fit_their_shape() -> None:
    x = np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 64)
    parts = encode(x, "mxfp4").pack()
    back = decode(unpack_blocks(parts, "mxfp4", (2, 64)))
    assert np.array_equal(back, quantize(x, "mxfp4"))
    short = {**parts, "scales": parts["scales"][:1]}
    two_level = encode(x, "nvfp4").pack()
    del two_level["tensor_scale"]
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: unpack_blocks(short, "mxfp4", (2, 64)), "scales of shape"),
        (lambda: unpack_blocks(parts, "mxfp4", (3, 64)), "scales of shape"),
        (lambda: unpack_blocks(parts, "mxfp4", (2, 64), axis=0), "scales of shape"),
        (
            lambda: unpack_blocks({**parts, "codes": parts["codes"][:1]}, "mxfp4", (2, 64)),
            "64 codes",
        ),
        (lambda: unpack_blocks(parts, "mxfp4", (2, 64), dtype="int8"), "dtype"),
        (lambda: unpack_blocks(parts, "e2m1", (2, 64)), "no blocks"),
        (lambda: unpack_blocks(two_level, "nvfp4", (2, 64)), "tensor_scale missing"),
    ]
    for call, words in cases:
        with pytest.raises(InputError, match=words):
            call()


def test_an_axis_without_blocks_is_refused() -> None:
    with pytest.raises(InputError, match="axis = 0 is for block formats, not float8_e4m3fn"):
        quantize(np.ones(3, np.float32), "e4m3", axis=0)
