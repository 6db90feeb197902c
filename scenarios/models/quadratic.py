"""A quadratic form in its weights: the problem whose answer is known."""

from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from ...simulator.tables import Row
from ..data import Examples
from .blocks import Count


class QuadraticModel(Row):
    """`kind = "quadratic"`: y = X w without a bias, from w = 0.

    With `[data] kind = "quadratic"` the loss is (w − w*)' A (w − w*) with A's eigenvalues known.

    Attributes:
        inputs: length of w; the data's dimension.
    """

    kind: Literal["quadratic"] = "quadratic"
    inputs: Count = 32

    def refusal(self, data: Examples) -> str:
        """Why the model cannot learn these examples; "" if it can."""
        if data.objective != "regression" or data.classes != 1:
            return f"a quadratic fits one number, not {data.what}: choose another kind of model"
        if self.inputs != prod(data.shape):
            size = prod(data.shape)
            return f"the model's inputs = {self.inputs} do not fit {data.what}: set {size}"
        return ""


class Quadratic(nn.Module):
    """Rows (batch, inputs) to X w (batch, 1)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, 1, bias=False)
        nn.init.zeros_(self.linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x)
        return out


def build_quadratic(spec: QuadraticModel, seed: int) -> Quadratic:
    """The same for every seed: it starts from zero."""
    with torch.random.fork_rng(devices=[]):  # nn.Linear draws before it is zeroed
        return Quadratic(spec.inputs)
