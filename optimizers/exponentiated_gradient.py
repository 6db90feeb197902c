"""EG±: exponentiated gradient on two positive components of every weight."""

from typing import Any

import torch
from torch import Tensor

from .base import wide
from .checks import within
from .elementwise import ElementwiseOptimizer, Group
from .medians import limits
from .state import State


class EGPlusMinus(ElementwiseOptimizer):
    """The exponentiated gradient of a difference of positive components, w = w⁺ − w⁻.

        w± ← w±·exp(∓η·g);   with `total` U then w± ← U·w±/Σ(w⁺ + w⁻) over the parameter

    The gradient is not scaled by the weight. Unnormalised, w⁺·w⁻ is conserved and a step is
    about 2ηc·g near w = 0. Components stay within `medians.limits`, hence positive and finite.

    Source: Kivinen and Warmuth, Information and Computation 132 (1997), EG± (with U) and EGU±
    (without). They start from w± equal; here w± = max(±w₀, 0) + c, so that training starts from
    the given weights: c is this project's, its default that of `LMD` [?]; so is lr.

    Args:
        params: parameters or groups; every option but `nonfinite` can be set in a group.
        lr: η, the relative change of a component in one step at g = 1.
        floor: c > 0, what either component has beyond |w| at the start.
        total: U > 0, the sum of the components of each parameter; None leaves it free.
        nonfinite: "refuse" or "skip" a step with a NaN or infinite gradient.

    Raises:
        InputError: an option out of its range, or a parameter that is not real floating point.
    """

    vectors = 2

    def __init__(
        self,
        params: Any,
        lr: float = 0.1,
        floor: float = 0.03,
        *,
        total: float | None = None,
        nonfinite: str = "refuse",
    ) -> None:
        super().__init__(params, dict(lr=lr, floor=floor, total=total), nonfinite)

    def _check_options(self, group: Group) -> None:
        within(group["lr"], 0.0, 1e6, "lr", self.place)
        within(group["floor"], 0.0, 100.0, "floor", self.place, open_ends=True)
        if group["total"] is not None:
            within(group["total"], 0.0, 1e12, "total", self.place, open_ends=True)

    def _begin(self, p: Tensor, group: Group) -> State:
        w = p.detach().to(wide(p))
        parts = torch.stack((w.clamp(min=0.0), (-w).clamp(min=0.0))) + group["floor"]
        return {"parts": parts.clamp_(*limits(w.dtype))}

    def _update(self, p: Tensor, g: Tensor, state: State, group: Group) -> None:
        parts: Tensor = state["parts"]
        least, largest = limits(g.dtype)
        # At η = 0 an infinite product of the two cannot arise: g is finite.
        factors = torch.stack((g, -g)).mul_(-group["lr"]).exp_()
        parts.mul_(factors).clamp_(least, largest)
        if group["total"] is not None:
            # Divided by the largest before summing, so that the sum stays finite.
            parts.div_(parts.max())
            parts.mul_(group["total"] / parts.sum()).clamp_(least, largest)
        w = parts[0] - parts[1]
        top = torch.finfo(p.dtype).max
        p.copy_(w.clamp_(-top, top) if p.dtype == torch.float16 else w)
