"""Triton's vector unit, in its interpreter on tensors in memory, against the CPU kernels."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tapeout.formats.device.place import host_tensors_too
from tapeout.simulator.phase import Phase
from tapeout.simulator.tracing import Trace
from tapeout.simulator.units import VectorUnit
from tapeout.simulator.vector import VectorWork
from tapeout.tests.test_triton_formats import assert_same_bits

pytest.importorskip("triton")
if torch.cuda.is_available():
    pytest.skip("the interpreter is for machines without a GPU", allow_module_level=True)

UNITS: list[dict[str, Any]] = [
    {"format": "float32", "rounding": "nearest_even"},
    {"format": "float32", "rounding": "down"},
    {"format": "float32", "rounding": "nearest_even", "flush": "both"},
    {"format": "bfloat16", "rounding": "nearest_away", "reduction": "sequential"},
    {"format": "float16", "rounding": "to_odd", "flush": "outputs"},
    {"format": "bfloat16", "rounding": "stochastic", "random_bits": 8, "rule": "srff"},
    {"format": "bfloat16", "rounding": "stochastic", "random_bits": 20, "rule": "src"},
    {"format": "float64", "rounding": "nearest_even"},
]


def make_work(row: dict[str, Any]) -> VectorWork:
    evidence = [{"of": ["*"], "basis": "assumed", "source": "a test"}]
    table = {"accumulator": row["format"], "evidence": evidence} | row
    return VectorWork(VectorUnit.model_validate(table), Trace(7, Phase(None)))


def numbers(*shape: int, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(shape) * 2.0 ** rng.integers(-60, 60, shape)).astype(np.float32)
    flat = x.reshape(-1)
    ends = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3.4e38, 1.0, 3.0, 2.0**-126, 1e-40]
    at = rng.choice(flat.size, len(ends), replace=False)
    flat[at] = ends
    return torch.from_numpy(x)


def same(row: dict[str, Any], call: Any) -> None:
    """One call on the host and one by the kernels, each with the streams of a fresh trace."""
    want = call(make_work(row))
    with host_tensors_too():
        got = call(make_work(row))
    assert_same_bits(got, want)


EACH = [
    pytest.param(row, marks=pytest.mark.slow if n in (1, 4, 6) else (), id=f"{n}")
    for n, row in enumerate(UNITS)
]


@pytest.mark.parametrize("row", EACH)
def test_arithmetic_equals_the_cpu_to_the_bit(row: dict[str, Any]) -> None:
    a, b, c = (numbers(40, 9, seed=n) for n in range(3))
    single = row["format"] != "float64"
    for op, count in enumerate((2, 2, 2, 2, 1, 3)) if single else ():
        same(row, lambda w: w.operate(op, *(a, b, c)[:count]))  # noqa: B023, called at once
    if single:
        same(row, lambda w: w.operate(3, a, 3.0))
        same(row, lambda w: w.operate(0, a, b[0]))
        same(row, lambda w: w.settle(a.double() * (1 + 2.0**-30)))
    same(row, lambda w: w.root((a if single else a.double()).abs()))


@pytest.mark.parametrize("row", EACH)
def test_sums_and_accumulations_equal_the_cpu_to_the_bit(row: dict[str, Any]) -> None:
    kind = torch.float64 if row["format"] == "float64" else torch.float32
    x = numbers(3, 13, 6, seed=4).to(kind)
    x = torch.where(x.isfinite(), x, 1.0)
    cases: list[Any] = [
        lambda w: w.reduce(x, [1], False),
        lambda w: w.reduce(x, [2], True),
        lambda w: w.reduce(x, [0, 2], False),
        lambda w: w.reduce(x[:, 5:6], [1], False),
        lambda w: w.reduce(x * 2.0**-58, None, False, product=True),
        lambda w: w.scan(x, 1),
        lambda w: w.reduce(x[:, :0], [1], False),
    ]
    for case in cases:
        same(row, case)

    def accumulate(work: VectorWork) -> Tensor:
        out, index = x[0].clone(), torch.tensor([2, 0, 2, 12, 2])
        work.add_rows(out, index, x[1, :5])
        return out

    same(row, accumulate)
