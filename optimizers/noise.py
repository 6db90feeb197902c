"""Multiplicative noise: the laws from which LMD draws a weight around its median or scale.

The numbers are counter-based: those of a weight depend on the seed, on which draw it is and on the
weight's place alone, so that blocks, threads and an interruption change nothing. Weight i takes
two words a, b of Philox: of run i // 1024, place p = i mod 1024, block 512·run + p mod 512, the
first two words for p < 512, the last two else. With u = (⌊a/2⌋ + 1/2)/2³¹ they are turned into

    normal   z± = ±√(−2 ln u)·(cos φ, sin φ), φ = π/4·(1 + y) of the first quadrant, y the low 30
             bits of b as a signed fraction, its top two bits the two signs (Box and Muller, 1958)
    length   √(−2 ln u), of a for w⁺ and of b for w⁻: that of a plane normal vector

in float32, the same bits on every machine (`elementary`). The largest normal is 6.66.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, pi, sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..formats.errors import InputError
from ..formats.jit import start_threads
from ..formats.random import random_word_reference
from . import elementary
from .kernels import noise as kernels

#: What numbers are for: each purpose has streams of its own, apart from those of an emulation.
TRAINING, EVALUATION, START, ROUNDING = range(4)
_STREAMS = 1 << 62


@dataclass(frozen=True)
class Place:
    """Where random numbers lie: the seed, the stream, and the first weight's place in it."""

    seed: int
    stream: int
    first: int = 0

    def after(self, count: int) -> "Place":
        """The place `count` weights further."""
        return Place(self.seed, self.stream, self.first + count)


@dataclass
class Draws:
    """The generator of an optimizer's noise: a seed and the number of the next draw."""

    seed: int
    position: int = 0

    def place(self, purpose: int, number: int) -> Place:
        """The place of the first weight in draw `number` for a purpose."""
        return Place(self.seed % 2**64, _STREAMS + (purpose << 56) + 2 * number)

    def take(self, purpose: int) -> Place:
        """The place of the next draw."""
        self.position += 1
        return self.place(purpose, self.position - 1)

    def state(self) -> dict[str, int]:
        """What `restored` takes."""
        return {"seed": self.seed, "position": self.position}

    @staticmethod
    def restored(state: Any) -> "Draws":
        """The generator of `state`.

        Raises:
            InputError: it is not of a generator like this one.
        """
        if not isinstance(state, dict) or state.keys() != {"seed", "position"}:
            raise InputError(
                "LMD: the generator of the state_dict is not a seed and a position: another "
                "version saved it, whose noise had other bits; load its medians alone"
            )
        return Draws(int(state["seed"]), int(state["position"]))


@dataclass(frozen=True)
class NoiseLaw:
    """A law of the positive factor ε, with spread σ.

    Attributes:
        variate: which random number it is made of, `kernels.NORMAL` or `kernels.LENGTH`.
        factor: (numbers, σ) -> ε, in place.
        mean, square: σ -> E[ε] and E[ε²].
    """

    name: str
    variate: int
    factor: Callable[[Tensor, float], Tensor]
    mean: Callable[[float], float]
    square: Callable[[float], float]

    def draw(self, like: Tensor, sigma: float, place: Place) -> Tensor:
        """ε±, a new tensor (2, N) of the dtype and device of `like` (2, N)."""
        return self.factor(variates(like, self.variate, place), sigma)


def variates(like: Tensor, law: int, place: Place) -> Tensor:
    """Random numbers for both components, drawn on the CPU: the same bits whatever the device."""
    start_threads()
    out = np.empty((2, like.numel() // 2), np.float32)
    seed, stream = np.uint64(place.seed), np.uint64(place.stream)
    fill = kernels.fill_variates if out.shape[1] > kernels.GRAIN else kernels.fill_alone
    fill(out, law, seed, stream, place.first)
    return torch.from_numpy(out).reshape(like.shape).to(like.device, like.dtype)


def uniforms(like: Tensor, place: Place) -> Tensor:
    """Uniform in [0, 1), k/2²⁴: weight i of either component takes word i of its stream."""
    count = like.numel() // 2
    out, words = np.empty((2, count), np.float32), np.empty(count + 8, np.uint32)
    for side in range(2):
        seed, stream = np.uint64(place.seed), np.uint64(place.stream + side)
        kernels.fill_uniforms(out[side], words, seed, stream, np.uint64(place.first))
    return torch.from_numpy(out).reshape(like.shape).to(like.device, like.dtype)


def _lognormal(normals: Tensor, sigma: float) -> Tensor:
    return normals.mul_(sigma).exp_()


def _rayleigh(lengths: Tensor, sigma: float) -> Tensor:
    # u = 1 would be a component of length zero.
    return lengths.clamp_(min=SHORTEST).mul_(sigma)


#: The least length of a normal vector.
SHORTEST = 2.0**-23

#: ε = exp(σz), z ~ N(0, 1): median 1.
LOGNORMAL = NoiseLaw(
    "lognormal", kernels.NORMAL, _lognormal, lambda s: exp(s * s / 2), lambda s: exp(2 * s * s)
)

#: ε = σ·√(z₁² + z₂²): the length of a plane normal vector, its scale σ.
RAYLEIGH = NoiseLaw(
    "rayleigh", kernels.LENGTH, _rayleigh, lambda s: s * sqrt(pi / 2), lambda s: 2 * s * s
)

NOISE_LAWS = {law.name: law for law in (LOGNORMAL, RAYLEIGH)}


def variates_reference(law: int, place: Place, count: int) -> NDArray[np.float32]:
    """The exact twin of `kernels.fill_alone`, (2, count), weight by weight from the words."""
    indices = range(place.first, place.first + count)
    first, second = (
        np.array([_word(place, i, which) for i in indices], np.uint32) for which in range(2)
    )
    if law == kernels.LENGTH:
        return np.stack([np.sqrt(np.float32(-2) * _log_chance(w)) for w in (first, second)])
    radius = np.sqrt(-_log_chance(first))
    y = (second << np.uint32(2)).view(np.int32).astype(np.float32) * np.float32(2.0**-31)
    signs = [1 - 2 * (second >> np.uint32(bit) & 1).astype(np.float32) for bit in (31, 30)]
    points = elementary.quarter_point(y)
    return np.stack([s * (radius * x) for s, x in zip(signs, points, strict=True)])


def _word(place: Place, weight: int, which: int) -> int:
    run, p = divmod(weight, kernels.RUN)
    half, lane = divmod(p, kernels.HALF)
    block = kernels.HALF * run + lane
    return random_word_reference(place.seed, place.stream, 4 * block + 2 * half + which)


def _log_chance(words: NDArray[np.uint32]) -> NDArray[np.float32]:
    chance = (words >> np.uint32(1)).astype(np.int32).astype(np.float32) + np.float32(0.5)
    return elementary.log(chance * np.float32(2.0**-31))
