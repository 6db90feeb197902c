"""The two positive components of a signed weight, w = w⁺ − w⁻, and their multiplicative update.

Everything here concerns one parameter: its `group` of options and its `state` of float32 (for
float64 parameters float64) tensors in the parameter's shape.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .base import wide
from .noise import NOISE_LAWS

Group = dict[str, Any]
State = dict[str, Any]
Pair = tuple[Tensor, Tensor]

# The ancestor's offset from zero, |p±| + 1e-5: Kiral, Möllenhoff, Khan, arXiv 2303.04397.
ANCESTOR_FLOOR = 1e-5


def begin(w0: Tensor, group: Group, generator: torch.Generator) -> State:
    """The state before the first step: medians from the weights `w0`, momenta zero."""
    w0 = w0.detach().to(wide(w0))
    mean = NOISE_LAWS[group["noise"]].mean(group["sigma"])
    if group["init"] == "exact":
        plus, minus = (w0.clamp(min=0.0), (-w0).clamp(min=0.0))
        plus, minus = ((part + group["floor"]) / mean for part in (plus, minus))
    else:
        spread = w0.square().mean().sqrt()
        plus, minus = (
            spread * torch.randn(w0.shape, generator=generator, dtype=w0.dtype).to(w0.device)
            for _ in range(2)
        )
        plus, minus = (part.abs() + ANCESTOR_FLOOR for part in (plus, minus))
    state = {"m_plus": plus, "m_minus": minus}
    if group["prior"] == "initial" and group["regularizer"] == "lognormal":
        state |= {"prior_plus": plus.clone(), "prior_minus": minus.clone()}
    state["v_plus"] = torch.zeros_like(w0)
    if group["momentum"] == "components":
        state["v_minus"] = torch.zeros_like(w0)
    return state


def medians(state: State) -> Pair:
    """m⁺ and m⁻."""
    return state["m_plus"], state["m_minus"]


def drawn(state: State, group: Group, sigma: float, generator: torch.Generator) -> Pair:
    """One sample w± = m±·ε±, from the next numbers of `generator`; the medians where σ = 0."""
    plus, minus = medians(state)
    if sigma == 0.0:
        return plus, minus
    law = NOISE_LAWS[group["noise"]]
    noise_plus = law.draw(plus, sigma, generator)
    return plus * noise_plus, minus * law.draw(minus, sigma, generator)


def log_gradient(group: Group, sample: Pair, gradient: Tensor) -> Pair:
    """u± = ±w±·g, the derivative of the loss by log m±; with shared momentum u± = ±g."""
    if group["momentum"] == "shared":
        return gradient, -gradient
    return sample[0] * gradient, -sample[1] * gradient


def advance(state: State, group: Group, u: Pair) -> None:
    """One step of the medians and momenta, in place.

    v_temp± = β₁v± + (1−β₁)u±;  m± ← m±·exp(−η(sign(v_temp±) + λR(m±)));  v± ← β₂v± + (1−β₂)u±.

    Medians are kept between the least normal float and its inverse, so that they stay positive
    and finite however long one sign lasts (not from the paper).
    """
    beta1, beta2 = group["betas"]
    u = (u[0] - group["temperature"], u[1] - group["temperature"])
    v = (state["v_plus"], state.get("v_minus"))
    temporary = [beta1 * v[0] + (1 - beta1) * u[0]]
    temporary.append(-temporary[0] if v[1] is None else beta1 * v[1] + (1 - beta1) * u[1])
    for sign, direction in zip(("plus", "minus"), temporary, strict=True):
        m: Tensor = state[f"m_{sign}"]
        if group["update"] == "sign":
            direction = direction.sign()
        if group["decay"]:
            direction = direction + group["decay"] * REGULARIZERS[group["regularizer"]](
                m, group, state.get(f"prior_{sign}")
            )
        least = torch.finfo(m.dtype).tiny
        m.mul_(torch.exp(-group["lr"] * direction)).clamp_(least, 1 / least)
    for momentum, new in zip(v, u, strict=True):
        if momentum is not None:
            momentum.mul_(beta2).add_(new, alpha=1 - beta2)


Regularizer = Callable[[Tensor, Group, Tensor | None], Tensor]


def _lognormal(m: Tensor, group: Group, prior: Tensor | None) -> Tensor:
    """R = log(m/m₀): pulls log m to log m₀, multiplicative weight decay m ← m^(1−ηλ)·m₀^(ηλ)."""
    if prior is None:
        prior_median = group["floor"] / NOISE_LAWS[group["noise"]].mean(group["sigma"])
        return torch.log(m / prior_median)
    return torch.log(m / prior)


def _constant(m: Tensor, group: Group, prior: Tensor | None) -> Tensor:
    """R = 1: pure shrinking."""
    return torch.ones_like(m)


def _gaussian(m: Tensor, group: Group, prior: Tensor | None) -> Tensor:
    """R = m²·E[ε²], which is E[w²] of one component; m²·exp(2σ²) for log-normal noise."""
    return m * m * NOISE_LAWS[group["noise"]].square(group["sigma"])


def _exponential(m: Tensor, group: Group, prior: Tensor | None) -> Tensor:
    """R = m·E[ε], which is E[w] of one component; m·exp(σ²/2) for log-normal noise."""
    return m * NOISE_LAWS[group["noise"]].mean(group["sigma"])


REGULARIZERS: dict[str, Regularizer] = {
    "lognormal": _lognormal,
    "constant": _constant,
    "gaussian": _gaussian,
    "exponential": _exponential,
}
