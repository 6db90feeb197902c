"""emulate() on the way of CUDA tensors: the same bytes as on the host, step, trace and coverage."""

import copy
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from tapeout.formats.device.place import host_tensors_too
from tapeout.simulator import emulate, load_chip, load_recipe
from tapeout.tests.programs.models import gpt2

pytest.importorskip("triton")
if torch.cuda.is_available():
    pytest.skip("the interpreter is for machines without a GPU", allow_module_level=True)


def train(
    model: nn.Module, chip: str, recipe: str, there: bool, steps: int, **options: Any
) -> tuple[Any, ...]:
    """Losses, parameters, trace and coverage of a few steps on six tokens."""
    model = copy.deepcopy(model)
    tokens = torch.tensor([[1, 5, 2, 7, 3, 0]])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    way = host_tensors_too() if there else nullcontext()
    with (
        way,
        emulate(load_chip(chip), load_recipe(recipe), model=model, seed=3, **options) as trace,
    ):
        for _ in range(steps):
            optimizer.zero_grad()
            loss = model(input_ids=tokens, labels=tokens).loss
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    weights = [p.detach() for p in model.parameters()]
    return losses, weights, trace.take(), trace.coverage()


def assert_same_training(chip: str, recipe: str, steps: int = 1, **options: Any) -> None:
    model = gpt2(width=8, layers=1, heads=2, vocabulary=8)
    want = train(model, chip, recipe, False, steps, **options)
    got = train(model, chip, recipe, True, steps, **options)
    assert got[0] == want[0]
    assert all(torch.equal(a, b) for a, b in zip(got[1], want[1], strict=True))
    assert got[2] == want[2] or repr(got[2]) == repr(want[2])
    assert got[3] == want[3] and not got[3]["host"]


@pytest.mark.parametrize("foreach", [False, True])
def test_a_step_of_a_perceptron_is_the_same_bytes_under_fp8(foreach: bool) -> None:
    """With AdamW tensor by tensor, and in lists, as PyTorch runs it for CUDA tensors."""
    trained = []
    for there in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 4), nn.GELU(), nn.Linear(4, 3))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, foreach=foreach)
        x, y = torch.randn(6, 5), torch.tensor([0, 1, 2, 0, 1, 2])
        way = host_tensors_too() if there else nullcontext()
        chip, recipe = load_chip("nvidia-h100"), load_recipe("fp8")
        with way, emulate(chip, recipe, model=model, seed=3) as trace:
            loss: Any = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        weights = [p.detach() for p in model.parameters()]
        trained.append((weights, repr(trace.take()), trace.coverage()))
    (one, rows, ways), (other, there_rows, there_ways) = trained
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert rows == there_rows and ways == there_ways and not ways["host"]


@pytest.mark.slow
def test_a_step_of_gpt2_is_the_same_bytes_under_fp8() -> None:
    assert_same_training("nvidia-h100", "fp8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chip", "recipe"),
    [("nvidia-h100", "bf16"), ("nvidia-h100", "deepseek-v3"), ("nvidia-h100", "fp8-delayed"),
     ("nvidia-b200", "nvfp4"), ("nvidia-b200", "mxfp8"), ("nvidia-b200", "mxfp4-rht"),
     ("generic-fp8-sr", "fp8"), ("generic-int4", "int4"), ("amd-mi300x", "fp8"),
     ("nvidia-a100", "bf16-sr"), ("ieee-float32", "fp32")],
)  # fmt: skip
def test_steps_are_the_same_bytes_under_other_recipes(chip: str, recipe: str) -> None:
    assert_same_training(chip, recipe, steps=2, sample_every=2)


@pytest.mark.slow
@pytest.mark.parametrize("subject", ["conversions", "products", "training"])
def test_the_benchmark_runs_at_tiny_sizes(subject: str) -> None:
    from tapeout.tests.bench.gpu import SUBJECTS, TINY

    table = SUBJECTS[subject](TINY)
    assert table.row_count >= 3
