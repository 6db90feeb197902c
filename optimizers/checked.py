"""The step that the optimizers have in common: closure, refusals, counters, bytes."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..formats.errors import choice
from .checks import NONFINITE, refuse_complex, step_allowed
from .state import ExactStateOptimizer


class CheckedOptimizer(ExactStateOptimizer):
    """An optimizer whose step changes everything or nothing, and counts what went wrong.

    Attributes:
        counters: events so far by name; part of `state_dict()`, for a trace to read.
        nonfinite: what a gradient with NaN or infinity does: "refuse" raises
            NonFiniteGradientError, "skip" counts a skipped step; neither changes anything.
    """

    #: Names of counters beside "skipped_steps" and "overflowed_squares".
    counted: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: Any, defaults: dict[str, Any], nonfinite: str) -> None:
        self.nonfinite = choice(nonfinite, NONFINITE, "nonfinite", self.place)
        self.counters = dict.fromkeys(("skipped_steps", "overflowed_squares", *self.counted), 0)
        super().__init__(params, defaults)

    @property
    def place(self) -> str:
        """The name that refusals begin with."""
        return type(self).__name__

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; raises as construction does."""
        super().add_param_group(param_group)
        refuse_complex(self.param_groups[-1]["params"], self.place)
        self._check_options(self.param_groups[-1])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step from the gradients at hand, or from those that `closure` leaves.

        Raises:
            InputError: a gradient is sparse.
            NonFiniteGradientError: where `nonfinite` is "refuse"; nothing has been changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not step_allowed(self.param_groups, self.place, self.nonfinite):
            self.counters["skipped_steps"] += 1
            return loss
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._step_one(p, p.grad, group)
        return loss

    def paper_bytes(self) -> int:
        """What the paper's formula gives for `state_bytes()` once every parameter has stepped."""
        return sum(self._paper_bytes(p, g) for g in self.param_groups for p in g["params"])

    def state_dict(self) -> dict[str, Any]:
        """torch's state_dict and "counters"."""
        return super().state_dict() | {"counters": dict(self.counters)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over `state_dict`; raises as torch does if the groups do not match."""
        super().load_state_dict(state_dict)
        self.counters.update(state_dict.get("counters", {}))

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: torch's own leaves out what it does not know."""
        kept = {"counters": self.counters, "nonfinite": self.nonfinite}
        return super().__getstate__() | kept

    def _squares_fit(self, gradient: Tensor) -> bool:
        """Whether g² is finite; if not, a mean of it would be infinite for ever, which is counted.

        The parameter and its moments then stay as they are in this step.
        """
        fit = bool(torch.isfinite(gradient * gradient).all())
        self.counters["overflowed_squares"] += not fit
        return fit

    def _check_options(self, group: dict[str, Any]) -> None:
        """Refuse a group with an option out of its range."""
        raise NotImplementedError

    def _step_one(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """The step of one parameter, in place."""
        raise NotImplementedError

    def _paper_bytes(self, p: Tensor, group: dict[str, Any]) -> int:
        """Bytes of one parameter's state after the paper."""
        raise NotImplementedError
