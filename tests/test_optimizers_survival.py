"""What every optimizer with checked steps must survive, and what its state must come back as."""

import io
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tapeout.formats import InputError
from tapeout.optimizers import (
    SOAP,
    AdamW4bit,
    AdamW8bit,
    Muon,
    NonFiniteGradientError,
    Shampoo,
)
from tapeout.optimizers.checked import CheckedOptimizer
from tapeout.optimizers.state import tensors_in
from tapeout.simulator import emulate, load_chip, load_recipe

SHORT: dict[str, Any] = {"statistics_every": 1, "roots_every": 2, "min_elements": 16}
OPTIMIZERS: dict[str, Callable[..., CheckedOptimizer]] = {
    "shampoo": partial(Shampoo, **SHORT),
    "shampoo-sgdm-eigen": partial(Shampoo, base="sgdm", storage="eigen", **SHORT),
    "shampoo-float32-eigh": partial(Shampoo, storage="float32", root="eigh", **SHORT),
    "shampoo-cq-chip": partial(Shampoo, storage="cq", linalg="chip", **SHORT),
    "adamw8bit": partial(AdamW8bit, min_elements=16),
    "adamw4bit": partial(AdamW4bit, min_elements=16),
    "adamw4bit-block": partial(AdamW4bit, min_elements=16, scales="block"),
    "muon": Muon,
    "muon-int8": partial(Muon, storage="int8", min_elements=16),
    "soap": partial(SOAP, frequency=2),
    "soap-8bit-chip": partial(
        SOAP, frequency=2, storage="dynamic_8bit", min_elements=16, linalg="chip"
    ),
}
EACH = pytest.mark.parametrize("name", list(OPTIMIZERS))
SHAPES = [(), (7,), (0, 3), (6, 10), (1, 9, 1), (4, 3, 5), (4, 3, 3, 3), (2, 3, 1, 2, 5)]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def parameters(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    return [nn.Parameter(random(*shape, seed=i).to(dtype)) for i, shape in enumerate(SHAPES)]


def take(
    optimizer: CheckedOptimizer, params: list[nn.Parameter], steps: range, scale: float = 1.0
) -> None:
    for step in steps:
        for i, p in enumerate(params):
            p.grad = (scale * random(*p.shape, seed=100 * step + i)).to(p.dtype)
        optimizer.step()


def assert_same(a: Any, b: Any) -> None:
    """Equal trees: every tensor in dtype and bits, everything else by value."""
    assert type(a) is type(b)
    if isinstance(a, Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


@EACH
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 1e10, 1e25])
def test_gradients_of_every_size_leave_weights_and_state_finite(name: str, scale: float) -> None:
    params = parameters()
    optimizer = OPTIMIZERS[name](params)
    take(optimizer, params, range(4), scale)
    for tensor in [*params, *tensors_in(list(optimizer.state.values()))]:
        assert bool(torch.isfinite(tensor).all())
    assert optimizer.counters["overflowed_squares"] == 0 or scale == 1e25


@EACH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_keep_theirs_and_float32_state(name: str, dtype: torch.dtype) -> None:
    params = parameters(dtype)
    before = [p.detach().clone() for p in params]
    optimizer = OPTIMIZERS[name](params, lr=0.05)
    take(optimizer, params, range(4))
    for p, old in zip(params, before, strict=True):
        assert p.dtype == dtype and bool(torch.isfinite(p).all())
        # Of a scalar the update may be less than half an ulp.
        assert p.numel() < 30 or not torch.equal(p, old)
    kept = {t.dtype for t in tensors_in(list(optimizer.state.values()))}
    assert kept <= {torch.float32, torch.uint8} | ({torch.float64} & {dtype})


@EACH
def test_resumed_training_ends_in_the_same_bytes(name: str) -> None:
    params = parameters()
    params[3].data = params[3].data.bfloat16()
    optimizer = OPTIMIZERS[name](params)
    take(optimizer, params, range(3))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    resumed = [nn.Parameter(p.detach().clone()) for p in params]
    take(optimizer, params, range(3, 6))
    file.seek(0)
    other = OPTIMIZERS[name](resumed, lr=0.5)
    other.load_state_dict(torch.load(file, weights_only=True))
    take(other, resumed, range(3, 6))
    assert_same(other.state_dict(), optimizer.state_dict())
    assert_same([p.detach() for p in params], [p.detach() for p in resumed])


@EACH
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nonfinite_gradients_are_refused_or_skipped_with_everything_as_it_was(
    name: str, value: float
) -> None:
    for nonfinite in ("refuse", "skip"):
        params = parameters()
        optimizer = OPTIMIZERS[name](params, nonfinite=nonfinite)
        take(optimizer, params, range(2))
        before = deepcopy((optimizer.state_dict()["state"], [p.detach() for p in params]))
        params[-1].grad = torch.full_like(params[-1], value)
        if nonfinite == "refuse":
            with pytest.raises(NonFiniteGradientError, match="holds NaN or infinity"):
                optimizer.step()
        else:
            optimizer.step()
        after = (optimizer.state_dict()["state"], [p.detach() for p in params])
        assert_same(after, before)
        assert optimizer.counters["skipped_steps"] == (nonfinite == "skip")
        assert optimizer.state_dict()["counters"] == optimizer.counters


@EACH
def test_sparse_and_complex_are_refused(name: str) -> None:
    p = nn.Parameter(random(5, 4))
    optimizer = OPTIMIZERS[name]([p], nonfinite="skip")
    p.grad = random(5, 4).to_sparse()
    with pytest.raises(InputError, match="is sparse"):
        optimizer.step()
    with pytest.raises(InputError, match="not real floating point"):
        OPTIMIZERS[name]([torch.zeros(3, dtype=torch.complex64)])
    with pytest.raises(InputError, match=r'nonfinite = "no" is not one of refuse, skip'):
        OPTIMIZERS[name]([p], nonfinite="no")
    with pytest.raises(InputError, match="lr = -1"):
        OPTIMIZERS[name]([{"params": [p], "lr": -1.0}])


@EACH
def test_groups_closures_missing_gradients_and_copies(name: str) -> None:
    still, moved, quiet = nn.Parameter(random(6, 6)), nn.Parameter(random(6, 6)), nn.Parameter()
    before = still.detach().clone()
    groups = [{"params": [still, quiet], "lr": 0.0}, {"params": [moved], "lr": 0.05}]
    optimizer = OPTIMIZERS[name](groups)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (still.square().sum() + moved.square().sum()) / 2
        torch.autograd.backward(loss)
        return loss

    losses = [optimizer.step(closure).item() for _ in range(20)]
    assert losses[-1] < losses[0] and torch.equal(still, before)
    assert quiet not in optimizer.state
    assert deepcopy(optimizer).counters == optimizer.counters


@EACH
def test_state_is_as_large_as_the_paper_says_but_for_padding(name: str) -> None:
    params = [nn.Parameter(random(*shape)) for shape in [(64, 64), (48, 64), (128,), (4, 4, 2, 2)]]
    optimizer = OPTIMIZERS[name](params)
    take(optimizer, params, range(3))
    assert optimizer.state_bytes() == optimizer.paper_bytes()


@EACH
def test_every_optimizer_steps_on_a_chip(name: str) -> None:
    """Unmodified under emulation, to near the plain step: sums and functions differ in an ulp."""
    ends = []
    for chip in (None, "nvidia-h100"):
        params = [nn.Parameter(random(*shape)) for shape in [(12, 12), (9,)]]
        optimizer = OPTIMIZERS[name](params, lr=0.01)
        where = emulate(load_chip(chip), load_recipe("fp8")) if chip else nullcontext()
        with where:
            take(optimizer, params, range(3))
        ends.append(params[0].detach())
        assert not any(optimizer.counters.values())
    # Square: of a wide gradient SOAP's right basis is arbitrary where there is nothing to see.
    moved = float((ends[0] - random(12, 12)).abs().mean())
    assert float((ends[0] - ends[1]).abs().mean()) < 0.1 * moved


def test_failures_are_in_the_trace() -> None:
    p = nn.Parameter(random(8, 8))
    optimizer = Shampoo([p], statistics_every=1, roots_every=1, nonfinite="skip")
    with emulate(load_chip("ieee-float32"), load_recipe("fp32")) as trace:
        for scale in (1.0, 1e25, float("inf"), 1e25):
            p.grad = scale * random(8, 8)
            optimizer.step()
        rows = Counter[str]()
        for row in trace.take():
            if row["op"] == "step" and row["calls"]:
                rows[row["operand"]] += row["calls"]
    counted = {name: n for name, n in optimizer.counters.items() if n}
    assert counted["failed_statistics"] == 4 and counted["skipped_steps"] == 1
    assert rows == counted
