"""LMD's ways of keeping and drawing: storage formats, samples, blocks of parameters."""

from copy import deepcopy
from math import log, sqrt
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tapeout.formats import FloatFormat, get_format, quantize
from tapeout.optimizers import LMD
from tapeout.optimizers.components import medians


def medians_of(optimizer: LMD, p: Tensor) -> Tensor:
    """m+ and m- of a parameter, whatever the storage."""
    return medians(optimizer.state[p], optimizer.param_groups[0])


def steady(value: float, n: int, **options: Any) -> tuple[nn.Parameter, LMD]:
    p = nn.Parameter(torch.full((n,), value, dtype=torch.float64))
    return p, LMD([p], **options)


#: Format, η, and the share of mantissas that one nearest-even step up never moves.
STALLS: tuple[tuple[str, float, float], ...] = (
    ("bfloat16", 1e-3, 1.0), ("bfloat16", 3e-3, 0.30), ("bfloat16", 1e-2, 0.0),
    ("float16", 1e-4, 1.0), ("float16", 1e-3, 0.0),
    ("e4m3", 3e-2, 1.0), ("e4m3", 1e-1, 0.0), ("e5m2", 1e-1, 0.25),
)  # fmt: skip


@pytest.mark.parametrize(("fmt", "lr", "share"), STALLS)
def test_stalled_medians_in_short_floats(fmt: str, lr: float, share: float) -> None:
    """Medians at every mantissa of the format, one sign step of LMD, stored again."""
    row = get_format(fmt)
    assert isinstance(row, FloatFormat)
    mantissas = 1 + torch.arange(2**row.fraction_bits) / 2**row.fraction_bits
    p = nn.Parameter(torch.zeros_like(mantissas))
    optimizer = LMD([p], lr=lr, decay=0.0, sigma=0.0, floor=1.0)
    optimizer.state[p]["m"][0].copy_(mantissas)
    p.grad = -torch.ones_like(p)
    optimizer.step()
    stored = quantize(optimizer.state[p]["m"][0], fmt)
    assert (stored == mantissas).double().mean().item() == pytest.approx(share, abs=0.005)


@pytest.mark.parametrize(("lr", "steps"), [(log(2) / 128, 1), (log(2) / 16, 8), (3 * log(2), 384)])
def test_in_a_logarithmic_format_a_sign_step_is_one_integer_add(lr: float, steps: int) -> None:
    """η a whole number of steps of 2^(1/128): no median stalls and nothing is rounded."""
    p = nn.Parameter(torch.linspace(-1, 1, 21))
    optimizer = LMD([p], lr=lr * (1 + 1e-6), decay=0.0, storage="lns15g128", floor=0.01)
    codes = optimizer.state[p]["m"]
    before = codes.clone()
    assert codes.dtype == torch.int16
    for count in range(1, 4):
        p.grad = torch.ones_like(p)
        optimizer.step()
        moved = torch.stack((before[0] - count * steps, before[1] + count * steps)).clamp(1, 16383)
        share = (optimizer.state[p]["m"] == moved).double().mean()
        assert share > 0.99


def test_small_steps_in_a_logarithmic_format_are_right_in_the_mean() -> None:
    """η is a tenth of a step: rounded stochastically medians drift at η, to nearest they stall."""
    lr, steps, n = 0.1 * log(2) / 128, 50, 20_000
    for rounding, drift in (("stochastic", lr * steps), ("nearest", 0.0)):
        p = nn.Parameter(torch.zeros(n))
        options: dict[str, Any] = {"storage": "lns15g128", "storage_rounding": rounding}
        optimizer = LMD([p], lr=lr, decay=0.0, **options)
        before = medians_of(optimizer, p).log()
        for _ in range(steps):
            p.grad = -torch.ones_like(p)
            optimizer.step()
        moved = (medians_of(optimizer, p).log() - before)[0].mean().item()
        # Five standard errors of the mean of n sums of Bernoulli(0.1) steps.
        error = 5 * log(2) / 128 * sqrt(0.09 * steps / n)
        assert moved == pytest.approx(drift, abs=error + 1e-9 if drift else 1e-9)


def test_log_storage_is_the_same_rule() -> None:
    ends = []
    for storage in ("median", "log"):
        p = nn.Parameter(torch.linspace(-2, 2, 15, dtype=torch.float64))
        optimizer = LMD([p], storage=storage, prior="initial", seed=3)
        for _ in range(50):
            p.grad = p.detach() - 0.3 + 2 * torch.cos(3 * p.detach())
            optimizer.step()
        ends.append(p.detach())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-9, atol=1e-12)


def test_drawing_the_sample_twice_changes_no_bit() -> None:
    ends = []
    for keep in (True, False):
        params = [nn.Parameter(torch.linspace(-1, 1, n)) for n in (12, 5, 30_000)]
        optimizer = LMD(params, keep_sample=keep, seed=9, sigma=0.3)
        for step in range(9):
            for i, p in enumerate(params):
                p.grad = torch.sin(p.detach() * 3 + step) if (i + step) % 3 else None
            optimizer.step()
        ends.append([p.detach() for p in params])
        assert ("sample" in optimizer.state[params[0]]) == keep
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_the_average_of_many_samples_nears_the_mean() -> None:
    p, optimizer = steady(0.5, 400, sigma=0.3)
    with optimizer.eval_weights("mean"):
        mean = p.detach().clone()
    distances = []
    for draws in (1, 64):
        with optimizer.eval_weights("average", draws=draws):
            distances.append((p - mean).std().item())
    assert distances[1] == pytest.approx(distances[0] / 8, rel=0.3)
    with optimizer.eval_weights("average", draw=5, draws=1):
        one = p.detach().clone()
    with optimizer.eval_weights("sample", draw=5):
        assert torch.equal(p, one)


def test_parameters_in_blocks_and_alone_take_the_same_steps() -> None:
    """Without noise: a model's parameters joined, apart, or some of them without a gradient."""
    sizes = ((3, 5), (9000,), (9000,), (), (20_000,), (4,))
    draw = torch.Generator().manual_seed(6)
    values = [torch.randn(size, generator=draw) for size in sizes]
    together = [nn.Parameter(v.clone()) for v in values]
    apart = [nn.Parameter(v.clone()) for v in values]
    joined = LMD(together, sigma=0.0)
    single = [LMD([p], sigma=0.0) for p in apart]
    for step in range(6):
        for i, (p, q) in enumerate(zip(together, apart, strict=True)):
            p.grad = torch.sin(p.detach() + i) if (i + step) % 3 else None
            q.grad = None if p.grad is None else p.grad.clone()
        if step == 3:
            state = joined.state[together[1]]
            state["v"] = state["v"].clone()  # as a part that rounds state may do
        joined.step()
        for optimizer in single:
            optimizer.step()
    for p, q in zip(together, apart, strict=True):
        torch.testing.assert_close(p, q, rtol=2e-7, atol=1e-9)
        assert torch.equal(joined.state[p]["m"].sum(0) > 0, torch.ones(p.shape) > 0)


def test_skipped_samples_leave_the_sample_of_the_step() -> None:
    """The second of three samples gives NaN: weights and state are those before the step."""
    p, optimizer = steady(1.0, 5, samples=3, nonfinite="skip")
    before, state, calls = p.detach().clone(), deepcopy(optimizer.state_dict()), []

    def closure() -> None:
        calls.append(p.detach().clone())
        p.grad = torch.full_like(p, float("nan") if len(calls) == 2 else 1.0)

    optimizer.step(closure)
    assert len(calls) == 2 and not torch.equal(calls[0], calls[1])
    assert torch.equal(p, before) and optimizer.counters["skipped_steps"] == 1
    assert optimizer.state_dict()["sample_start"] == state["sample_start"]
    assert optimizer.state_dict()["generator"] == state["generator"]


def test_a_copy_trains_on_as_the_original() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = LMD(model.parameters(), storage="lns15g128", sigma=0.3, seed=2)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    twin, other = deepcopy((model, optimizer))
    for weights, rule in ((model, optimizer), (twin, other)):
        for _ in range(2):
            for p in weights.parameters():
                p.grad = torch.ones_like(p)
            rule.step()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q)


def test_large_parameters_in_any_memory_order() -> None:
    """A transposed matrix, which is stepped whole, and a contiguous one, stepped in cuts."""
    values = torch.randn(150, 300, generator=torch.Generator().manual_seed(1))
    plain, turned = nn.Parameter(values.clone()), nn.Parameter(values.T.contiguous().T)
    assert not turned.is_contiguous()
    for p in (plain, turned):
        optimizer = LMD([p], sigma=0.0, prior="initial")
        for step in range(4):
            p.grad = torch.sin(3 * p.detach() + step)
            optimizer.step()
    torch.testing.assert_close(plain, turned, rtol=2e-7, atol=1e-9)
    noisy = LMD([plain], sigma=0.2, seed=3)
    state = noisy.state[plain]
    torch.testing.assert_close(plain.detach(), state["sample"][0] - state["sample"][1])
    spread = (state["sample"] / state["m"]).log()
    assert spread.std().item() == pytest.approx(0.2, rel=0.01)


@pytest.mark.parametrize("storage", ["median", "lns15g128"])
def test_state_that_is_stored_short_stays_the_state(storage: str) -> None:
    """What a part of the emulation rounds in place is what the next step starts from."""
    params = [nn.Parameter(torch.linspace(-1, 1, n)) for n in (6, 40, 20_000)]
    optimizer = LMD(params, storage=storage, betas=(0.0, 0.9), decay=0.0, sigma=0.0)
    for _ in range(3):
        for p in params:
            p.grad = torch.cos(5 * p.detach())
            state = optimizer.state[p]
            for key in state:
                if state[key].is_floating_point():
                    state[key].copy_(quantize(state[key].contiguous(), "bfloat16"))
        before = [
            (medians_of(optimizer, p).clone(), optimizer.state[p]["v"].clone()) for p in params
        ]
        optimizer.step()
        for p, (m, v) in zip(params, before, strict=True):
            assert p.grad is not None
            u = torch.stack((m[0] * p.grad, -m[1] * p.grad))
            torch.testing.assert_close(optimizer.state[p]["v"], torch.lerp(v, u, 0.1))
            moved = (medians_of(optimizer, p) / m).log() * -u.sign()
            # Codes: five standard errors of a step rounded to one of two neighbours.
            error = 1e-5 if storage == "median" else 2.5 * log(2) / 128 / sqrt(u.numel())
            assert moved.mean().item() == pytest.approx(0.02, abs=error)
