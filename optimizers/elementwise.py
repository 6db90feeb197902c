"""The step of optimizers that treat every parameter alone."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..formats.errors import choice
from .base import wide
from .checks import NONFINITE, refuse_complex, step_allowed
from .state import ExactStateOptimizer, State

Group = dict[str, Any]


class ElementwiseOptimizer(ExactStateOptimizer):
    """Loops over the parameters that have a gradient; subclasses write their equations.

    The gradient comes to `_update` in the state's dtype, float32 (float64 for float64
    parameters). A step with a NaN or infinite gradient changes nothing: it raises, or with
    nonfinite = "skip" is counted in `skipped`. Parameters without elements have no state.
    """

    #: float32 vectors of the length of the weights that the rule keeps beside them.
    vectors: ClassVar[int]

    def __init__(self, params: Any, defaults: Group, nonfinite: str) -> None:
        self.place = type(self).__name__
        self.nonfinite = choice(nonfinite, NONFINITE, "nonfinite", self.place)
        self.skipped = 0
        super().__init__(params, defaults)

    def add_param_group(self, param_group: Group) -> None:
        """Add a group to those given at construction.

        Raises:
            InputError: an option out of its range, or a parameter that is not real.
        """
        super().add_param_group(param_group)
        refuse_complex(self.param_groups[-1]["params"], self.place)
        self._check(self.param_groups[-1])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step from the gradients at hand, or from those that `closure` leaves.

        Raises:
            InputError: a sparse gradient.
            NonFiniteGradientError: nothing has been changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not step_allowed(self.param_groups, self.place, self.nonfinite):
            self.skipped += 1
            return loss
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None and p.numel():
                    if not self.state[p]:
                        self.state[p].update(self._begin(p, group))
                    self._update(p, p.grad.to(wide(p)), self.state[p], group)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """torch's state_dict, and how many steps were skipped."""
        return super().state_dict() | {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`; load the parameters too."""
        super().load_state_dict(state_dict)
        self.skipped = state_dict.get("skipped", 0)

    def paper_bytes(self) -> int:
        """Bytes of state by the paper's formula: its vectors in float32, no scalars."""
        weights: int = sum(p.numel() for group in self.param_groups for p in group["params"])
        return 4 * self.vectors * weights

    def _check(self, group: Group) -> None:
        """Refuse options out of their range."""
        raise NotImplementedError

    def _begin(self, p: Tensor, group: Group) -> State:
        """The state of one parameter before its first step."""
        raise NotImplementedError

    def _update(self, p: Tensor, g: Tensor, state: State, group: Group) -> None:
        """One step of one parameter with gradient `g`."""
        raise NotImplementedError


def second_moment(v: Tensor, g: Tensor, beta: float, step: int) -> Tensor:
    """v ← β·v + (1 − β)·g² in place, at most the largest float; returns v/(1 − β^step)."""
    v.mul_(beta).addcmul_(g, g, value=1 - beta).clamp_(max=torch.finfo(v.dtype).max)
    return v / (1 - beta**step)
