"""Rounding: kernels against the exact reference, in every mode, on what is hard."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeout.formats import (
    InputError,
    Rounding,
    Stochastic,
    decode,
    encode,
    get_format,
    quantize,
)
from tapeout.formats.format import FloatFormat, IntegerFormat
from tapeout.formats.generators import RANDOM_SOURCES, draw_words
from tapeout.formats.random import (
    fill_words,
    philox,
    philox_reference,
    random_integer_reference,
    random_word_reference,
)
from tapeout.formats.reference import quantize_exact, quantum
from tapeout.formats.rounding import Overflow

DETERMINISTIC = [r.value for r in Rounding if r is not Rounding.STOCHASTIC]
RULES = [Stochastic(k, rule) for k in (1, 3, 8, 13, 19, 32) for rule in ("srff", "srf", "src")]
FORMATS = [
    "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float6_e3m2fn", "float4_e2m1fn",
    "float8_e8m0fnu", "int8", "int4", "int2", "bfloat16", "float16", "e5m7", "e11m40",
]  # fmt: skip


def row(name: str) -> FloatFormat | IntegerFormat:
    fmt = get_format(name)
    assert isinstance(fmt, FloatFormat | IntegerFormat)
    return fmt


POLICIES = [
    (name, overflow)
    for name in FORMATS
    for overflow in (
        ["saturate", "infinity", "nan", "propagate"] if row(name).grid.has_nan else ["saturate"]
    )
]


def hard_values(name: str) -> np.ndarray:
    """Values, midpoints, their neighbours, tiny, huge and special inputs."""
    fmt = row(name)
    rng = np.random.default_rng(7)
    if fmt.bits <= 8:
        grid = np.unique(decode(np.arange(2**fmt.bits, dtype=np.uint8), name).astype(float))
        grid = grid[np.isfinite(grid)]
    else:
        grid = np.unique(
            quantize(rng.standard_normal(300) * 2.0 ** rng.integers(-20, 16, 300), name)
        )
    middle = np.array([(a + b) / 2 for a, b in pairwise(grid)])
    near = np.concatenate([np.nextafter(middle, 1e9), np.nextafter(middle, -1e9)])
    top = fmt.grid.largest
    edge = np.array(
        [0.0, -0.0, 5e-324, -5e-324, 1e-310, top * 1.01, -top * 1.2, top * 4, 1e300, -1e300]
    )
    edge = edge[np.isfinite(edge)]
    spread = rng.standard_normal(300) * 2.0 ** rng.integers(-12, 10, 300)
    return np.concatenate([grid, middle, near, edge, spread, [np.inf, -np.inf]])


@pytest.mark.parametrize("rounding", DETERMINISTIC)
@pytest.mark.parametrize(("name", "overflow"), POLICIES)
def test_kernel_equals_reference(name: str, overflow: str, rounding: str) -> None:
    fmt, x = row(name), hard_values(name)
    got = quantize(x, name, rounding=rounding, overflow=overflow)
    want = np.array(
        [quantize_exact(v, fmt, Rounding(rounding), Overflow(overflow)) for v in x.tolist()]
    )
    assert_same(got, want, x)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("rounding", RULES, ids=str)
def test_stochastic_kernel_equals_reference_given_the_same_bits(
    name: str, rounding: Stochastic
) -> None:
    fmt, x = row(name), hard_values(name)
    bits = np.random.default_rng(1).integers(0, 2**rounding.bits, x.shape, dtype=np.uint64)
    got = quantize(x, name, rounding=rounding, random_bits=bits)
    want = np.array([
        quantize_exact(v, fmt, rounding, Overflow.SATURATE, int(r))
        for v, r in zip(x.tolist(), bits, strict=True)
    ])  # fmt: skip
    assert_same(got, want, x)


def assert_same(got: np.ndarray, want: np.ndarray, x: np.ndarray) -> None:
    same = ((got == want) & (np.signbit(got) == np.signbit(want))) | (
        np.isnan(got) & np.isnan(want)
    )
    first = int(np.argmin(same))
    assert same.all(), f"x = {x[first]!r}: kernel {got[first]!r}, reference {want[first]!r}"


@pytest.mark.parametrize("rounding", [Stochastic(8), Stochastic(16, "src"), Stochastic()], ids=str)
def test_philox_draws_are_those_of_the_reference(rounding: Stochastic) -> None:
    x = np.random.default_rng(2).standard_normal(10_007).astype(np.float32)
    got = quantize(x, "e4m3", rounding=rounding, seed=2**40 + 5, stream=9)
    index = [0, 1, 2, 3, 4095, 4096, 4097, 10_006]
    words = [random_integer_reference(2**40 + 5, 9, i, rounding.bits) for i in index]
    want = [quantize_exact(float(x[i]), row("e4m3"), rounding, Overflow.SATURATE, w)
            for i, w in zip(index, words, strict=True)]  # fmt: skip
    assert got[index].tolist() == want


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0,) * 4, (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(counter, key, words) -> None:  # type: ignore[no-untyped-def]
    """The known answers published with Random123 (kat_vectors, philox4x32-10)."""
    assert philox_reference(counter, key) == words
    assert tuple(int(w) for w in philox(*map(np.uint32, counter), *map(np.uint32, key))) == words


@pytest.mark.parametrize("source", RANDOM_SOURCES[1:])
def test_generators_of_chips_decide_in_row_major_order(source: str) -> None:
    x = np.random.default_rng(2).standard_normal((7, 11)).astype(np.float32)
    words = draw_words(source, x.size, seed=5, stream=1).reshape(x.shape)
    got = quantize(x, "e4m3", rounding=Stochastic(13, source=source), seed=5, stream=1)
    want = quantize(x, "e4m3", rounding=Stochastic(13), random_bits=words >> np.uint32(19))
    assert np.array_equal(got, want)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**48))
def test_random_words_equal_the_reference(seed: int, stream: int, index: int) -> None:
    scratch = np.empty(18, np.uint32)
    words = fill_words(scratch, np.uint64(seed), np.uint64(stream), np.uint64(index), 10)
    assert words.tolist() == [random_word_reference(seed, stream, index + i) for i in range(10)]


@pytest.mark.parametrize("k", [1, 2, 3, 4, 8])
@pytest.mark.parametrize(
    ("rule", "fine", "coarse"), [("srff", -0.5, -0.25), ("srf", 0.0, 0.25), ("src", 0.0, 0.0)]
)
def test_bias_of_each_stochastic_rule_by_enumeration(
    k: int, rule: str, fine: float, coarse: float
) -> None:
    """Mean error in units of 2^-k ulp, over all random integers, for inputs with many extra bits
    and for inputs with exactly k + 1: the closed forms of the rules."""
    span, rounding = 2**k, Stochastic(k, rule)
    for extra, expected, tolerance in ((k + 8, fine, 3e-3), (k + 1, coarse, 1e-9)):
        steps = [Fraction(n, 2**extra) for n in range(2**extra)]
        x = np.repeat([float(1 + d / 8) for d in steps], span)
        r = np.tile(np.arange(span), len(steps))
        up = (quantize(x, "e4m3", rounding=rounding, random_bits=r) - 1.0) * 8
        error = float(up.mean()) - float(sum(steps) / len(steps))
        assert math.isclose(error * span, expected, abs_tol=tolerance)


@pytest.mark.parametrize("overflow", ["infinity", "nan", "propagate"])
@pytest.mark.parametrize("rule", ["srff", "src"])
def test_stochastic_overflow_equals_reference(rule: str, overflow: str) -> None:
    rounding, x = Stochastic(8, rule), hard_values("float8_e5m2")
    bits = np.random.default_rng(1).integers(0, 256, x.shape)
    got = quantize(x, "e5m2", rounding=rounding, overflow=overflow, random_bits=bits)
    want = [
        quantize_exact(v, row("e5m2"), rounding, Overflow(overflow), int(r))
        for v, r in zip(x.tolist(), bits, strict=True)
    ]
    assert_same(got, np.array(want), x)


@pytest.mark.parametrize("rounding", [*DETERMINISTIC, Stochastic(5), Stochastic(24, "srf")])
@pytest.mark.parametrize("name", ["e4m3", "e5m2fnuz", "e2m1", "int8", "bfloat16", "float16"])
def test_codes_are_those_of_the_values_in_float32_and_float64(name: str, rounding: str) -> None:
    x = hard_values(get_format(name).name)
    with np.errstate(over="ignore"):
        arrays = (x, x.astype(np.float32))
    for array in arrays:
        values = quantize(array, name, rounding=rounding, seed=3)
        codes = encode(array, name, rounding=rounding, seed=3)
        assert_same(decode(codes, name).astype(np.float64), values.astype(np.float64), array)


def test_subnormals_are_flushed_where_asked() -> None:
    tiny = np.float32(2.0**-130)
    x = np.array([tiny, -tiny, 2.0**-8, -(2.0**-8), 2.0**-6, 2.0**-6 * 0.97], np.float32)
    kept = quantize(x, "e4m3")
    assert kept.tolist() == [0.0, -0.0, 2.0**-8, -(2.0**-8), 2.0**-6, 2.0**-6]
    out = quantize(x, "e4m3", flush="outputs")
    assert out.tolist() == [0.0, -0.0, 0.0, -0.0, 2.0**-6, 2.0**-6]
    assert np.array_equal(np.signbit(out), np.signbit(x))
    assert encode(x, "e4m3", flush="outputs").tolist() == [0, 128, 0, 128, 8, 8]
    assert quantize(x[:1], "e4m3", rounding="up", flush="inputs").tolist() == [0.0]
    assert quantize(x[:1], "e4m3", rounding="up").tolist() == [2.0**-9]
    assert quantize(x[:1], "e4m3", rounding="up", flush="both").tolist() == [0.0]


def test_saturation_goes_by_the_names_of_p3109_too() -> None:
    x = np.array([1e6, -np.inf])
    assert quantize(x, "e5m2", overflow="SatFinite").tolist() == [57344.0, -57344.0]
    assert quantize(x, "e5m2", overflow="SatPropagate").tolist() == [57344.0, -np.inf]
    assert quantize(x, "e5m2", overflow="OvfInf").tolist() == [np.inf, -np.inf]


@pytest.mark.parametrize("rounding", [*DETERMINISTIC, *RULES], ids=str)
def test_every_nan_stays_nan(rounding: str) -> None:
    """Whatever its payload: an increment must not carry it into the exponent."""
    bits = np.array([0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000, 0xFF80FFFF], np.uint32)
    x = np.concatenate([bits.view(np.float32)] * 20)
    for name in ("e4m3", "bfloat16", "float16"):
        for array in (x, x.astype(np.float64)):
            for policy in ("saturate", "infinity"):
                got = quantize(array, name, rounding=rounding, overflow=policy, seed=1)
                assert np.isnan(got).all()
                codes = encode(array, name, rounding=rounding, overflow=policy, seed=1)
                assert np.isnan(decode(codes, name)).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_tensors_are_rounded_once_in_their_own_dtype(dtype: torch.dtype) -> None:
    every = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype)
    x = every[torch.isfinite(every)]
    for name in ("e4m3", "int4", "e5m2"):
        got = quantize(x, name)
        assert got.dtype == dtype
        assert torch.equal(got.float(), quantize(x.float(), name))
    with pytest.raises(InputError, match="cannot hold every value of float32; pass float32"):
        quantize(x, "float32")


floats = st.floats(-1e6, 1e6, allow_nan=False)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FORMATS), floats)
def test_nearest_is_within_half_an_ulp(name: str, x: float) -> None:
    fmt = row(name)
    x = abs(x) + 1e-30 if not fmt.grid.lowest < 0 else x
    if fmt.grid.lowest <= x <= fmt.grid.largest:
        for mode, ulps in (("nearest_even", 0.5), ("nearest_away", 0.5), ("to_odd", 1.0)):
            error = abs(Fraction(quantize(x, name, rounding=mode)) - Fraction(x))
            assert error <= Fraction(ulps) * quantum(abs(Fraction(x)), fmt)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FORMATS), st.sampled_from(DETERMINISTIC), floats, floats)
def test_rounding_is_monotone_idempotent_and_symmetric(
    name: str, mode: str, x: float, y: float
) -> None:
    if not row(name).grid.lowest < 0:
        x, y = abs(x) + 1e-30, abs(y) + 1e-30
    low, high = sorted((x, y))
    q = quantize(np.array([low, high, -low, -high]), name, rounding=mode)
    assert q[0] <= q[1]
    assert np.array_equal(quantize(q[:2], name, rounding=mode), q[:2])
    if (
        mode not in ("up", "down")
        and isinstance(row(name), FloatFormat)
        and row(name).grid.lowest < 0
    ):
        assert (q[2], q[3]) == (-q[0], -q[1])
