"""A multilayer perceptron; without hidden layers, a linear model."""

from itertools import pairwise
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from ...simulator.tables import Row
from ..data import Examples
from .blocks import Count, fill_linear, too_few


class MlpSpec(Row):
    """The `[model]` table of a scenario that trains a perceptron of `widths` hidden layers.

    `classes` is the width of the output: 1 for the regression of one number.
    """

    kind: Literal["mlp"] = "mlp"
    inputs: Count = 64
    widths: tuple[Count, ...] = (64,)
    classes: Count = 10

    def refusal(self, data: Examples) -> str:
        """Why the model cannot learn these examples; "" if it can."""
        if not data.train_inputs.is_floating_point():
            return f"an mlp takes numbers, not the tokens of {data.what}: choose another model"
        size = prod(data.shape)
        if self.inputs != size:
            return f"the model's inputs = {self.inputs} do not fit {data.what}: set {size}"
        if data.objective == "regression" and self.classes != data.classes:
            return f"the model's classes = {self.classes} do not fit: set {data.classes}"
        return too_few(self.classes, data)


class Mlp(nn.Module):
    """Inputs (batch, ...), flattened, through linear layers with ReLU between, to (batch, out)."""

    def __init__(self, spec: MlpSpec) -> None:
        super().__init__()
        sizes = (spec.inputs, *spec.widths, spec.classes)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        out: Tensor = self.layers[-1](x)
        return out


def build_mlp(spec: MlpSpec, seed: int) -> Mlp:
    """Layers as `fill_linear`, the last one zero, so that every run starts from equal scores."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        model = Mlp(spec)
    model.to_empty(device="cpu")
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            fill_linear(layer, generator)
    nn.init.zeros_(model.layers[-1].weight)  # type: ignore[arg-type]
    return model
