"""On a machine with a CUDA GPU: every kernel against the CPU's, and the GPU's own tensor cores.

No GPU has run these yet. `python -m pytest -m gpu tests/test_gpu.py` does.
"""

import copy
import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from tapeout.formats import InputError, Stochastic, decode, encode, list_formats, quantize
from tapeout.formats.format import FLOAT32, fits
from tapeout.simulator import DotUnit, emulate, list_chips, load_chip, load_recipe

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device in this machine"),
]
ROUNDINGS: tuple[str | Stochastic, ...] = (
    "nearest_even", "nearest_away", "toward_zero", "up", "down", "to_odd", Stochastic(8),
    Stochastic(16, "srf"), Stochastic(32, "src"),
)  # fmt: skip
SHAPES = ((1, 1, 1), (16, 16, 16), (33, 65, 47), (130, 70, 513), (256, 256, 1024))


def bits(x: torch.Tensor) -> torch.Tensor:
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return x.cpu().contiguous().view(kinds[x.element_size()])


def assert_same(got: torch.Tensor, want: torch.Tensor) -> None:
    """0 differences, NaN payloads aside."""
    assert got.is_cuda
    differ = bits(got) != bits(want)
    if want.is_floating_point():
        differ &= ~(got.cpu().isnan() & want.isnan())
    assert not differ.any(), (int(differ.sum()), want[differ][:4], got.cpu()[differ][:4])


@pytest.mark.parametrize("name", list_formats())
def test_conversions(name: str) -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal(1 << 16) * 2.0 ** rng.integers(-60, 60, 1 << 16))
    for rounding, kind in itertools.product(ROUNDINGS, (torch.float32, torch.float64)):
        source = x.to(kind)
        try:
            want = quantize(source, name, rounding=rounding, seed=3, stream=1)
            codes = encode(source, name, rounding=rounding, seed=3, stream=1)
        except InputError:
            continue
        try:
            got = quantize(source.cuda(), name, rounding=rounding, seed=3, stream=1)
        except InputError as error:
            assert "no kernel" in str(error)
            continue
        assert_same(got, want)
        there = encode(source.cuda(), name, rounding=rounding, seed=3, stream=1)
        if isinstance(codes, torch.Tensor):
            assert_same(there, codes)
            assert_same(decode(there, name), decode(codes, name))
        else:
            assert_same(there.codes, codes.codes)
            assert_same(decode(there), decode(codes))


def operand(rng: np.random.Generator, fmt: Any, *shape: int) -> torch.Tensor:
    x = rng.standard_normal(shape) * 2.0 ** rng.integers(-6, 7, shape)
    kind = np.float32 if fits(fmt, FLOAT32) else np.float64
    return torch.from_numpy(quantize(x.astype(kind), fmt))


def multiply(unit: DotUnit, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(sum(shape))
    rows, columns, depth = shape
    a, b = operand(rng, unit.a, rows, depth), operand(rng, unit.b, depth, columns)
    c = operand(rng, unit.addend, rows, columns)
    scales: dict[str, Any] = {}
    if unit.scale is not None:
        parts = -(-depth // unit.scale.block)
        scales = {"a_scale": operand(rng, unit.scale.fmt, rows, parts).abs(),
                  "b_scale": operand(rng, unit.scale.fmt, parts, columns).abs()}  # fmt: skip
    want = unit.matmul(a, b, c, seed=1, **scales)
    there = {name: x.cuda() for name, x in scales.items()}
    assert_same(unit.matmul(a.cuda(), b.cuda(), c.cuda(), seed=1, **there), want)


@pytest.mark.parametrize("name", list_chips())
def test_units_of_all_chips(name: str) -> None:
    chip = load_chip(name)
    for row in chip.matrix_units:
        for a, b in itertools.product(row.a, row.b):
            for shape in SHAPES:
                multiply(row.unit(a, b, f"{name}, {row.instruction}"), shape)


@pytest.mark.parametrize("recipe", ["bf16", "fp8", "fp8-delayed", "deepseek-v3", "fp32"])
def test_a_training_step(recipe: str) -> None:
    """The same weights after two steps; functions of CUDA's library may differ from the CPU's in
    the last bit of float64, so what is held is that nearly all weights are the same bits."""
    from tapeout.tests.programs.models import gpt2

    model = gpt2(width=64, layers=2, heads=4, vocabulary=64)
    tokens = torch.randint(0, 64, (2, 32))
    trained = []
    for device in ("cpu", "cuda"):
        net, data = copy.deepcopy(model).to(device), tokens.to(device)
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
        with emulate(load_chip("nvidia-h100"), load_recipe(recipe), model=net, seed=3) as trace:
            for _ in range(2):
                optimizer.zero_grad()
                net(input_ids=data, labels=data).loss.backward()
                optimizer.step()
        assert not trace.coverage()["host"]
        trained.append(torch.cat([p.detach().cpu().reshape(-1) for p in net.parameters()]))
    assert float((trained[0] == trained[1]).float().mean()) > 0.999
    torch.testing.assert_close(trained[1], trained[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["nvidia-h100"])
def test_the_profile_against_the_tensor_cores(name: str) -> None:
    """`tapeout verify` finds no difference, or says that this is another GPU."""
    done = subprocess.run(
        [sys.executable, "-m", "tapeout", "verify", name], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode == 3:
        pytest.skip(done.stdout[-300:])
    assert done.returncode == 0, done.stdout
