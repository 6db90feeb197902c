"""Madam: multiplicative Adam."""

from typing import Any

import torch
from torch import Tensor

from .base import wide
from .checks import within
from .elementwise import ElementwiseOptimizer, Group, second_moment
from .state import State


def check_normalised(group: Group, place: str) -> None:
    """Refuse hyper-parameters of the normalised gradient and the weight bound out of range."""
    within(group["lr"], 0.0, 10.0, "lr", place)
    if within(group["beta"], 0.0, 1.0, "beta", place) == 1.0:
        within(group["beta"], 0.0, 1.0, "beta", place, open_ends=True)
    within(group["bound"], 0.0, 1e6, "bound", place, open_ends=True)
    within(group["scale"], 0.0, 1e6, "scale", place, open_ends=True)


def begin_normalised(p: Tensor, group: Group) -> State:
    """w_max = scale·RMS(w) of the weights at the first step, and v = 0."""
    w = p.detach().to(wide(p))
    # Through the largest magnitude: squares of huge or tiny weights leave float32.
    largest = w.abs().max()
    shares = (w / largest).nan_to_num_(nan=0.0)
    mean = (shares * shares).mean()
    top = torch.finfo(w.dtype).max
    w_max = (mean.sqrt_() * largest * group["scale"]).clamp_(max=top)
    return {"w_max": w_max, "v": torch.zeros_like(w), "step": 0}


def normalised(g: Tensor, state: State, group: Group) -> Tensor:
    """clamp(g/√v̂, ±bound) with NaN, 0/0, as 0; v̂ the unbiased mean of g²."""
    state["step"] += 1
    root = second_moment(state["v"], g, group["beta"], state["step"]).sqrt_()
    return (g / root).nan_to_num_(nan=0.0).clamp_(-group["bound"], group["bound"])


class Madam(ElementwiseOptimizer):
    """Multiplicative steps of the sign-preserving kind, normalised as Adam's.

        v ← β·v + (1 − β)·g²;   gn = clamp(g/√(v/(1 − βᵗ)), ±bound), NaN as 0
        w ← clamp(w·exp(−η·gn·sign w), ±w_max),   w_max = scale·RMS(w₀) of each parameter

    There is no ε, no momentum and no decay. No weight changes its sign, one of zero stays zero,
    and so does a parameter that starts as all zeros. v stays within the largest float (not from
    the paper).

    Source: Bernstein, Zhao, Meister, Liu, Anandkumar, Yue, NeurIPS 2020, arXiv 2006.14560, and
    its authors' code, of which the defaults are: lr 0.01, beta 0.999, bound 10, scale 3.

    Args:
        params: parameters or groups; every option but `nonfinite` can be set in a group.
        lr: η, the relative change of a weight in one step at gn = 1.
        beta: β of v. bound: of gn. scale: of w_max, in units of RMS(w₀).
        nonfinite: "refuse" or "skip" a step with a NaN or infinite gradient.

    Raises:
        InputError: an option out of its range, or a parameter that is not real floating point.
    """

    vectors = 1

    def __init__(
        self,
        params: Any,
        lr: float = 0.01,
        beta: float = 0.999,
        bound: float = 10.0,
        scale: float = 3.0,
        *,
        nonfinite: str = "refuse",
    ) -> None:
        super().__init__(params, dict(lr=lr, beta=beta, bound=bound, scale=scale), nonfinite)

    def _check_options(self, group: Group) -> None:
        check_normalised(group, self.place)

    def _begin(self, p: Tensor, group: Group) -> State:
        return begin_normalised(p, group)

    def _update(self, p: Tensor, g: Tensor, state: State, group: Group) -> None:
        w = p.to(g.dtype)
        gn = normalised(g, state, group)
        factor = (gn * w.sign()).mul_(-group["lr"]).exp_()
        p.copy_((w * factor).clamp_(-state["w_max"], state["w_max"]))
