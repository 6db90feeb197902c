"""Multiplicative noise: the laws from which LMD draws a weight around its median or scale."""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, pi, sqrt

import torch
from torch import Tensor


@dataclass(frozen=True)
class NoiseLaw:
    """A law of the positive factor ε, with spread σ.

    Attributes:
        draw: (like, σ, generator) -> ε, a new tensor of the shape, dtype and device of `like`.
        mean, square: σ -> E[ε] and E[ε²].
    """

    name: str
    draw: Callable[[Tensor, float, torch.Generator], Tensor]
    mean: Callable[[float], float]
    square: Callable[[float], float]


def normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """N(0, 1), drawn on the CPU: the same bits whatever the device."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)


def _draw_lognormal(like: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    return normal(like, generator).mul_(sigma).exp_()


def _draw_rayleigh(like: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    first, second = normal(like, generator), normal(like, generator)
    length = (first * first + second * second).sqrt_()
    # Two zeros together would be a component of length zero.
    return length.clamp_(min=torch.finfo(like.dtype).eps).mul_(sigma)


#: ε = exp(σz), z ~ N(0, 1): median 1.
LOGNORMAL = NoiseLaw(
    "lognormal", _draw_lognormal, lambda s: exp(s * s / 2), lambda s: exp(2 * s * s)
)

#: ε = σ·√(z₁² + z₂²): the length of a plane normal vector, its scale σ.
RAYLEIGH = NoiseLaw("rayleigh", _draw_rayleigh, lambda s: s * sqrt(pi / 2), lambda s: 2 * s * s)

NOISE_LAWS = {law.name: law for law in (LOGNORMAL, RAYLEIGH)}
