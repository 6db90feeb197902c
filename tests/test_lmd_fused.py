"""LMD's kernel against torch's operations, on a machine whose exp and log are the project's."""

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tapeout.formats.jit import limit_threads
from tapeout.optimizers import LMD, elementary

Options = dict[str, Any]
#: Steps go through the kernel, or through torch's operations under `SpelledOut`.
OPTIONS: dict[str, Options] = {
    "default": {},
    "no decay": {"decay": 0.0},
    "prior initial": {"prior": "initial"},
    "constant": {"regularizer": "constant"},
    "gaussian": {"regularizer": "gaussian"},
    "exponential": {"regularizer": "exponential"},
    "shared": {"momentum": "shared"},
    "shared plain": {"momentum": "shared", "update": "plain"},
    "plain": {"update": "plain", "temperature": 0.01},
    "no noise": {"sigma": 0.0},
    "no step": {"lr": 0.0},
    "log": {"storage": "log"},
    "log initial": {"storage": "log", "prior": "initial"},
    "log gaussian": {"storage": "log", "regularizer": "gaussian"},
    "drawn twice": {"keep_sample": False},
    "log drawn twice": {"keep_sample": False, "storage": "log"},
    "two samples": {"samples": 2},
    "two samples shared": {"samples": 2, "momentum": "shared"},
    "ancestor": {
        "noise": "rayleigh", "sigma": 0.7, "update": "plain", "init": "independent",
        "betas": (0.9, 0.9), "temperature": 0.01, "decay": 0.0,
    },
    "extremes": {"lr": 10.0, "sigma": 2.0, "update": "plain", "decay": 100.0},
}  # fmt: skip
SHAPES = ((150, 300), (), (40, 30), (7,), (0, 3), (3, 1200))


class SpelledOut(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """exp and log by `elementary`, everything else by torch: so the kernel is not used."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("exp", "exp_", "log", "log_"):
            (x,) = args
            function = elementary.exp if name.startswith("exp") else elementary.log
            made = torch.from_numpy(function(x.contiguous().numpy().reshape(-1))).reshape(x.shape)
            return x.copy_(made) if name.endswith("_") else made
        return func(*args, **(kwargs or {}))


def build(options: Options, dtype: torch.dtype) -> tuple[list[nn.Parameter], LMD]:
    draw = torch.Generator().manual_seed(6)
    params = [nn.Parameter(torch.randn(shape, generator=draw).to(dtype)) for shape in SHAPES]
    params[2].data = params[2].data.T.contiguous().T
    return params, LMD(params, seed=3, **options)


def trained(params: list[nn.Parameter], optimizer: LMD, steps: range) -> Any:
    """After `steps`, in some of which some parameters have no gradient."""
    for step in steps:

        def closure(step: int = step) -> None:
            for i, p in enumerate(params):
                p.grad = torch.sin(p.detach() * 3 + step + i) if (i + step) % 4 else None

        optimizer.step(closure)
    return [p.detach() for p in params], [dict(optimizer.state[p]) for p in params]


def flat(node: Any) -> list[bytes]:
    if isinstance(node, Tensor):
        return [node.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()]
    nodes = node.values() if isinstance(node, dict) else node
    return [leaf for child in nodes for leaf in flat(child)]


@pytest.mark.parametrize("name", OPTIONS)
def test_the_kernel_computes_what_torch_does(name: str, one_thread: None) -> None:
    params, optimizer = build(OPTIONS[name], torch.float32)
    others = [nn.Parameter(p.detach().clone()) for p in params]
    twin = LMD(others, seed=3, **OPTIONS[name])
    twin.load_state_dict(deepcopy(optimizer.state_dict()))
    for p, q in zip(params, others, strict=True):
        q.data.copy_(p.detach())
    before = [p.detach().clone() for p in params]
    ours = trained(params, optimizer, range(6))
    with SpelledOut():  # type: ignore[no-untyped-call]
        theirs = trained(others, twin, range(6))
    assert flat(ours) == flat(theirs)
    assert all(bool(torch.isfinite(p).all()) for p in params)
    moved = OPTIONS[name].get("lr") != 0.0 or OPTIONS[name].get("sigma") != 0.0
    assert moved != torch.equal(params[0].detach(), before[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_parameters_hold_the_rounded_sample(dtype: torch.dtype, one_thread: None) -> None:
    params, optimizer = build({}, dtype)
    trained(params, optimizer, range(3))
    for p in params:
        sample = optimizer.state[p]["sample"]
        assert sample.dtype == torch.float32
        assert torch.equal(p.detach(), (sample[0] - sample[1]).to(dtype))


def test_threads_change_no_bit() -> None:
    ends, before = [], limit_threads(1)
    try:
        for threads in (1, 2):
            limit_threads(threads)
            ends.append(flat(trained(*build({}, torch.float32), range(3))))
    finally:
        limit_threads(before)
    assert ends[0] == ends[1]


def test_the_kernel_is_within_an_ulp_of_torch(one_thread: None) -> None:
    """Against torch's own exp and log, for a step whose directions are all of one sign."""
    ends = []
    for fused in (True, False):
        p = nn.Parameter(torch.linspace(-1, 1, 5000))
        optimizer = LMD([p], seed=2, fused=fused)
        p.grad = torch.ones_like(p)
        optimizer.step()
        ends.append(optimizer.state[p]["m"].clone())
    torch.testing.assert_close(ends[0], ends[1], rtol=3e-7, atol=0.0)


def test_autograd_sees_that_weights_have_changed() -> None:
    p = nn.Parameter(torch.ones(20))
    optimizer = LMD([p])
    loss = (p * p).sum()
    p.grad = torch.ones_like(p)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.backward(loss)


@pytest.mark.parametrize(("function", "exact", "ends", "bound"), [
    (elementary.exp, np.exp, (-87.0, 87.0), 1.06),
    (elementary.log, np.log, (2.0**-126, 4.0), 1.28),
    (elementary.log, np.log, (0.7, 1.5), 1.28),
])  # fmt: skip
def test_functions_are_within_their_bounds(
    function: Any, exact: Any, ends: tuple[float, float], bound: float
) -> None:
    x = np.linspace(*ends, 1_000_001, dtype=np.float64).astype(np.float32)
    x = x[x != 1.0] if function is elementary.log else x
    right = exact(x.astype(np.float64))
    ulps = np.abs(function(x) - right) / np.spacing(np.abs(right).astype(np.float32))
    assert ulps.max() < bound


def test_fused_products_are_rounded_once() -> None:
    """Against Python's exact integers, on products that cancel and sums that lie half way."""
    draw = np.random.default_rng(1)
    a, b = (draw.normal(size=4000).astype(np.float32) for _ in range(2))
    part = draw.normal(size=4000).astype(np.float32)
    power = draw.integers(-60, 2, 4000).astype(np.float32)
    c: elementary.Singles = np.add(-(a * b), part * np.float32(2.0) ** power)
    c[::5] = (a * b)[::5] * np.float32(2.0**24)
    ours = elementary.fma(a, b, c)
    for x, y, z, got in zip(a, b, c, ours, strict=True):
        from fractions import Fraction

        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        below, above = np.nextafter(got, -np.inf), np.nextafter(got, np.inf)
        here = abs(Fraction(float(got)) - exact)
        for other in (below, above):
            there = abs(Fraction(float(other)) - exact)
            even = int(np.float32(got).view(np.int32)) % 2 == 0
            assert here < there or (here == there and even)
