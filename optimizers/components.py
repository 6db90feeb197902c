"""The two positive components of a signed weight, w = w⁺ − w⁻, and their multiplicative update.

Everything here concerns one parameter: its `group` of options and its `state`. Both components
lie in one tensor with a first axis of length 2, plus before minus: `m` as the group's storage
keeps it, momenta `v` in float32 (float64 for float64 parameters), or of the parameter's own
shape where they are shared.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .base import wide
from .kernels.noise import NORMAL
from .medians import Medians, medians_in
from .noise import NOISE_LAWS, Place, variates

Group = dict[str, Any]
State = dict[str, Any]

PLACE = "LMD"

# The ancestor's offset from zero, |p±| + 1e-5: Kiral, Möllenhoff, Khan, arXiv 2303.04397.
ANCESTOR_FLOOR = 1e-5

#: A quarter of the largest float, of either sign.
LARGEST = {
    t: (-torch.finfo(t).max / 4, torch.finfo(t).max / 4) for t in (torch.float32, torch.float64)
}


def storage(group: Group) -> Medians:
    """How the group keeps its medians."""
    return medians_in(group["storage"], group["storage_rounding"], PLACE)


def begin(w0: Tensor, group: Group, place: Place) -> State:
    """The state before the first step: medians from the weights `w0`, momenta zero."""
    w0 = w0.detach().to(wide(w0))
    if group["init"] == "exact":
        mean = NOISE_LAWS[group["noise"]].mean(group["sigma"])
        m = (torch.stack((w0.clamp(min=0.0), (-w0).clamp(min=0.0))) + group["floor"]) / mean
    else:
        spread = w0.square().mean().sqrt()
        m = (spread * variates(torch.stack((w0, w0)), NORMAL, place)).abs() + ANCESTOR_FLOOR
    state = {"m": storage(group).store(m)}
    if group["prior"] == "initial" and group["regularizer"] == "lognormal":
        state["prior"] = state["m"].clone()
    state["v"] = torch.zeros_like(w0 if group["momentum"] == "shared" else m)
    return state


def medians(state: State, group: Group) -> Tensor:
    """m⁺ and m⁻."""
    return storage(group).values(state["m"], state["v"].dtype)


def drawn(state: State, group: Group, sigma: float, place: Place) -> Tensor:
    """One sample w± = m±·ε±, from the numbers at `place`; the medians where σ = 0."""
    m = medians(state, group)
    if sigma == 0.0:
        return m
    return NOISE_LAWS[group["noise"]].draw(m, sigma, place).mul_(m)


def difference(components: Tensor, like: Tensor) -> Tensor:
    """w = w⁺ − w⁻, within the finite numbers of the parameter `like`."""
    return finite(components[0] - components[1], like)


def finite(w: Tensor, like: Tensor) -> Tensor:
    """w, in place, within the finite numbers of the parameter `like`."""
    if like.dtype == torch.float16:
        w.clamp_(-torch.finfo(like.dtype).max, torch.finfo(like.dtype).max)
    return w


def log_gradient(group: Group, sample: Tensor, gradient: Tensor) -> Tensor:
    """u± = ±w±·g, the derivative of the loss by log m±; with shared momentum u = g alone."""
    if group["momentum"] == "shared":
        return gradient
    u = sample * gradient
    u[1].neg_()
    return u


def advance(state: State, group: Group, u: Tensor, place: Place) -> None:
    """One step of the medians and momenta, in place.

    v_temp± = β₁v± + (1−β₁)u±;  m± ← m±·exp(−η(sign(v_temp±) + λR(m±)));  v± ← β₂v± + (1−β₂)u±.

    u is kept within a quarter of the largest float, where sums of two cannot overflow (not
    from the paper); medians stay within `medians.limits`. Every product and sum is an operation of
    its own, so that `kernels.lmd` can compute the same bits.
    """
    beta1, beta2 = group["betas"]
    if group["temperature"]:
        u = u - group["temperature"]
    # A shared u is the gradient itself, which stays the user's.
    clamp = u.clamp if group["momentum"] == "shared" else u.clamp_
    u = clamp(*LARGEST[u.dtype])
    direction = (state["v"] * beta1).add_(u * (1 - beta1))
    state["v"].mul_(beta2).add_(u * (1 - beta2))
    if group["momentum"] == "shared":
        direction = torch.stack((direction, -direction))
    if group["update"] == "sign":
        direction.sign_()
    if group["decay"]:
        pull = REGULARIZERS[group["regularizer"]](state, group)
        direction.add_(pull.mul_(group["decay"]))
    # Left out at η = 0, where an infinite direction would make NaN.
    if group["lr"]:
        storage(group).move(state["m"], group["lr"], direction, place)


Regularizer = Callable[[State, Group], Tensor]


def _lognormal(state: State, group: Group) -> Tensor:
    """R = log(m/m₀): pulls log m to log m₀, multiplicative weight decay m ← m^(1−ηλ)·m₀^(ηλ)."""
    keep = storage(group)
    mean = NOISE_LAWS[group["noise"]].mean(group["sigma"])
    origin = state["prior"] if "prior" in state else keep.point(group["floor"] / mean)
    return keep.log_ratio(state["m"], origin, state["v"].dtype)


def _constant(state: State, group: Group) -> Tensor:
    """R = 1: pure shrinking."""
    return torch.ones_like(state["m"], dtype=state["v"].dtype)


def _gaussian(state: State, group: Group) -> Tensor:
    """R = m²·E[ε²], which is E[w²] of one component; m²·exp(2σ²) for log-normal noise."""
    m = medians(state, group)
    return m * m * NOISE_LAWS[group["noise"]].square(group["sigma"])


def _exponential(state: State, group: Group) -> Tensor:
    """R = m·E[ε], which is E[w] of one component; m·exp(σ²/2) for log-normal noise."""
    return medians(state, group) * NOISE_LAWS[group["noise"]].mean(group["sigma"])


REGULARIZERS: dict[str, Regularizer] = {
    "lognormal": _lognormal,
    "constant": _constant,
    "gaussian": _gaussian,
    "exponential": _exponential,
}
