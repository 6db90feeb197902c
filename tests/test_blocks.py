"""Block formats: kernels against the exact reference, on every row, rule, axis and special."""

from dataclasses import replace

import numpy as np
import pytest

from tapeout.formats import (
    BlockFormat,
    FixedFormat,
    Stochastic,
    decode,
    get_format,
    list_block_formats,
)
from tapeout.formats.blocks.conversion import decode_blocks, encode_blocks, quantize_blocks
from tapeout.formats.blocks.layout import lay_out
from tapeout.formats.blocks.reference import ExactBlocks, quantize_blocks_exact
from tapeout.formats.blocks.rules import RULES
from tapeout.formats.rounding import Overflow, Rounding, get_rounding

DTYPES = (np.float32, np.float64)


def block(name: str, **changes: object) -> BlockFormat:
    fmt = get_format(name)
    assert isinstance(fmt, BlockFormat)
    return replace(fmt, **changes)  # type: ignore[arg-type]


def hard_array(shape: tuple[int, ...], dtype: type, seed: int, specials: bool = True) -> np.ndarray:
    """Wide exponents in runs, powers of two and their neighbours, ties, zeros, subnormals."""
    rng = np.random.default_rng(seed)
    n = int(np.prod(shape))
    runs = np.repeat(rng.integers(-60, 60, n // 6 + 1), 6)[:n]
    x: np.ndarray = (rng.standard_normal(n) * 2.0 ** (runs + rng.integers(-9, 1, n))).astype(dtype)
    kind = rng.integers(0, 12, n)
    power: np.ndarray = np.ldexp(np.ones(n, dtype), runs).astype(dtype)
    x = np.where(kind == 0, power, x)
    x = np.where(kind == 1, np.nextafter(power, dtype(np.inf)), x)
    x = np.where(kind == 2, -np.nextafter(power, dtype(0)), x)
    x = np.where(kind == 3, power * rng.integers(1, 64, n).astype(dtype) / dtype(32), x)
    x = np.where(kind == 4, rng.choice(np.array([0.0, -0.0], dtype), n), x)
    if specials:
        tiny = np.finfo(dtype).smallest_subnormal * rng.integers(1, 2**20, n).astype(dtype)
        part = np.repeat(rng.integers(0, 9, n // 6 + 1), 6)[:n]
        x = np.where(part == 0, tiny, x)
        x = np.where(part == 1, x * dtype(0), x)
        huge = rng.uniform(0.5, 1, n).astype(dtype) * np.finfo(dtype).max
        x = np.where(part == 2, huge * np.sign(rng.standard_normal(n)).astype(dtype), x)
        at = rng.integers(0, n, 3)
        x[at] = np.array([np.inf, -np.inf, np.nan], dtype)
    return x.reshape(shape).astype(dtype)


def assert_same(got: np.ndarray, want: np.ndarray, x: np.ndarray) -> None:
    assert got.shape == want.shape and got.dtype == want.dtype
    equal = ((got == want) & (np.signbit(got) == np.signbit(want))) | (
        np.isnan(got) & np.isnan(want)
    )
    if not equal.all():
        at = tuple(int(i[0]) for i in np.nonzero(~equal))
        raise AssertionError(f"x{at} = {x[at]!r}: kernel {got[at]!r}, reference {want[at]!r}")


def check(x: np.ndarray, fmt: BlockFormat, axis: int, rounding: object = "nearest_even",
          overflow: str = "saturate", codes: bool = True) -> None:  # fmt: skip
    """quantize, encode and decode against the reference, values, codes and scales."""
    mode = get_rounding(rounding)  # type: ignore[arg-type]
    random = None
    if isinstance(mode, Stochastic):
        random = np.random.default_rng(5).integers(0, 2**mode.bits, x.shape, dtype=np.uint64)
    with np.errstate(all="ignore"):
        want = quantize_blocks_exact(x, fmt, axis, mode, Overflow(overflow), random)
    given: dict[str, object] = {
        "axis": axis,
        "rounding": mode,
        "overflow": overflow,
        "random_bits": random,
    }
    got = quantize_blocks(x, fmt, **given)  # type: ignore[arg-type]
    assert_same(got, want.values, x)
    if codes:
        check_codes(x, fmt, axis, want, given)


def check_codes(
    x: np.ndarray, fmt: BlockFormat, axis: int, want: ExactBlocks, given: dict[str, object]
) -> None:
    coded = encode_blocks(x, fmt, **given)  # type: ignore[arg-type]
    assert np.array_equal(coded.codes, want.codes)
    assert_same(decode_blocks(coded), want.values, x)
    _, shape = lay_out(x.shape, fmt, axis)
    assert coded.scales.shape == shape
    stored = decode(coded.scales, fmt.scale).astype(np.float64)
    for at, scale in want.scales.items():
        assert_same(np.asarray(stored[at]), np.asarray(scale.stored), np.asarray(x))
        if coded.zero_points is not None and not np.isnan(scale.stored):
            signed = int(coded.zero_points[at])
            assert signed == scale.zero % 2**fmt.bits


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", list_block_formats())
def test_every_row_equals_the_reference(name: str, dtype: type) -> None:
    fmt = block(name)
    fmt = replace(fmt, block=tuple(min(n or 1, 13) for n in fmt.block))
    check(hard_array((5, 31), dtype, 0), fmt, -1)
    check(hard_array((5, 26), dtype, 9, specials=False), fmt, -1)
    if len(fmt.block) < 2:
        check(hard_array((16, 7), dtype, 3), fmt, 0)


ELEMENTS = ("mxfp8_e4m3", "mxfp8_e5m2", "mxfp4_e2m1", "mxint8", "msfp12", "int4_g32")
POWERS = [name for name, rule in RULES.items() if rule.power_of_two]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", POWERS)
@pytest.mark.parametrize("name", ELEMENTS)
def test_power_of_two_rules_equal_the_reference(name: str, rule: str, dtype: type) -> None:
    scale = get_format("e8m0")
    fmt = block(name, rule=rule, block=(8,), scale=scale, tensor_scale=None)
    check(hard_array((8, 24), dtype, 1), fmt, -1)
    check(hard_array((3, 20), dtype, 2), fmt, 1)
    narrow = block(name, rule=rule, block=(8,), scale=get_format("float8_e5m2"))
    check(hard_array((3, 16), dtype, 3), narrow, -1)


@pytest.mark.parametrize("rule", POWERS)
@pytest.mark.parametrize(("width", "fraction"), [(8, 7), (8, 6), (5, 2)])
def test_fixed_point_elements_equal_the_reference(width: int, fraction: int, rule: str) -> None:
    """Among them elements below 1, whose emax is negative."""
    element = FixedFormat("fixed", width - 1 - fraction, fraction, symmetric=rule == "ceil")
    fmt = block("mxint8", element=element, rule=rule, block=(8,))
    check(hard_array((6, 24), np.float32, 12), fmt, -1)


FLOATS = [n for n, r in RULES.items() if not r.power_of_two and not r.zero_point]


@pytest.mark.parametrize("scale", ["float8_e4m3fn", "float32", "bfloat16", "float8_e8m0fnu"])
@pytest.mark.parametrize("rule", FLOATS)
@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp4_e2m1", "int4_g32"])
def test_float_rules_equal_the_reference(name: str, rule: str, scale: str) -> None:
    tensor = get_format("float32") if RULES[rule].two_level else None
    fmt = block(name, rule=rule, block=(8,), scale=get_format(scale), tensor_scale=tensor)
    for specials in (False, True):
        check(hard_array((5, 16), np.float32, 4, specials), fmt, -1)
    check(hard_array((3, 15), np.float64, 5, False), fmt, -1)
    for rounding in ("up", "toward_zero"):
        other = replace(fmt, scale_rounding=rounding)
        check(hard_array((4, 8), np.float32, 6, False), other, -1, codes=False)


SHAPES = [
    ((), -1, (4,)), ((1,), 0, (4,)), ((37,), -1, (8,)), ((17,), 0, (3, 8)), ((5, 9), 0, (4,)),
    ((5, 9), 1, (4,)), ((2, 6, 3), 1, (4,)), ((3, 4, 3), -3, (2,)), ((2, 6, 5), -1, (4, 3)),
    ((3, 5, 4), 1, (2, 4)), ((2, 2, 3, 4), -2, (2, 2)), ((5, 9), -1, ()), ((5, 9), -1, (None,)),
    ((5, 9), 0, (None,)), ((5, 9), -1, (None, 4)), ((5, 9), -1, (2, None)), ((5, 9), 0, (1, 2)),
    ((0, 3), -1, (2,)), ((3, 0), -1, (2,)), ((3, 0), 0, (2,)), ((0,), -1, ()),
]  # fmt: skip


@pytest.mark.parametrize("name", ["mxfp8_e4m3", "nvfp4", "uint4_g32", "linear2_4bit_b64"])
@pytest.mark.parametrize(("shape", "axis", "size"), SHAPES)
def test_every_axis_and_shape_equals_the_reference(
    name: str, shape: tuple[int, ...], axis: int, size: tuple[int, ...]
) -> None:
    fmt = block(name, block=size)
    for dtype in DTYPES:
        check(hard_array(shape, dtype, 6, specials=False), fmt, axis)


ROUNDINGS = [r.value for r in Rounding if r is not Rounding.STOCHASTIC]
RANDOM = [Stochastic(8), Stochastic(32), Stochastic(4, "srf"), Stochastic(6, "src")]


@pytest.mark.parametrize("rounding", [*ROUNDINGS, *RANDOM], ids=str)
@pytest.mark.parametrize("name", ["mxfp8_e5m2", "mxfp6_e2m3", "mxint8", "nvfp4", "uint8_g32"])
def test_every_rounding_equals_the_reference(name: str, rounding: object) -> None:
    fmt = block(name, block=(8,))
    for dtype in DTYPES:
        check(hard_array((3, 20), dtype, 7), fmt, -1, rounding)
        check(hard_array((9, 5), dtype, 8, False), fmt, 0, rounding)


@pytest.mark.parametrize("rounding", ["nearest_even", "toward_zero", "up", "to_odd"])
@pytest.mark.parametrize("overflow", ["infinity", "nan"])
@pytest.mark.parametrize("name", ["mxfp8_e5m2", "mxfp8_e4m3"])
def test_overflow_policies_equal_the_reference(name: str, overflow: str, rounding: str) -> None:
    for dtype in DTYPES:
        check(hard_array((5, 24), dtype, 11), block(name, block=(8,)), -1, rounding, overflow)
