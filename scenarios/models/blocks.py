"""The parts that the transformers share; every matrix product is a plain matmul."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from ...formats.errors import InputError
from ..data import Examples

Count = Annotated[int, Field(strict=True, ge=1)]
Classes = Annotated[int, Field(strict=True, ge=2)]


def too_few(classes: int, data: Examples) -> str:
    """Why a model with so many classes cannot learn these examples; "" if it can."""
    if classes >= data.classes:
        return ""
    return f"the model's classes = {classes} are fewer than {data.what} have: set {data.classes}"


def check_heads(width: int, heads: int) -> None:
    """A width is cut into heads of one size.

    Raises:
        InputError: it does not divide; lists what does.
    """
    if width % heads:
        raise InputError(
            f"width = {width} is not divisible by heads = {heads}: "
            f"choose heads among {divisors(width)}"
        )


def divisors(n: int) -> str:
    return ", ".join(str(d) for d in range(1, n + 1) if n % d == 0)


class Attention(nn.Module):
    """Multi-head self-attention, softmax(q·kᵀ/√d)·v, with q, k and v from one fused layer.

    With `causal`, a token sees itself and those before it.
    """

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        size = width // self.heads
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, size).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # each (batch, heads, tokens, size)
        scores = torch.matmul(q * size**-0.5, k.transpose(-2, -1))
        if self.causal:
            later = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
            scores = scores.masked_fill(later, -torch.inf)
        mixed = torch.matmul(scores.softmax(dim=-1), v)
        joined: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return joined


class Mlp(nn.Module):
    """down(gelu(up(x))) with `ratio` times the width inside."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, ratio * width)
        self.gelu = nn.GELU()
        self.down = nn.Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.down(self.gelu(self.up(x)))
        return inner


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int, ratio: int, causal: bool = False) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = Mlp(width, ratio)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        out: Tensor = x + self.mlp(self.mlp_norm(x))
        return out


def fill_linear(layer: nn.Linear | nn.Conv2d, generator: torch.Generator) -> None:
    """Weights ~ N(0, 1/fan_in), truncated at two deviations; biases zero."""
    std = (layer.weight[0].numel()) ** -0.5
    nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std, generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
