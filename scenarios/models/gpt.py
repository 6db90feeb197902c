"""A small GPT-2: a causal transformer over characters or tokens.

Source: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019: pre-norm
blocks, learned positions, the embedding used again as the classifier.
"""

from typing import Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn

from ...simulator.tables import Row
from ..data import Examples
from .blocks import Block, Classes, Count, check_heads, fill_linear, too_few


class GptSpec(Row):
    """The `[model]` table of a scenario that trains a GPT; `classes` is its vocabulary."""

    kind: Literal["gpt"] = "gpt"
    classes: Classes = 128
    length: Count = 64
    width: Count = 64
    depth: Count = 2
    heads: Count = 4
    mlp_ratio: Count = 4

    @model_validator(mode="after")
    def _divides(self) -> Self:
        check_heads(self.width, self.heads)
        return self

    def refusal(self, data: Examples) -> str:
        """Why the model cannot learn these examples; "" if it can."""
        if len(data.shape) != 1 or data.train_inputs.is_floating_point():
            return f"a gpt predicts the tokens of a text, not {data.what}: choose another model"
        if data.shape[0] > self.length:
            return f"the model's length = {self.length} is below the data's: set {data.shape[0]}"
        return too_few(self.classes, data)


class Gpt(nn.Module):
    """Tokens (batch, length) int64 to scores of the next one (batch, length, classes)."""

    def __init__(self, spec: GptSpec) -> None:
        super().__init__()
        self.spec = spec
        self.embed = nn.Embedding(spec.classes, spec.width)
        self.position = nn.Parameter(torch.empty(spec.length, spec.width))
        self.blocks = nn.Sequential(
            *(Block(spec.width, spec.heads, spec.mlp_ratio, True) for _ in range(spec.depth))
        )
        self.norm = nn.LayerNorm(spec.width)
        self.head = nn.Linear(spec.width, spec.classes, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.position[: tokens.shape[1]]
        scores: Tensor = self.head(self.norm(self.blocks(x)))
        return scores


def build_gpt(spec: GptSpec, seed: int) -> Gpt:
    """Linear layers as `fill_linear`, embedding and positions ~ N(0, 0.02²) as GPT-2 has them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        model = Gpt(spec)
    model.to_empty(device="cpu")
    model.head.weight = model.embed.weight
    for module in model.modules():
        if isinstance(module, nn.Linear) and module is not model.head:
            fill_linear(module, generator)
        elif isinstance(module, nn.LayerNorm):
            module.reset_parameters()
    for table in (model.embed.weight, model.position):
        nn.init.normal_(table, std=0.02, generator=generator)
    return model
