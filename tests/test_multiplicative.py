"""Madam, LNS-Madam, EG± and EG-AdamW against float64 transcriptions, and what LMD shares."""

from collections.abc import Callable
from copy import deepcopy
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tapeout.formats import decode, get_format
from tapeout.formats.errors import InputError
from tapeout.formats.tables.logarithmic import LogFormat
from tapeout.optimizers import (
    LMD,
    EGAdamW,
    EGPlusMinus,
    LNSMadam,
    Madam,
    NonFiniteGradientError,
)
from tapeout.scenarios.checkpoint import load_checkpoint, save_checkpoint
from tapeout.simulator import emulate, load_chip, load_recipe

Array = NDArray[Any]
Make = Callable[..., Any]
Rule = Callable[[Array, Callable[[Array], Array], int], Array]


def start() -> Array:
    w = np.random.default_rng(3).normal(size=(5, 3))
    w[2, 1] = 0.0
    return w


def pull(w: Array) -> Array:
    """The gradient of a bumpy bowl."""
    return np.asarray(w - 0.3 + 2.0 * np.cos(3.0 * w))


def madam(base: float, whole: bool, lr: float) -> Rule:
    def run(w: Array, gradient: Callable[[Array], Array], steps: int) -> Array:
        w, v, limit = w.copy(), np.zeros_like(w), 3.0 * np.sqrt(np.mean(w**2))
        for t in range(1, steps + 1):
            g = gradient(w)
            v = 0.999 * v + 0.001 * g**2
            for i in np.ndindex(*w.shape):
                gn = float(np.clip(g[i] / np.sqrt(v[i] / (1 - 0.999**t)), -10, 10))
                power = -lr * (round(gn) if whole else gn) * float(np.sign(w[i]))
                w[i] = np.clip(w[i] * base**power, -limit, limit)
        return w

    return run


def eg(total: float | None) -> Rule:
    def run(w: Array, gradient: Callable[[Array], Array], steps: int) -> Array:
        plus, minus = np.maximum(w, 0) + 0.03, np.maximum(-w, 0) + 0.03
        for _ in range(steps):
            g = gradient(w)
            plus, minus = plus * np.exp(-0.1 * g), minus * np.exp(0.1 * g)
            if total is not None:
                share = total / (plus.sum() + minus.sum())
                plus, minus = plus * share, minus * share
            w = plus - minus
        return w

    return run


def eg_adamw(w: Array, gradient: Callable[[Array], Array], steps: int) -> Array:
    m = v = np.zeros_like(w)
    for t in range(1, steps + 1):
        g = gradient(w)
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2
        ratio = m / (1 - 0.8**t) / (np.sqrt(v / (1 - 0.95**t)) + 1e-6)
        w = w * (1 - 0.02 * 0.1)
        w = w * np.exp(-0.02 * np.sign(w) * ratio)
    return w


RULES: dict[str, tuple[Make, Rule]] = {
    "madam": (Madam, madam(np.e, False, 0.01)),
    "lns_madam": (LNSMadam, madam(2.0, True, 1 / 128)),
    "eg": (EGPlusMinus, eg(None)),
    "eg total": (lambda p: EGPlusMinus(p, total=7.0), eg(7.0)),
    "eg_adamw": (
        lambda p: EGAdamW(p, lr=0.02, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
        eg_adamw,
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_equals_the_transcription_over_100_steps(name: str) -> None:
    make, rule = RULES[name]
    p = nn.Parameter(torch.from_numpy(start()))
    optimizer = make([p])

    def closure() -> float:
        p.grad = torch.from_numpy(pull(p.detach().numpy()))
        return 0.5

    assert all(optimizer.step(closure) == 0.5 for _ in range(100))
    np.testing.assert_allclose(p.detach().numpy(), rule(start(), pull, 100), rtol=1e-9, atol=1e-15)


def test_lns_madam_on_codes_adds_integers() -> None:
    """A float64 twin on exponents: every weight is 2^(j/128) with j a sum of whole steps."""
    w = start()
    p = nn.Parameter(torch.from_numpy(w.copy()))
    optimizer = LNSMadam([p], lr=2 / 128, storage="lns15g128")
    row = get_format("lns15g128")
    assert isinstance(row, LogFormat)
    j, v = np.round(128 * np.log2(np.abs(np.where(w, w, 1.0)))), np.zeros_like(w)
    limit = np.floor(128 * np.log2(3.0 * np.sqrt(np.mean(w**2))))
    for t in range(1, 61):
        values = np.sign(w) * 2.0 ** (j / 128)
        g = pull(p.detach().numpy())
        v = 0.999 * v + 0.001 * g**2
        gn = np.clip(g / np.sqrt(v / (1 - 0.999**t)), -10, 10)
        p.grad = torch.from_numpy(g)
        optimizer.step()
        j = np.minimum(j - 2 * np.round(gn) * np.sign(w), limit)
        values = np.sign(w) * 2.0 ** (j / 128)
        np.testing.assert_allclose(p.detach().numpy(), values, rtol=1e-12)
    codes = optimizer.state[p]["codes"]
    assert codes.dtype == torch.int16
    assert np.array_equal(decode(codes.numpy().astype(np.uint16), row), p.detach().numpy())
    with pytest.raises(InputError, match=r"lr = 0\.01 times the 128 values"):
        LNSMadam([p], lr=0.01, storage="lns15g128")


def test_lns_madam_stalls_below_half_the_root() -> None:
    """|gn| < 1/2 moves nothing, in floats and in codes."""
    for storage in ("float", "lns15g128"):
        p = nn.Parameter(torch.ones(2))
        optimizer = LNSMadam([p], storage=storage, beta=0.5)
        for size, moves in ((1.0, True), (0.2, False)):
            before = p.detach().clone()
            p.grad = torch.full_like(p, size)
            optimizer.step()
            assert torch.equal(p, before) != moves


def test_madam_keeps_signs_and_bounds() -> None:
    p = nn.Parameter(torch.from_numpy(start()))
    w, optimizer = p.detach().clone(), Madam([p], lr=0.3)
    for step in range(60):
        p.grad = -p.detach().sign() * (1.0 + step % 3)
        optimizer.step()
    limit = 3 * w.square().mean().sqrt()
    assert torch.equal(p.sign(), w.sign()) and torch.allclose(p.abs().max(), limit)


def test_eg_is_lmd_without_sign_momentum_and_noise() -> None:
    ends = []
    for make in (
        lambda p: EGPlusMinus(p, lr=0.05, floor=0.02),
        lambda p: LMD(
            p, lr=0.05, floor=0.02, betas=(0.0, 0.0), decay=0.0, sigma=0.0, momentum="shared",
            update="plain",
        ),
    ):  # fmt: skip
        p = nn.Parameter(torch.from_numpy(start()))
        optimizer = make([p])
        for _ in range(100):
            p.grad = torch.from_numpy(pull(p.detach().numpy()))
            optimizer.step()
        ends.append(p.detach().numpy())
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-12, atol=1e-15)


def test_eg_conserves_the_product_and_the_total() -> None:
    p = nn.Parameter(torch.from_numpy(start()))
    free, bound = EGPlusMinus([p]), EGPlusMinus([p], total=7.0)
    for optimizer in (free, bound):
        for _ in range(3):
            p.grad = torch.from_numpy(pull(p.detach().numpy()))
            optimizer.step()
        parts = optimizer.state[p]["parts"]
        if optimizer is free:
            np.testing.assert_allclose(parts.prod(0), (np.abs(start()) + 0.03) * 0.03, rtol=1e-12)
        else:
            assert parts.sum().item() == pytest.approx(7.0, rel=1e-12)


# --- what every one of them survives ---

ALL: dict[str, Make] = {
    "madam": Madam,
    "lns_madam": LNSMadam,
    "lns_madam codes": lambda p, **o: LNSMadam(p, storage="lns15g128", **o),
    "lns_madam 8 bits": lambda p, **o: LNSMadam(p, storage="lns8g8", lr=1 / 8, **o),
    "eg": EGPlusMinus,
    "eg total": lambda p, **o: EGPlusMinus(p, total=5.0, **o),
    "eg_adamw": EGAdamW,
    "lmd": LMD,
    "lmd shared": lambda p, **o: LMD(p, momentum="shared", **o),
    "lmd drawn twice": lambda p, **o: LMD(p, keep_sample=False, **o),
    "lmd log": lambda p, **o: LMD(p, storage="log", prior="initial", **o),
    "lmd codes": lambda p, **o: LMD(p, storage="lns15g128", **o),
    "lmd 8 bits": lambda p, **o: LMD(p, storage="lns8g8", prior="initial", **o),
}


def params(scale: float = 1.0) -> list[nn.Parameter]:
    """Every number of axes from 0 to 5, one without elements, three dtypes."""
    draw = torch.Generator().manual_seed(2)
    shapes = [(), (4,), (4, 3), (2, 3, 2), (2, 1, 3, 2), (2, 1, 2, 1, 2), (0, 3), (5, 4), (3, 3)]
    made = [scale * torch.randn(shape, generator=draw) for shape in shapes]
    made[7], made[8] = made[7].bfloat16(), made[8].half()
    return [nn.Parameter(t) for t in made]


def take(optimizer: Any, weights: list[nn.Parameter], steps: range, scale: float = 1.0) -> None:
    for step in steps:
        for i, p in enumerate(weights):
            g = scale * torch.sin(3 * p.detach().float() / scale + step + i)
            p.grad = g.to(p.dtype) if (i + step) % 5 else None
        optimizer.step()


def tensors(tree: Any) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        return [t for key in sorted(tree, key=str) for t in tensors(tree[key])]
    return [t for node in tree for t in tensors(node)] if isinstance(tree, list) else []


def same(a: Any, b: Any) -> bool:
    pairs = zip(tensors(a), tensors(b), strict=True)
    return all(x.dtype == y.dtype and torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("name", ALL)
def test_resumed_training_has_the_same_bytes(name: str, tmp_path: Path) -> None:
    """Through a checkpoint file, at every dtype and shape; the codes stay codes."""
    weights = params()
    optimizer = ALL[name](weights)
    take(optimizer, weights, range(6))
    file = tmp_path / "state.safetensors"
    state = {"weights": [p.detach() for p in weights], "optimizer": optimizer.state_dict()}
    save_checkpoint(file, state)
    take(optimizer, weights, range(6, 12))

    saved = load_checkpoint(file)
    resumed = params()
    other = ALL[name](resumed)
    with torch.no_grad():
        for p, kept in zip(resumed, saved["weights"], strict=True):
            p.copy_(kept)
    other.load_state_dict(saved["optimizer"])
    assert same(other.state_dict()["state"], saved["optimizer"]["state"])
    take(other, resumed, range(6, 12))
    assert same([p.detach() for p in weights], [p.detach() for p in resumed])
    assert same(optimizer.state_dict(), other.state_dict())


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e30, 3e38], ids=str)
def test_huge_and_tiny_scales(name: str, scale: float) -> None:
    """Weights and gradients of that size: everything stays finite; float16 and the rest alike."""
    weights = [nn.Parameter(p.detach()) for p in params(min(scale, 1e4))]
    optimizer = ALL[name](weights)
    take(optimizer, weights, range(4), min(scale, 1e4))
    big = nn.Parameter(torch.linspace(-1, 1, 8) * min(scale, 1e37))
    second = ALL[name]([big])
    for step in range(8):
        big.grad = torch.full((8,), scale if step % 2 else -scale)
        second.step()
    for held in (*weights, big):
        assert torch.isfinite(held).all()
    for t in tensors(optimizer.state_dict()["state"]) + tensors(second.state_dict()["state"]):
        assert torch.isfinite(t).all()


@pytest.mark.parametrize("name", ALL)
def test_zero_and_missing_gradients(name: str) -> None:
    weights = params()
    optimizer = ALL[name](weights)
    before = [p.detach().clone() for p in weights]
    optimizer.step()
    if not isinstance(optimizer, LMD):
        assert same([p.detach() for p in weights], before)
    for _ in range(3):
        for p in weights:
            p.grad = torch.zeros_like(p)
        optimizer.step()
    assert all(torch.isfinite(p).all() for p in weights)
    if isinstance(optimizer, Madam | EGPlusMinus) and "total" not in name:
        assert torch.allclose(weights[2], before[2])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nonfinite_gradients(name: str, bad: float) -> None:
    weights = params()
    for nonfinite in ("refuse", "skip"):
        optimizer = ALL[name](weights, nonfinite=nonfinite)
        take(optimizer, weights, range(2))
        state, held = deepcopy(optimizer.state_dict()), [p.detach().clone() for p in weights]
        for p in weights:
            p.grad = torch.ones_like(p)
        weights[4].grad[1, 0, 2, 1] = bad  # type: ignore[index]
        if nonfinite == "refuse":
            with pytest.raises(NonFiniteGradientError, match=r"shape \(2, 1, 3, 2\), holds NaN"):
                optimizer.step()
        else:
            optimizer.step()
        assert optimizer.counters["skipped_steps"] == (nonfinite == "skip")
        assert same(optimizer.state_dict(), state)
        assert same([p.detach() for p in weights], held)


@pytest.mark.parametrize("name", ALL)
def test_sparse_complex_and_misspelled_are_refused(name: str) -> None:
    table = nn.Embedding(4, 3, sparse=True)
    optimizer = ALL[name](table.parameters())
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(InputError, match="sparse"):
        optimizer.step()
    with pytest.raises(InputError, match="complex64"):
        ALL[name]([nn.Parameter(torch.ones(2, dtype=torch.complex64))])
    with pytest.raises(InputError, match='nonfinite = "skpi"'):
        ALL[name]([nn.Parameter(torch.ones(2))], nonfinite="skpi")


Refused = tuple[Make, dict[str, Any], str]
REFUSED: tuple[Refused, ...] = (
    (Madam, {"lr": -1.0}, "lr = -1.0"),
    (Madam, {"beta": 1.0}, "beta = 1.0 is not strictly between"),
    (Madam, {"bound": 0.0}, "bound = 0.0"),
    (LNSMadam, {"scale": float("inf")}, "scale = inf"),
    (LNSMadam, {"storage": "e4m3"}, "is not one of float or a logarithmic format"),
    (EGPlusMinus, {"floor": 0.0}, "floor = 0.0"),
    (EGPlusMinus, {"total": -1.0}, "total = -1.0"),
    (EGAdamW, {"betas": (0.9, 1.0)}, "must lie below 1"),
    (EGAdamW, {"eps": -1e-8}, "eps = -1e-08"),
)


@pytest.mark.parametrize(("make", "options", "words"), REFUSED)
def test_hyperparameters_are_checked(make: Make, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make([nn.Parameter(torch.ones(2))], **options)


#: Bytes a weight, and by the paper, of 1000 float32 weights.
BYTES = {
    "madam": (4, 4), "lns_madam": (4, 4), "lns_madam codes": (6, 4), "lns_madam 8 bits": (5, 4),
    "eg": (8, 8), "eg total": (8, 8), "eg_adamw": (8, 8), "lmd": (24, 16), "lmd shared": (20, 12),
    "lmd drawn twice": (16, 16), "lmd log": (32, 16), "lmd codes": (20, 16),
    "lmd 8 bits": (20, 16),
}  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_state_bytes(name: str) -> None:
    """What is there, beside at most one number a tensor; and what the formula says."""
    p = nn.Parameter(torch.ones(1000))
    optimizer = ALL[name]([p])
    p.grad = torch.ones(1000)
    optimizer.step()
    real, formula = BYTES[name]
    assert optimizer.paper_bytes() == 1000 * formula
    assert 0 <= optimizer.state_bytes() - 1000 * real <= 4


@pytest.mark.parametrize("name", ALL)
def test_reference_machine_steps_to_the_same_bits(name: str) -> None:
    """The same gradients with and without emulation: nothing is summed but for w_max and U.

    LMD by torch's operations, as inside of an emulation: its kernel has an exp and log of its own.
    """
    ends = []
    for emulated in (False, True):
        draw = torch.Generator().manual_seed(1)
        weights = [nn.Parameter(torch.randn(s, generator=draw)) for s in ((16, 4), (5,))]
        spelled: dict[str, Any] = {"fused": False} if name.startswith("lmd") else {}
        optimizer = ALL[name](weights, **spelled)

        def steps(weights: Any = weights, optimizer: Any = optimizer, draw: Any = draw) -> None:
            for _ in range(10):
                for p in weights:
                    p.grad = torch.randn(p.shape, generator=draw)
                optimizer.step()

        if emulated:
            with emulate(load_chip("ieee-float32"), load_recipe("fp32")):
                steps()
        else:
            steps()
        ends.append([p.detach() for p in weights])
    if name in ("madam", "lns_madam", "eg total"):
        torch.testing.assert_close(ends[0], ends[1], rtol=1e-5, atol=1e-7)
    else:
        assert same(ends[0], ends[1])


def test_lmd_at_the_mean_starts_at_the_weights() -> None:
    """Also from codes, to within half a step of the format."""
    for storage, step in (("median", 1e-6), ("log", 1e-6), ("lns15g128", 2 ** (1 / 256) - 1)):
        p = nn.Parameter(torch.linspace(-2, 2, 41))
        w = p.detach().clone()
        optimizer = LMD([p], storage=storage, sigma=0.3)
        with optimizer.eval_weights("mean"):
            assert ((p - w).abs() <= step * (w.abs() + 0.06) * exp(1e-9) + 1e-7).all()
