"""When a run has diverged."""

from dataclasses import dataclass
from math import isfinite

from .train import DivergenceRule


@dataclass
class DivergenceWatch:
    """The rule of a scenario applied to the losses of one run, step by step."""

    rule: DivergenceRule
    first: float | None = None
    above: int = 0

    def loss_verdict(self, loss: float) -> str:
        """The reason why the run ends with this loss, or an empty string while it goes on."""
        if not isfinite(loss):
            return f"the loss is not finite ({loss})"
        if self.first is None:
            self.first = loss
        self.above = self.above + 1 if loss > self.rule.factor * self.first else 0
        if self.above < self.rule.patience:
            return ""
        return (
            f"the loss stayed above {self.rule.factor:g} times its first value "
            f"{self.first:.4g} for {self.rule.patience} steps"
        )

    def gradient_verdict(self, norm: float) -> str:
        """The reason why the run ends with a gradient of this norm, or an empty string."""
        return "" if isfinite(norm) else f"the gradient is not finite ({norm})"
