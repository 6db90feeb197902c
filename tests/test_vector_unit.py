"""The vector unit in any format and rounding, bit for bit against fractions."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeout.formats import FloatFormat, Stochastic, get_format, quantize
from tapeout.formats.random import random_word_reference
from tapeout.simulator.phase import Phase
from tapeout.simulator.reference import elementwise as exact
from tapeout.simulator.tracing import Trace
from tapeout.simulator.units import VectorUnit
from tapeout.simulator.vector.work import ADD, DIV, FMA, MUL, SQRT, SUB, VectorWork

EVIDENCE = [{"of": ["*"], "basis": "assumed", "source": "a test"}]
ROUNDINGS = (
    "nearest_even", "nearest_away", "toward_zero", "up", "down", "to_odd", "srff", "srf", "src",
)  # fmt: skip
FORMATS = ("float32", "bfloat16", "float16", "tfloat32", "float8_e4m3fn", "float8_e5m2")
SEED = 7


def make_unit(rounding: str, name: str, **options: Any) -> VectorUnit:
    """A unit with the same accumulator; a rule of stochastic rounding stands for itself."""
    if rounding in ("srff", "srf", "src"):
        options |= {"random_bits": options.get("random_bits", 11), "rule": rounding}
        rounding = "stochastic"
    table = {"format": name, "accumulator": name, "rounding": rounding, "evidence": EVIDENCE}
    return VectorUnit.model_validate(table | options)


def work(unit: VectorUnit) -> VectorWork:
    return VectorWork(unit, Trace(SEED, Phase(None)))


def result(unit: VectorUnit) -> exact.Result:
    fmt = get_format(unit.format)
    assert isinstance(fmt, FloatFormat)
    return exact.Result(
        fmt, unit.how(unit.rounding), unit.flush in ("inputs", "both"),
        unit.flush in ("outputs", "both"),
    )  # fmt: skip


def bits_of(unit: VectorUnit, stream: int = 0) -> Callable[[int], int]:
    """The random integer of an element."""
    how = unit.how(unit.rounding)
    if not isinstance(how, Stochastic):
        return lambda _: 0
    return lambda i: random_word_reference(SEED, stream, i) >> (32 - how.bits)


def operands(name: str) -> Any:
    """Triples with subnormals, both zeros, infinities, NaN, ties, cancellation and overflow."""
    fmt = get_format(name)
    assert isinstance(fmt, FloatFormat)
    rng = np.random.default_rng(3)
    ulp = 2.0**-fmt.fraction_bits
    odd = [0.0, 1.0, 1 + ulp, 1 + ulp / 2, 1 + 1.5 * ulp, fmt.largest, fmt.min_normal, 3.0,
           fmt.min_subnormal, fmt.min_subnormal / 2, 1.5 * fmt.min_normal, 2.0**-149, math.inf,
           float(np.finfo(np.float32).max), ulp / 2, 2.0**-30]  # fmt: skip
    special = np.array([*odd, *(-v for v in odd), math.nan], np.float32)
    x, y = (a.reshape(-1) for a in np.meshgrid(special, special))
    scale = 2.0 ** rng.integers(-12, 12, (3, 800))
    wide = (rng.standard_normal((3, 800)) * scale).astype(np.float32)
    near = (1 + rng.integers(0, 4, (3, 400)) * ulp / 4) * np.where(
        rng.random((3, 400)) < 0.5, 1, -1
    )
    subnormal = rng.standard_normal((3, 300)) * fmt.min_normal
    columns = [np.concatenate([s, w, n, u]) for s, w, n, u in
               zip((x, y, rng.permutation(x)), wide, near, subnormal, strict=True)]  # fmt: skip
    return [c.astype(np.float32) for c in columns]


def same_bits(found: Any, expected: Any) -> bool:
    found, expected = np.asarray(found, np.float32), np.asarray(expected, np.float32)
    both_nan = np.isnan(found) & np.isnan(expected)
    return bool((both_nan | (found.view(np.int32) == expected.view(np.int32))).all())


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("name", FORMATS)
def test_operations_equal_the_fractions(name: str, rounding: str) -> None:
    unit = make_unit(rounding, name)
    x, y, z = operands(name)
    how, tensors = result(unit), [torch.from_numpy(v) for v in (x, y, z)]
    vector = work(unit)
    cases: list[tuple[int, int, Callable[..., float]]] = [
        (ADD, 2, exact.add),
        (SUB, 2, lambda a, b, how, r: exact.add(a, -b if b == b else b, how, r)),
        (MUL, 2, exact.multiply),
        (DIV, 2, exact.divide),
        (SQRT, 1, exact.root),
        (FMA, 3, exact.fused),
    ]
    step = 2 if rounding in ("nearest_even", "srff", "down") else 7
    for stream, (op, arity, reference) in enumerate(cases):
        found = vector.operate(op, *tensors[:arity]).numpy()[::step]
        draw = bits_of(unit, stream)
        rows = list(zip(*(v.tolist() for v in (x, y, z)[:arity]), strict=True))
        expected = [reference(*rows[i], how, draw(i)) for i in range(0, len(rows), step)]
        assert same_bits(found, expected), (op, _first(found, expected, rows[::step]))


def _first(found: Any, expected: Any, rows: Any) -> Any:
    pairs = zip(rows, found.tolist(), expected, strict=True)
    return next((p for p in pairs if not same_bits([p[1]], [p[2]])), None)


@pytest.mark.parametrize("flush", ["inputs", "outputs", "both"])
@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_flushed_subnormals_are_zeros_of_their_sign(name: str, flush: str) -> None:
    unit = make_unit("nearest_even", name, flush=flush)
    x, y, _ = operands(name)
    how, vector = result(unit), work(unit)
    for op, reference in ((ADD, exact.add), (MUL, exact.multiply), (DIV, exact.divide)):
        found = vector.operate(op, torch.from_numpy(x), torch.from_numpy(y)).numpy()
        expected = [reference(a, b, how) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
        assert same_bits(found, expected)


real = st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True)


@given(real, real, real)
@settings(max_examples=150, deadline=None)
def test_any_float32_operands(x: float, y: float, z: float) -> None:
    for rounding in ("nearest_away", "up", "to_odd"):
        unit = make_unit(rounding, "tfloat32")
        how, vector = result(unit), work(unit)
        assert same_bits(vector.operate(FMA, x, y, z), exact.fused(x, y, z, how))
        assert same_bits(vector.operate(DIV, x, y), exact.divide(x, y, how))
        assert same_bits(vector.operate(SQRT, abs(x)), exact.root(abs(x), how))


def test_the_hosts_arithmetic_is_the_plain_units() -> None:
    """Why torch's own operations may stand for the unit: the kernels return the same bits."""
    unit = make_unit("nearest_even", "float32")
    x, y, _ = (torch.from_numpy(v) for v in operands("float32"))
    vector = work(unit)
    assert vector.plain
    for op, native in ((ADD, x + y), (SUB, x - y), (MUL, x * y), (DIV, x / y)):
        assert same_bits(vector.operate(op, x, y), native)
    assert same_bits(vector.operate(SQRT, x), vector.root(x))


@pytest.mark.parametrize("rounding", ["nearest_even", "toward_zero", "down", "srff", "src"])
@pytest.mark.parametrize("tree", [True, False])
@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_reductions_equal_the_fractions(name: str, tree: bool, rounding: str) -> None:
    unit = make_unit(rounding, name, reduction="tree" if tree else "sequential")
    how = result(unit)
    rng = np.random.default_rng(5)
    for length in (1, 2, 3, 7, 8, 21):
        for product in (False, True):
            x = (rng.standard_normal((3, length)) * 2.0 ** rng.integers(-3, 3, (3, length))).astype(
                np.float32
            )
            found = work(unit).reduce(torch.from_numpy(x), 1, False, product)
            draw = bits_of(unit)
            expected = []
            for row in range(3):
                numbers = iter(range(row * length, (row + 1) * length))
                bits = map(draw, numbers)
                value = exact.reduce_column(x[row].tolist(), how, tree, product, bits.__next__)
                expected.append(value if length > 1 else float(found[row]))
            assert same_bits(found, expected)


@pytest.mark.parametrize("tree", [True, False])
@pytest.mark.parametrize(
    "shape", [(5, 33, 7), (2, 40, 200), (70, 129, 1), (1, 3, 300), (300, 2, 3)]
)
def test_one_order_whatever_the_layout(shape: tuple[int, ...], tree: bool) -> None:
    """A reduced dimension first, in the middle, last, transposed or large enough for threads."""
    unit = make_unit("nearest_even", "float32", reduction="tree" if tree else "sequential")
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    vector, how = work(unit), result(unit)
    middle = vector.reduce(x, 1, False)
    assert same_bits(vector.reduce(x.movedim(1, 0).contiguous(), 0, False), middle)
    assert same_bits(vector.reduce(x.movedim(1, 2).contiguous(), 2, False), middle)
    assert same_bits(vector.reduce(x.mT.contiguous().mT, 1, False), middle)
    assert same_bits(vector.reduce(x[:, :, :1], [1], True)[:, 0], middle[:, :1])
    column = x[-1, :, -1].tolist()
    value = exact.reduce_column(column, how, tree, False, lambda: 0)
    assert same_bits(middle[-1, -1], value)


def test_several_dimensions_are_one_row_in_row_major_order() -> None:
    vector = work(make_unit("nearest_even", "float32", reduction="sequential"))
    x = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(1)) * 100
    for dims in ([0, 2], [2, 0], [1, 3], [0, 1, 3]):
        kept = [d for d in range(4) if d not in dims]
        rows = x.permute(*kept, *sorted(dims)).flatten(len(kept))
        assert same_bits(vector.reduce(x, dims, False), vector.reduce(rows, -1, False))
    assert vector.reduce(x, None, False).shape == ()
    assert vector.reduce(torch.zeros(0, 3), 0, False).tolist() == [0.0] * 3
    assert vector.reduce(torch.zeros(0, 3), 0, False, True).tolist() == [1.0] * 3


@pytest.mark.parametrize("rounding", ["nearest_even", "up", "srf"])
@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_running_sums_and_accumulations(name: str, rounding: str) -> None:
    unit = make_unit(rounding, name)
    how, draw = result(unit), bits_of(unit)
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, 9, 3)).astype(np.float32)
    for product, step in ((False, exact.add), (True, exact.multiply)):
        found = work(unit).scan(torch.from_numpy(x), 1, product).numpy()
        expected = x.copy()
        for o, n, c in np.ndindex(2, 8, 3):
            place = (o * 9 + n + 1) * 3 + c
            expected[o, n + 1, c] = step(
                float(expected[o, n, c]), float(x[o, n + 1, c]), how, draw(place)
            )
        assert same_bits(found[:, 1:], expected[:, 1:])
        assert same_bits(found[:, 0], quantize(found[:, 0], name))  # what is not added is stored
    index = rng.integers(0, 4, 18)
    out, rows = np.zeros((4, 3), np.float32), x.reshape(18, 3)
    places = torch.from_numpy(out)
    work(unit).add_rows(places, torch.from_numpy(index), torch.from_numpy(rows))
    wanted = np.zeros((4, 3), np.float32)
    for s, c in np.ndindex(18, 3):
        here = index[s], c
        wanted[here] = exact.add(float(wanted[here]), float(rows[s, c]), how, draw(s * 3 + c))
    assert same_bits(out, wanted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "int8"}, "int8 is not one of float64"),
        ({"format": "float8_e8m0fnu"}, "float8_e8m0fnu is not one of"),
        ({"rounding": "nearest"}, "nearest_even"),
        ({"format": "float64", "accumulator": "float64", "rounding": "up"}, "float64 is rounded"),
        ({"format": "float64"}, "accumulates in float64"),
        ({"rounding": "stochastic"}, "random_bits"),
        ({"rounding": "stochastic", "random_bits": 28, "rule": "srff"}, "27"),
        ({"random_bits": 8, "rule": "srff"}, "stochastic"),
        ({"rounding": "up", "functions": "host"}, "IEEE arithmetic"),
    ],
)
def test_units_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    table = {"format": "float32", "accumulator": "float32", "evidence": EVIDENCE}
    with pytest.raises(ValueError, match=message):
        VectorUnit.model_validate(table | options)
