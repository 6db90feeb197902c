"""LMD against a float64 transcription of its equations, and against closed forms."""

import io
import re
from copy import deepcopy
from math import exp, pi, sinh, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tapeout.formats.errors import InputError
from tapeout.optimizers import LMD, NonFiniteGradientError
from tapeout.optimizers.components import medians
from tapeout.optimizers.kernels.noise import LENGTH, NORMAL
from tapeout.optimizers.noise import (
    ROUNDING,
    START,
    TRAINING,
    Draws,
    Place,
    uniforms,
    variates,
)

Array = NDArray[Any]
SHAPES = ((5, 3), (4,))
STEPS = 100


def start() -> list[Array]:
    draw = np.random.default_rng(3)
    return [draw.normal(size=shape) for shape in SHAPES]


def pull(index: int, w: Array) -> Array:
    """The gradient of a bumpy bowl, the same for the transcription and for the optimizer."""
    return w - 0.3 * (index + 1) + 2.0 * np.cos(3.0 * w)


def set_gradients(params: list[nn.Parameter]) -> None:
    for i, p in enumerate(params):
        p.grad = torch.from_numpy(pull(i, p.detach().numpy()))


class Transcription:
    """The rule in numpy, written from the equations with one loop over samples and weights."""

    def __init__(self, **options: Any) -> None:
        defaults: dict[str, Any] = dict(
            lr=0.02, betas=(0.9, 0.99), decay=0.1, sigma=0.1, floor=0.03,
            regularizer="lognormal", prior="floor", momentum="components", update="sign",
            init="exact", noise="lognormal", temperature=0.0, samples=1, seed=0,
            storage="median", storage_rounding="stochastic", keep_sample=True,
        )  # fmt: skip
        self.o = defaults | options
        self.draws = Draws(self.o["seed"])
        s = self.o["sigma"]
        rayleigh = self.o["noise"] == "rayleigh"
        self.mean = s * sqrt(pi / 2) if rayleigh else exp(s**2 / 2)
        self.square = 2 * s**2 if rayleigh else exp(2 * s**2)
        self.lns = re.fullmatch(r"lns(\d+)g(\d+)", self.o["storage"])
        self.m = [self.stored(self.medians(w)) for w in start()]
        self.m0 = deepcopy(self.m)
        self.v = [[np.zeros_like(part) for part in pair] for pair in self.m]
        self.eps = self.noise()

    def numbers(self, law: int, shape: tuple[int, ...], place: Place) -> Array:
        """The random numbers themselves are given; tests/test_lmd_noise.py looks at them."""
        return variates(torch.empty(shape, dtype=torch.float64), law, place).numpy()

    def medians(self, w: Array) -> list[Array]:
        place = self.draws.take(START)
        if self.o["init"] == "exact":
            return [(np.maximum(s * w, 0.0) + self.o["floor"]) / self.mean for s in (1, -1)]
        rms = np.sqrt(np.mean(w**2))
        return list(np.abs(rms * self.numbers(NORMAL, (2, *w.shape), place)) + 1e-5)

    def split(self, joined: Array) -> list[list[Array]]:
        """(2, all weights) in pieces: the parameters lie in a row, and draw together."""
        pieces = np.split(joined, [w.size for w in start()][:-1], axis=1)
        return [
            [side.reshape(w.shape) for side in piece]
            for piece, w in zip(pieces, start(), strict=True)
        ]

    def stored(self, pair: list[Array]) -> list[Array]:
        """Rounded to 2^((k - bias)/γ), bias in the middle of the k, where that is the storage."""
        if not self.lns:
            return pair
        bits, gamma = map(int, self.lns.groups())
        bias = 2 ** (bits - 2)
        nearest = [np.clip(np.round(gamma * np.log2(m)) + bias, 1, 2 * bias - 1) for m in pair]
        return [2.0 ** ((k - bias) / gamma) for k in nearest]

    def noise(self) -> list[list[Array]]:
        return self.split(self.one_noise((2, sum(w.size for w in start()))))

    def one_noise(self, shape: tuple[int, ...]) -> Array:
        sigma, place = self.o["sigma"], self.draws.take(TRAINING)
        if sigma == 0.0:
            return np.ones(shape)
        if self.o["noise"] == "rayleigh":
            return np.asarray(sigma * self.numbers(LENGTH, shape, place))
        return np.asarray(np.exp(sigma * self.numbers(NORMAL, shape, place)))

    def weights(self) -> list[Array]:
        return [m[0] * e[0] - m[1] * e[1] for m, e in zip(self.m, self.eps, strict=True)]

    def pressure(self, i: int, side: int) -> Array | float:
        m, kind = self.m[i][side], self.o["regularizer"]
        m0 = self.m0[i][side] if self.o["prior"] == "initial" else self.o["floor"] / self.mean
        if kind == "lognormal":
            return np.log(m) - np.log(m0)
        if kind == "constant":
            return 1.0
        return m**2 * self.square if kind == "gaussian" else m * self.mean

    def step(self) -> None:
        totals = [[np.zeros_like(part) for part in pair] for pair in self.m]
        for sample in range(self.o["samples"]):
            if sample:
                self.eps = self.noise()
            for i, w in enumerate(self.weights()):
                g = pull(i, w)
                for side, sign in enumerate((1.0, -1.0)):
                    scale = 1.0 if self.o["momentum"] == "shared" else self.m[i][side]
                    scale = scale * (1.0 if self.o["momentum"] == "shared" else self.eps[i][side])
                    totals[i][side] += sign * scale * g / self.o["samples"]
        beta1, beta2 = self.o["betas"]
        pushed: list[list[Array]] = []
        for i, total in enumerate(totals):
            pushes: list[Any] = [0.0, 0.0]
            for side in range(2):
                u = total[side] - self.o["temperature"]
                direction = beta1 * self.v[i][side] + (1 - beta1) * u
                self.v[i][side] = beta2 * self.v[i][side] + (1 - beta2) * u
                if self.o["update"] == "sign":
                    direction = np.sign(direction)
                pushes[side] = direction + self.o["decay"] * self.pressure(i, side)
            pushed.append([-self.o["lr"] * push for push in pushes])
        if self.lns:
            pushed = self.whole_steps(pushed)
        self.m = [
            [m * np.exp(push) for m, push in zip(pair, moves, strict=True)]
            for pair, moves in zip(self.m, pushed, strict=True)
        ]
        self.eps = self.noise()

    def whole_steps(self, pushed: list[list[Array]]) -> list[list[Array]]:
        """Moves of log m as whole numbers of ln 2/γ."""
        unit = np.log(2) / int(self.lns[2])  # type: ignore[index]
        down = -np.concatenate([np.stack(pair).reshape(2, -1) for pair in pushed], axis=1) / unit
        if self.o["storage_rounding"] == "nearest":
            return self.split(-np.round(down) * unit)
        place = self.draws.place(ROUNDING, self.draws.position)
        draw = uniforms(torch.from_numpy(down), place).numpy()
        return self.split(-np.floor(down + draw) * unit)


OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "no decay": {"decay": 0.0},
    "prior initial": {"prior": "initial"},
    "constant": {"regularizer": "constant"},
    "gaussian": {"regularizer": "gaussian"},
    "exponential": {"regularizer": "exponential"},
    "one beta": {"betas": (0.9, 0.9)},
    "shared": {"momentum": "shared"},
    "plain": {"update": "plain"},
    "independent": {"init": "independent"},
    "no noise": {"sigma": 0.0},
    "three samples": {"samples": 3},
    "three samples shared": {"samples": 3, "momentum": "shared", "sigma": 0.3},
    "log": {"storage": "log"},
    "log initial": {"storage": "log", "prior": "initial"},
    "log gaussian": {"storage": "log", "regularizer": "gaussian"},
    "codes": {"storage": "lns15g128"},
    "codes nearest": {"storage": "lns15g128", "storage_rounding": "nearest"},
    "codes initial": {"storage": "lns12g32", "prior": "initial", "lr": 0.1},
    "codes exponential": {"storage": "lns9g8", "regularizer": "exponential", "lr": 0.05},
    "drawn twice": {"keep_sample": False},
    "codes drawn twice": {"keep_sample": False, "storage": "lns15g128", "samples": 2},
    "ancestor": {
        "noise": "rayleigh", "sigma": 0.7, "update": "plain", "init": "independent",
        "betas": (0.9, 0.9), "temperature": 0.01, "decay": 0.0,
    },
}  # fmt: skip


def medians_of(optimizer: LMD, p: Tensor) -> Tensor:
    """m+ and m- of a parameter, whatever the storage."""
    return medians(optimizer.state[p], optimizer.param_groups[0])


@pytest.mark.parametrize("name", OPTIONS)
def test_equals_the_transcription_over_100_steps(name: str) -> None:
    """Relative 1e-9: a thousand roundings of float64 in another order; no sign may differ."""
    options = {"seed": 5, **OPTIONS[name]}
    params = [nn.Parameter(torch.from_numpy(w)) for w in start()]
    optimizer, twin = LMD(params, **options), Transcription(**options)

    def closure() -> None:
        set_gradients(params)

    for _ in range(STEPS):
        for p, w in zip(params, twin.weights(), strict=True):
            np.testing.assert_allclose(p.detach().numpy(), w, rtol=1e-9, atol=1e-12)
        if optimizer.samples == 1:
            closure()
            optimizer.step()
        else:
            optimizer.step(closure)
        twin.step()
    for p, (plus, minus) in zip(params, twin.m, strict=True):
        kept = medians_of(optimizer, p)
        np.testing.assert_allclose(kept.numpy(), np.stack((plus, minus)), rtol=1e-9)


def test_ancestor_settings_give_the_ancestors_rule() -> None:
    """u± = mean(±w±∘g);  v ← βv + (1−β)(u − τ/N);  m ← m·exp(−αv), noise drawn here."""
    beta, alpha, temperature, sigma = 0.9, 0.05, 0.01, 0.7
    p = nn.Parameter(torch.from_numpy(start()[0]))
    optimizer = LMD(
        [p], lr=alpha, betas=(beta, beta), decay=0.0, sigma=sigma, momentum="components",
        update="plain", init="independent", noise="rayleigh", temperature=temperature, samples=2,
        seed=4,
    )  # fmt: skip
    draws = Draws(4)

    def numbers(law: int, purpose: int) -> Array:
        like = torch.empty((2, p.numel()), dtype=torch.float64)
        return variates(like, law, draws.take(purpose)).numpy()

    w0 = start()[0]
    m = np.abs(np.sqrt(np.mean(w0**2)) * numbers(NORMAL, START)) + 1e-5
    v = np.zeros_like(m)
    first = sigma * numbers(LENGTH, TRAINING)

    def closure() -> None:
        p.grad = torch.from_numpy(pull(0, p.detach().numpy()))

    for _ in range(100):
        second = sigma * numbers(LENGTH, TRAINING)
        u = np.zeros_like(m)
        for eps in (first, second):
            parts = m * eps
            g = pull(0, parts[0] - parts[1])
            u += np.stack((parts[0] * g, -parts[1] * g)) / 2
        v = beta * v + (1 - beta) * (u - temperature)
        m = m * np.exp(-alpha * v)
        first = sigma * numbers(LENGTH, TRAINING)
        optimizer.step(closure)
    np.testing.assert_allclose(medians_of(optimizer, p).reshape(2, -1), m, rtol=1e-9)


def test_options_change_the_result() -> None:
    """No two rows of OPTIONS are the same rule, so that the comparison above tests each.

    The logarithm of m in place of m, and drawing twice, are the same rule by another way.
    """
    seen: dict[bytes, str] = {}
    for name, options in OPTIONS.items():
        if options.get("storage") == "log" or "drawn twice" in name:
            continue
        twin = Transcription(seed=5, **options)
        for _ in range(20):
            twin.step()
        assert seen.setdefault(twin.weights()[0].tobytes(), name) == name


def steady(value: float, n: int = 1, **options: Any) -> tuple[nn.Parameter, LMD]:
    p = nn.Parameter(torch.full((n,), value, dtype=torch.float64))
    return p, LMD([p], **options)


def test_sign_steps_conserve_the_product_of_medians() -> None:
    params = [nn.Parameter(torch.from_numpy(w)) for w in start()]
    optimizer = LMD(params, decay=0.0, momentum="shared")
    products = [medians_of(optimizer, p).prod(0) for p in params]
    for _ in range(50):
        set_gradients(params)
        optimizer.step()
    for p, before in zip(params, products, strict=True):
        torch.testing.assert_close(medians_of(optimizer, p).prod(0), before, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("steps", [1, 10])
def test_from_zero_the_median_moves_as_a_hyperbolic_sine(steps: int) -> None:
    p, optimizer = steady(0.0, lr=0.03, decay=0.0, sigma=0.1, floor=0.01)
    for _ in range(steps):
        p.grad = torch.full_like(p, -2.0)
        optimizer.step()
    with optimizer.eval_weights("median"):
        expected = 2 * 0.01 * exp(-0.005) * sinh(steps * 0.03)
        assert p.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("w0", [0.0, 0.05, -0.7])
def test_noise_keeps_the_mean_and_has_the_lognormal_variance(w0: float) -> None:
    """Over 400 000 weights; the tolerances are five standard errors."""
    n, sigma, c = 400_000, 0.1, 0.01
    p, optimizer = steady(w0, n, sigma=sigma, floor=c)
    variance = (exp(sigma**2) - 1) * ((abs(w0) + c) ** 2 + c**2)
    assert p.mean().item() == pytest.approx(w0, abs=5 * sqrt(variance / n))
    assert p.var().item() == pytest.approx(variance, rel=5 * sqrt(3 / n))
    with optimizer.eval_weights("mean"):
        torch.testing.assert_close(p.detach(), torch.full_like(p, w0), rtol=1e-12, atol=1e-15)


def test_evaluation_weights() -> None:
    p, optimizer = steady(0.3, 50, sigma=0.2)
    noisy, state = p.detach().clone(), optimizer.generator.state()
    plus, minus = medians_of(optimizer, p)
    with optimizer.eval_weights("median"):
        assert torch.equal(p.detach(), plus - minus)
    with optimizer.eval_weights("sample", draw=0):
        first = p.detach().clone()
    with optimizer.eval_weights("sample", draw=1):
        assert not torch.equal(p, first) and not torch.equal(p, noisy)
    with pytest.raises(RuntimeError, match="inside"), optimizer.eval_weights():
        raise RuntimeError("inside")
    assert torch.equal(p, noisy) and optimizer.generator.state() == state
    with (
        pytest.raises(InputError, match=r'mode = "medain" is not one of .* "median"'),
        optimizer.eval_weights("medain"),
    ):
        pass


def test_seed_decides_the_noise() -> None:
    same = [steady(0.5, 20, seed=seed)[0].detach() for seed in (4, 4, 5)]
    assert torch.equal(same[0], same[1]) and not torch.equal(same[0], same[2])


def test_a_change_of_sigma_waits_for_the_next_sample() -> None:
    """The momenta see the weights that the gradient was taken at: u⁺ + u⁻ = (w⁺ − w⁻)·g."""
    p, optimizer = steady(0.4, 20, sigma=0.3, betas=(0.9, 0.5))
    held = p.detach().clone()
    optimizer.param_groups[0]["sigma"] = 0.0
    p.grad = torch.linspace(-1, 1, 20, dtype=torch.float64)
    optimizer.step()
    state = optimizer.state[p]
    torch.testing.assert_close(state["v"].sum(0), 0.5 * held * p.grad)
    assert torch.equal(p.detach(), state["m"][0] - state["m"][1])


def mixed_optimizer(params: list[nn.Parameter]) -> LMD:
    plain = {"params": params[2:], "rule": "adamw", "lr": 1e-2, "betas": (0.9, 0.999)}
    return LMD([{"params": params[:2]}, plain], decay=0.01, prior="initial", seed=9)


def mixed_params() -> list[nn.Parameter]:
    draw = torch.Generator().manual_seed(2)
    tensors = [torch.randn(4, 3, generator=draw) for _ in range(3)]
    tensors[1] = tensors[1].bfloat16()
    return [nn.Parameter(t) for t in tensors]


def take_steps(optimizer: LMD, params: list[nn.Parameter], steps: range) -> None:
    for step in steps:
        for i, p in enumerate(params):
            p.grad = torch.sin(p.detach() * 3 + step) if (i + step) % 3 else None
        optimizer.step()


def test_resume_is_bit_exact() -> None:
    params = mixed_params()
    optimizer = mixed_optimizer(params)
    take_steps(optimizer, params, range(7))
    file = io.BytesIO()
    torch.save({"params": params, "state": optimizer.state_dict()}, file)
    take_steps(optimizer, params, range(7, 15))

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = [nn.Parameter(p.detach().clone()) for p in saved["params"]]
    other = LMD([{"params": resumed[:2]}, {"params": resumed[2:]}], seed=1)
    for p, kept in zip(resumed, saved["params"], strict=True):
        p.data.copy_(kept)
    other.load_state_dict(saved["state"])
    take_steps(other, resumed, range(7, 15))
    for p, q in zip(params, resumed, strict=True):
        assert torch.equal(p, q)
        for key, value in optimizer.state[p].items():
            mine = other.state[q][key]
            assert torch.equal(mine, value) if isinstance(value, Tensor) else mine == value
    assert optimizer.state[params[1]]["m"].dtype == torch.float32


def test_state_of_another_optimizer_is_refused() -> None:
    p, optimizer = steady(1.0)
    with pytest.raises(InputError, match="generator"):
        optimizer.load_state_dict(torch.optim.AdamW([p]).state_dict())
    old = optimizer.state_dict() | {"generator": torch.Generator().get_state()}
    with pytest.raises(InputError, match="not a seed and a position"):
        optimizer.load_state_dict(old)


def test_adamw_groups_equal_torch() -> None:
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 12)) for _ in range(2))
    options = {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-7, "weight_decay": 0.1}
    mine = LMD([{"params": [ours], "rule": "adamw", **options}])
    reference = torch.optim.AdamW([theirs], foreach=False, **options)  # type: ignore[arg-type]
    for step in range(10):
        for p in (ours, theirs):
            p.grad = torch.sin(p.detach() * 3 + step)
        mine.step()
        reference.step()
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nonfinite_gradients_leave_everything_as_it_was(bad: float) -> None:
    params = mixed_params()
    optimizer = mixed_optimizer(params)
    take_steps(optimizer, params, range(3))
    before, weights = deepcopy(optimizer.state_dict()), [p.detach().clone() for p in params]
    for p in params:
        p.grad = torch.ones_like(p)
    params[2].grad[1, 1] = bad  # type: ignore[index]
    with pytest.raises(NonFiniteGradientError, match=r"0 of group 1, shape \(4, 3\), holds NaN"):
        optimizer.step()
    assert str(optimizer.state_dict()) == str(before)
    assert all(torch.equal(p, w) for p, w in zip(params, weights, strict=True))


def test_sparse_gradients_are_refused() -> None:
    table = nn.Embedding(4, 3, sparse=True)
    optimizer = LMD(table.parameters())
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(InputError, match="sparse"):
        optimizer.step()


@pytest.mark.parametrize("storage", ["median", "log", "lns15g128", "lns8g8"])
@pytest.mark.parametrize("update", ["sign", "plain"])
def test_medians_stay_positive_and_finite(storage: str, update: str) -> None:
    """With the widest noise, steps of e^10 and more, in both directions, and huge gradients."""
    p = nn.Parameter(torch.ones(3, 4))
    optimizer = LMD([p], lr=10.0, sigma=2.0, storage=storage, update=update)
    for step in range(200):
        p.grad = torch.full_like(p, 3e38 if step % 7 else -1e-38)
        optimizer.step()
        kept = medians_of(optimizer, p)
        assert torch.isfinite(kept).all() and (kept > 0).all() and torch.isfinite(p).all()


@pytest.mark.parametrize(
    "shape", [(), (0, 3), (2, 1, 2, 1, 2)], ids=["scalar", "empty", "five dimensions"]
)
def test_any_shape_steps(shape: tuple[int, ...]) -> None:
    p = nn.Parameter(torch.ones(shape))
    optimizer = LMD([p], sigma=0.0)
    p.grad = torch.ones(shape)
    optimizer.step()
    assert p.shape == shape and bool((p < 1).all())


def test_a_group_added_later_is_sampled_and_trained() -> None:
    params = [nn.Parameter(torch.from_numpy(w)) for w in start()]
    optimizer = LMD(params[:1])
    optimizer.add_param_group({"params": params[1:], "sigma": 0.0})
    np.testing.assert_allclose(params[1].detach().numpy(), start()[1], rtol=1e-12)
    set_gradients(params)
    optimizer.step()
    signs = np.sign(start()[1] - params[1].detach().numpy())
    np.testing.assert_array_equal(signs, np.sign(pull(1, start()[1])))


Refused = tuple[dict[str, Any], str]
REFUSED: tuple[Refused, ...] = (
    ({"lr": -0.1}, "lr = -0.1 is not between 0 and 10"),
    ({"lr": float("nan")}, "lr = nan"),
    ({"sigma": 3.0}, "sigma = 3.0"),
    ({"floor": 0.0}, "floor = 0.0 is not strictly between"),
    ({"betas": (0.9, 1.0)}, "must lie below 1"),
    ({"betas": 0.9}, "is not a pair"),
    ({"samples": 0}, "samples = 0 is not a whole number of at least 1"),
    ({"regularizer": "log-normal"}, 'did you mean "lognormal"'),
    ({"momentum": "shared", "temperature": 0.1}, "temperature acts on"),
    ({"noise": "rayleigh", "sigma": 0.0}, "Rayleigh"),
    ({"storage": "bf16"}, r'storage = "bf16" is not one of median, log or a logarithmic format'),
    ({"storage": "medain"}, r'did you mean "median"'),
    ({"storage": "lns16g128"}, "the normal numbers of float32"),
    ({"storage": "log", "storage_rounding": "up"}, "storage_rounding"),
    ({"nonfinite": "ignore"}, "refuse, skip"),
)


@pytest.mark.parametrize(("options", "words"), REFUSED)
def test_hyperparameters_are_checked(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        LMD([nn.Parameter(torch.ones(2))], **options)


def test_samples_need_a_closure() -> None:
    p, optimizer = steady(1.0, samples=2)
    p.grad = torch.ones_like(p)
    with pytest.raises(InputError, match="closure"):
        optimizer.step()


def test_complex_parameters_are_refused() -> None:
    with pytest.raises(InputError, match="complex64"):
        LMD([nn.Parameter(torch.ones(2, dtype=torch.complex64))])
