"""Signed exponentiated gradient with AdamW's direction."""

from typing import Any

import torch
from torch import Tensor

from .base import wide
from .checks import betas_in_range, within
from .elementwise import ElementwiseOptimizer, Group, second_moment
from .state import State


class EGAdamW(ElementwiseOptimizer):
    """Exponentiated gradient on signed weights, along AdamW's direction.

        w ← w·(1 − η·δ);   m ← β₁·m + (1 − β₁)·g;   v ← β₂·v + (1 − β₂)·g²
        w ← w·exp(−η·sign(w)·m̂/(√v̂ + ε)),   m̂ = m/(1 − β₁ᵗ),  v̂ = v/(1 − β₂ᵗ)

    No weight changes its sign and one of zero stays zero. g is kept within a quarter
    of the largest float, v and w within the largest
    (not from the paper).

    Source: Cornford, Pogodin, Ghosh, Sheng, Bicknell, Codol, Clark, Lajoie, Richards, 2024,
    "Brain-like learning with exponentiated gradients", with its authors' code for the rule. The
    defaults of betas, eps and weight_decay are those of torch.optim.AdamW, lr is Madam's:
    choices made here [?].

    Args:
        params: parameters or groups; every option but `nonfinite` can be set in a group.
        lr: η, the relative change of a weight in one step.
        betas: β₁ and β₂. eps: ε. weight_decay: δ, decoupled.
        nonfinite: "refuse" or "skip" a step with a NaN or infinite gradient.

    Raises:
        InputError: an option out of its range, or a parameter that is not real floating point.
    """

    vectors = 2

    def __init__(
        self,
        params: Any,
        lr: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        nonfinite: str = "refuse",
    ) -> None:
        defaults = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        super().__init__(params, defaults, nonfinite)

    def _check_options(self, group: Group) -> None:
        within(group["lr"], 0.0, 10.0, "lr", self.place)
        group["betas"] = betas_in_range(group["betas"], self.place)
        within(group["eps"], 0.0, 1.0, "eps", self.place)
        within(group["weight_decay"], 0.0, 100.0, "weight_decay", self.place)

    def _begin(self, p: Tensor, group: Group) -> State:
        zeros = torch.zeros_like(p, dtype=wide(p))
        return {"m": zeros, "v": zeros.clone(), "step": 0}

    def _update(self, p: Tensor, g: Tensor, state: State, group: Group) -> None:
        state["step"] += 1
        beta1, beta2 = group["betas"]
        largest = torch.finfo(g.dtype).max / 4
        g = g.clamp(-largest, largest)
        state["m"].lerp_(g, 1 - beta1)
        root = second_moment(state["v"], g, beta2, state["step"]).sqrt_().add_(group["eps"])
        direction = (state["m"] / root).nan_to_num_(nan=0.0).div_(1 - beta1 ** state["step"])
        w = p.to(g.dtype) * (1 - group["lr"] * group["weight_decay"])
        top = torch.finfo(p.dtype).max
        factor = direction.mul_(w.sign()).mul_(-group["lr"]).exp_()
        p.copy_((w * factor).nan_to_num_(nan=0.0).clamp_(-top, top))
