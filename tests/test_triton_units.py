"""Triton's dot units, in its interpreter on tensors in memory, against the CPU kernels."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tapeout.formats import InputError, quantize
from tapeout.formats.device.place import NoKernel, host_fallback, host_tensors_too
from tapeout.formats.format import FLOAT32, ArithmeticFormat, fits
from tapeout.simulator import DotUnit, list_chips, load_chip
from tapeout.simulator.order import Promotion, Sequence, SplitK
from tapeout.simulator.order.around import Addition
from tapeout.tests.triton_code.orders import ORDERS, unit_of

pytest.importorskip("triton")
if torch.cuda.is_available():
    pytest.skip("the interpreter is for machines without a GPU", allow_module_level=True)

Array = NDArray[Any]


def operand(rng: np.random.Generator, fmt: ArithmeticFormat, *shape: int, spread: int) -> Array:
    """Values of a format over many binades, with zeros of both signs and subnormals."""
    x = rng.standard_normal(shape) * 2.0 ** rng.integers(-spread, spread + 1, shape)
    x[rng.random(shape) < 0.08] = 0.0
    x[rng.random(shape) < 0.04] = -0.0
    kind = np.float32 if fits(fmt, FLOAT32) else np.float64
    return np.asarray(quantize(x.astype(kind), fmt))


def special(x: Array, fmt: ArithmeticFormat, *places: tuple[int, ...]) -> Array:
    """Infinities and a NaN in turn at those places, as far as the format has them."""
    values = [np.nan] if fmt.grid.has_nan else []
    values += [np.inf, -np.inf] if fmt.grid.has_infinity else []
    for n, place in enumerate(places):
        if values:
            x[place] = values[n % len(values)]
    return x


def compare(unit: DotUnit, rows: int, columns: int, depth: int, *, spread: int, specials: bool,
            with_c: bool = True) -> None:  # fmt: skip
    """A product on the host and by the kernels: equal bits, NaN payloads aside."""
    rng = np.random.default_rng(depth)
    a = operand(rng, unit.a, rows, depth, spread=spread)
    b = operand(rng, unit.b, depth, columns, spread=spread)
    c = operand(rng, unit.addend, rows, columns, spread=spread)
    if specials:
        a = special(a, unit.a, (0, 0), (1, 0), (2, depth - 1), (1, depth - 1))
        b = special(b, unit.b, (0, 0))
        c = special(c, unit.addend, (0, 1), (2, 1), (1, 1))
    tensors = [torch.from_numpy(x) for x in (a, b, c)]
    if not with_c:
        tensors[2] = None  # type: ignore[call-overload]
    options: dict[str, Any] = {"seed": 2**33 + 5, "stream": 3}
    if unit.scale is not None:
        parts = -(-depth // unit.scale.block)
        options["a_scale"] = torch.from_numpy(
            np.abs(operand(rng, unit.scale.fmt, rows, parts, spread=4))
        )
        options["b_scale"] = torch.from_numpy(
            np.abs(operand(rng, unit.scale.fmt, parts, columns, spread=4))
        )
    want = unit.matmul(*tensors, **options)
    with host_tensors_too():
        got = unit.matmul(*tensors, **options)
    kind = torch.int32 if want.dtype is torch.float32 else torch.int64
    assert got.dtype is want.dtype
    differ = (got.view(kind) != want.view(kind)) & ~(got.isnan() & want.isnan())
    assert not differ.any(), (int(differ.sum()), want[differ][:4], got[differ][:4])


#: The orders of the quick run; the others take as long each, and are the nightly sweep's.
QUICK = (0, 2, 9, 14, 15, 19, 20, 22, 24, 30)


@pytest.mark.parametrize(
    ("operands", "row"),
    [
        pytest.param(*case, marks=() if n in QUICK else pytest.mark.slow)
        for n, case in enumerate(ORDERS)
    ],
    ids=lambda v: str(v)[:90],
)
def test_orders_equal_the_cpu_kernels_to_the_bit(operands: str, row: dict[str, Any]) -> None:
    unit = unit_of(operands, row)
    compare(unit, 3, 4, 6, spread=2, specials=True)
    compare(unit, 5, 3, 9, spread=8, specials=False)


@pytest.mark.slow
@pytest.mark.parametrize(("operands", "row"), ORDERS, ids=lambda v: str(v)[:90])
def test_orders_of_operands_far_apart(operands: str, row: dict[str, Any]) -> None:
    """Where sums overflow and underflow, and exact ones ask for their digits."""
    compare(unit_of(operands, row), 3, 3, 6, spread=60, specials=False)


AROUND: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("e4m3", {"order": "fused", "block": 8, "fraction_bits": 13, "min_exponent": -133,
              "accumulator": "float32"},
     {"promote_every": 8, "promotion": Promotion(every=8, accumulator="float32").step}),
    ("e4m3", {"order": "chain", "accumulator": "bfloat16", "rounding": "stochastic",
              "random_bits": 8},
     {"promote_every": 4, "promotion": Addition(accumulator="float32").step,
      "split": SplitK(parts=3, accumulator="float32", combine="pairwise")}),
    ("bfloat16", {"order": "chain", "accumulator": "float32"},
     {"k_order": Sequence(name="permutation", seed=3),
      "split": SplitK(parts=3, accumulator="bfloat16", pattern="interleaved", c="last",
                      combine="permutation", seed=2, rounding="down")}),
    ("bfloat16", {"order": "chain", "accumulator": "float32"}, {"k_order": (3, 1, 0, 2)}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("operands", "row", "around"),
    [pytest.param(*AROUND[0], marks=pytest.mark.slow), AROUND[1], *AROUND[2:]],
)
def test_promotion_splits_and_k_orders(
    operands: str, row: dict[str, Any], around: dict[str, Any]
) -> None:
    compare(unit_of(operands, row, **around), 3, 4, 11, spread=3, specials=False)


def test_stacks_strides_dots_and_empty_products() -> None:
    unit = unit_of("e4m3", {"order": "chain", "accumulator": "bfloat16", "rounding": "stochastic",
                            "random_bits": 16})  # fmt: skip
    x = torch.from_numpy(operand(np.random.default_rng(0), unit.a, 2, 6, 4, spread=2))
    cases: list[Any] = [
        lambda: unit.matmul(x, x.mT, seed=1),
        lambda: unit.matmul(x.mT, x, torch.ones(2, 4, 4), seed=1),
        lambda: unit.dot(x, x.flip(0), torch.ones(2, 6), stream=4),
        lambda: unit.matmul(torch.zeros(3, 0), torch.zeros(0, 2), torch.ones(3, 2)),
        lambda: unit.matmul(torch.zeros(0, 3), torch.zeros(3, 2)),
    ]
    for case in cases:
        want = case()
        with host_tensors_too():
            assert torch.equal(case(), want)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_chips())
def test_every_unit_of_every_chip(name: str) -> None:
    chip = load_chip(name)
    for row in chip.matrix_units:
        for a in row.a:
            for b in row.b:
                unit = row.unit(a, b, f"{name}, {row.instruction}")
                block = getattr(unit.order, "block", None) or 4
                depth = min(block + 3, 40)
                compare(unit, 3, 3, depth, spread=2, specials=True)
                compare(unit, 3, 3, depth, spread=20, specials=False, with_c=False)


def test_refusals_read_as_on_the_host() -> None:
    unit = unit_of("e4m3", {"order": "chain", "accumulator": "bfloat16"})
    one = torch.ones(2, 2)
    cases: list[Any] = [
        lambda: unit.matmul(one, torch.ones(3, 2)),
        lambda: unit.matmul(one, one, torch.ones(3, 2)),
        lambda: unit.matmul(one * 1.03125, one),
        lambda: unit.matmul(one, one, a_scale=one),
        lambda: unit.dot(one, torch.ones(3, 2)),
        lambda: unit.matmul(one.half(), one),
    ]
    for case in cases:
        with pytest.raises(InputError) as host:
            case()
        with host_tensors_too(), pytest.raises(InputError) as device:
            case()
        assert str(device.value) == str(host.value)
    with host_tensors_too(), pytest.raises(InputError, match="move them to one device"):
        unit.matmul(one, one.numpy())


def test_a_tree_too_large_for_a_kernel_is_refused_or_left_to_the_host() -> None:
    unit = unit_of("bfloat16", {"order": "tree", "group": 128, "accumulator": "float32"})
    x, told = torch.ones(2, 128), list[str]()
    with host_tensors_too():
        with pytest.raises(NoKernel, match="tree with group = 128, more than 64, has no kernel"):
            unit.matmul(x, x.mT)
        with host_fallback(told.append):
            got = unit.matmul(x, x.mT)
    assert torch.equal(got, unit.matmul(x, x.mT)) and len(told) == 1
