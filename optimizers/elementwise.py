"""Optimizers that treat every parameter alone, with float32 vectors of its shape beside it."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from .base import wide
from .checked import CheckedOptimizer
from .state import State

Group = dict[str, Any]


class ElementwiseOptimizer(CheckedOptimizer):
    """Gives each parameter's equations its state and its gradient, both in the state's dtype.

    That is float32 (float64 for float64 parameters). Parameters without elements have no state.
    """

    #: float32 vectors of the length of the weights that the rule keeps beside them.
    vectors: ClassVar[int]

    def _step_one(self, p: Tensor, gradient: Tensor, group: Group) -> None:
        if p.numel() == 0:
            return
        if not self.state[p]:
            self.state[p].update(self._begin(p, group))
        self._update(p, gradient.to(wide(p)), self.state[p], group)

    def _paper_bytes(self, p: Tensor, group: Group) -> int:
        return 4 * self.vectors * p.numel()

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
