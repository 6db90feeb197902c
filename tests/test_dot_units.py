"""Every unit of every chip, and design points beside them: kernel and reference, bit for bit."""

from typing import Any

import numpy as np
import pytest
import torch

from tapeout.formats import InputError, decode, get_format, quantize
from tapeout.formats.format import ArithmeticFormat, FloatFormat, IntegerFormat
from tapeout.formats.jit import set_threads
from tapeout.simulator import Chain, DotUnit, Exact, Fused, Integer, list_chips, load_chip
from tapeout.simulator.order import Order


def arithmetic(name: str) -> ArithmeticFormat:
    fmt = get_format(name)
    assert isinstance(fmt, FloatFormat | IntegerFormat)
    return fmt


def design(a: str, order: Order, **around: object) -> DotUnit:
    out = order.result.name
    return DotUnit(arithmetic(a), arithmetic(a), arithmetic(out), order, **around)  # type: ignore[arg-type]


def chain(**row: object) -> Chain:
    return Chain.model_validate({"order": "chain", **row})


def fused(block: int, fraction_bits: int, min_exponent: int, accumulator: str) -> Fused:
    return Fused(
        order="fused",
        block=block,
        fraction_bits=fraction_bits,
        min_exponent=min_exponent,
        accumulator=accumulator,
    )


def exact(**row: object) -> Exact:
    return Exact.model_validate({"order": "exact", **row})


def integer(**row: object) -> Integer:
    return Integer.model_validate({"order": "integer", **row})


STEP = chain(accumulator="float32")
SR = {"rounding": "stochastic"}
DESIGNS = {
    "chain bf16 sr8": design("e4m3", chain(accumulator="bfloat16", random_bits=8, **SR)),
    "chain fp16 sr30": design("float16", chain(accumulator="float16", random_bits=30, **SR)),
    "chain bf16 unfused": design("bfloat16", chain(accumulator="bfloat16", fused=False)),
    "chain e4m4 zero": design("e4m3", chain(accumulator="e4m4", rounding="toward_zero")),
    "chain fp16 up": design("e5m2", chain(accumulator="float16", rounding="up")),
    "chain fp16 down": design("float16", chain(accumulator="float16", rounding="down")),
    "chain e5m10 odd": design("e4m3", chain(accumulator="e5m10", rounding="to_odd")),
    "chain 3 lanes": design("e4m3", chain(accumulator="e8m13", rounding="nearest_away", lanes=3)),
    "chain fp32 unfused": design("tfloat32", chain(accumulator="float32", fused=False)),
    "chain promoted": design(
        "e4m3", chain(accumulator="bfloat16"), promote_every=128, promotion=STEP
    ),
    "chain sr promoted": design(
        "e4m3",
        chain(accumulator="bfloat16", random_bits=4, **SR),
        promote_every=8,
        promotion=STEP,
    ),
    "fused fp4": design("e2m1", fused(64, 10, -60, "bfloat16")),
    "fused descending": design("e4m3", fused(4, 8, -30, "e6m9"), k_order=tuple(range(8))[::-1]),
    "exact e4m3": design("e4m3", exact(accumulator="float32")),
    "exact e5m2 in 4": design("e5m2", exact(block=4, accumulator="float32")),
    "exact bf16": design("bfloat16", exact(accumulator="bfloat16", rounding="toward_zero")),
    "exact fp32": design("float32", exact(accumulator="float32")),
    "integer saturating": design(
        "int8", integer(accumulator="int16", overflow="saturate", block=4)
    ),
    "integer wrapping": design("int8", integer(accumulator="int16")),
}


def chip_units() -> dict[str, DotUnit]:
    """Each arithmetic of the library's chips once; test_chip_profiles.py mixes their operands."""
    found: dict[tuple[object, ...], tuple[str, DotUnit]] = {}
    for name in list_chips():
        for row in load_chip(name).matrix_units:
            a, b = row.a[0], row.b[-1]
            unit = row.unit(a, b, name)
            key = (unit.order, unit.promotion, unit.promote_every, unit.k_order, unit.split, a, b)
            found.setdefault(key, (f"{name} {row.instruction} {a}x{b}->{row.output}", unit))
    return dict(found.values())


UNITS = DESIGNS | chip_units()
SPREADS = ("narrow", "medium", "full", "cancelling", "special")


def operands(fmt: ArithmeticFormat, shape: tuple[int, ...], spread: str, seed: int) -> np.ndarray:
    """Values of the format: of similar size, of some or all exponents, or with infinities."""
    rng = np.random.default_rng(seed)
    if isinstance(fmt, IntegerFormat):
        low, high = int(fmt.lowest), int(fmt.largest)
        scale = {"narrow": 16, "medium": 4}.get(spread, 1)
        return (rng.integers(low, high + 1, shape) // scale).astype(np.float64)
    x = rng.standard_normal(shape)
    if spread == "medium":
        x *= 2.0 ** rng.integers(-6, 6, shape)
    if spread in ("full", "special") and fmt.bits <= 16:
        codes = rng.integers(0, 2**fmt.bits, shape, dtype=np.uint16)
        x = decode(codes, fmt).astype(np.float64)
    elif spread in ("full", "special"):
        x *= 2.0 ** rng.integers(-140, 120, shape)
    if spread != "special":
        x = np.where(np.isfinite(x), x, 0.0)
    return quantize(x, fmt, overflow="infinity" if fmt.grid.has_infinity else "saturate")


def make_case(unit: DotUnit, m: int, k: int, n: int, spread: str, seed: int):  # type: ignore[no-untyped-def]
    a = operands(unit.a, (m, k), spread, seed)
    b = operands(unit.b, (k, n), spread, seed + 1)
    c = operands(unit.addend, (m, n), spread, seed + 2)
    if spread == "cancelling" and k > 1:
        b[k // 2 :] = b[: k - k // 2]
        a[:, k // 2 :] = -a[:, : k - k // 2] if a.min() < 0 else a[:, : k - k // 2]
        a = np.clip(a, unit.a.grid.lowest, unit.a.grid.largest)
    return a, b, c


def assert_twins(
    unit: DotUnit, a: np.ndarray, b: np.ndarray, c: np.ndarray | None, **scales: Any
) -> None:
    """Equal bits, signs of zeros included; one NaN is as good as another."""
    got = np.asarray(unit.matmul(a, b, c, seed=3, stream=5, **scales), np.float64)
    want = unit.reference.matmul(a, b, c, seed=3, stream=5, **scales)
    same = (got == want) & (np.signbit(got) == np.signbit(want))
    same |= np.isnan(got) & np.isnan(want)
    first = tuple(int(i[0]) for i in np.nonzero(~same)) if not same.all() else ()
    assert same.all(), f"{first}: kernel {got[first]!r}, reference {want[first]!r}"


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("name", UNITS)
def test_kernel_equals_reference(name: str, spread: str) -> None:
    unit = UNITS[name]
    for seed, (m, k, n) in enumerate([(3, 37, 5), (1, 1, 1), (9, 8, 2), (2, 130, 3)]):
        assert_twins(unit, *make_case(unit, m, k, n, spread, 10 * seed))


@pytest.mark.parametrize(
    "name", ["chain bf16 sr8", "fused fp4", "exact e5m2 in 4", "integer saturating"]
)
def test_long_dot_products(name: str) -> None:
    unit = UNITS[name]
    assert_twins(unit, *make_case(unit, 1, 4097, 2, "medium", 1))


@pytest.mark.parametrize("name", DESIGNS)
def test_shapes_stacks_and_absent_c(name: str) -> None:
    unit = UNITS[name]
    a = operands(unit.a, (2, 300, 12), "narrow", 0)
    b = operands(unit.b, (2, 12, 7), "narrow", 1)
    whole = unit.matmul(a, b, seed=1)
    assert whole.shape == (2, 300, 7)
    if not isinstance(unit.order, Chain) or unit.order.random_bits is None:
        assert np.array_equal(whole[1], unit.matmul(a[1], b[1]))
        rows = unit.dot(a[0, :7], np.ascontiguousarray(b[0].T))
        assert np.array_equal(rows, np.diagonal(whole[0][:7]))
    assert np.array_equal(whole, unit.matmul(a, b, np.zeros((2, 300, 7)), seed=1))
    assert unit.matmul(a[0, :0], b[0]).shape == (0, 7)
    assert unit.matmul(a[0], b[0][:, :0]).shape == (300, 0)
    empty = unit.matmul(a[0][:, :0], b[0][:0])
    assert empty.shape == (300, 7) and not empty.any()
    tensor = unit.matmul(torch.from_numpy(a), torch.from_numpy(b), seed=1)
    assert isinstance(tensor, torch.Tensor) and np.array_equal(tensor.numpy(), whole)


@pytest.mark.parametrize("name", [*DESIGNS, "nvidia-h100 wgmma float8_e4m3fnxfloat8_e5m2->float32"])
def test_bytes_do_not_depend_on_threads(name: str) -> None:
    unit = UNITS[name]
    a, b, c = make_case(unit, 70, 64, 90, "medium", 4)
    results = []
    for threads in (1, 2):
        set_threads(threads)
        results.append(unit.matmul(a, b, c, seed=8).tobytes())
    assert results[0] == results[1]


def test_stochastic_accumulator_is_unbiased_where_nearest_even_stalls() -> None:
    """1 + 512 * 2^-10 = 1.5: nearest-even in bfloat16 never leaves 1; stochastic gets there."""
    a = np.full((400, 513), 2.0**-5)
    b = np.full((513, 1), 2.0**-5)
    a[:, 0] = b[0] = 1.0
    nearest = design("e4m3", chain(accumulator="bfloat16")).matmul(a[:1], b)
    assert nearest.item() == 1.0
    sums = DESIGNS["chain bf16 sr8"].matmul(a, b, seed=11)
    assert abs(float(sums.mean()) - 1.5) < 4 * float(sums.std()) / 20
    assert float(sums.std()) > 0


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: design("e8m30", chain(accumulator="float32")), ["e8m30", "26 significand"]),
        (lambda: design("e11m8", exact(accumulator="float32")), ["e11m8", "8 exponent"]),
        (lambda: design("e4m3", chain(accumulator="e9m5")), ["e9m5", "float64"]),
        (lambda: design("e4m3", chain(accumulator="e8m40")), ["e8m40", "float64"]),
        (lambda: design("int8", chain(accumulator="float32")), ["integer operands"]),
        (lambda: design("e4m3", fused(4, 8, -9, "bfloat16"), k_order=(0, 2)), ["permutation"]),
        (lambda: chain(accumulator="float32", rounding="stochastic"), ["random_bits"]),
    ],
)
def test_units_that_could_not_be_exact_are_refused(build, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError) as refusal:
        build().accumulator  # noqa: B018
    assert all(word in str(refusal.value) for word in words), str(refusal.value)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda u: u.matmul(np.array([[0.3]]), np.ones((1, 1))), ["0.3", "float8_e4m3fn"]),
        (lambda u: u.matmul(np.ones((2, 3)), np.ones((2, 3))), ["(2, 3)", "(M, K)"]),
        (
            lambda u: u.matmul(np.ones((2, 3)), np.ones((3, 2)), np.ones((3, 3))),
            ["C of", "(2, 2)"],
        ),
        (lambda u: u.matmul(np.ones((2, 2), int), np.ones((2, 2))), ["int64", "float32"]),
        (lambda u: u.dot(np.ones(3), np.ones(4)), ["(3,)", "(4,)"]),
    ],
)
def test_bad_operands_are_refused_in_one_sentence(call, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError) as refusal:
        call(DESIGNS["chain bf16 sr8"])
    assert all(word in str(refusal.value) for word in words), str(refusal.value)
