"""Made-up classes whose smallest possible error is known."""

from collections.abc import Callable, Sequence
from functools import partial
from math import erf, pi, sqrt
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ...formats.errors import InputError
from ...simulator.tables import Row
from .examples import Examples
from .split import Count, Seed, make_examples

Real = NDArray[np.float64]
Noise = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]


class Synthetic(Row):
    """What all have: a quarter as many examples are drawn for the test."""

    examples: Annotated[int, Field(strict=True, ge=16)] = 1024
    seed: Seed = 0

    @property
    def bayes_error(self) -> float:
        """The error of the best classifier there can be, over all examples there can be."""
        raise NotImplementedError


class GaussiansSpec(Synthetic):
    """`kind = "gaussians"`: two normal clouds with unit deviations, their means apart.

    Their Bayes error is Φ(−distance / 2), whatever the number of features.
    """

    kind: Literal["gaussians"] = "gaussians"
    features: Count = 2
    distance: Annotated[float, Field(ge=0, le=40)] = 3.0

    @property
    def bayes_error(self) -> float:
        """Φ(−distance / 2)."""
        return 0.5 * (1.0 - erf(self.distance / 2 / sqrt(2.0)))


class MoonsSpec(Synthetic):
    """`kind = "moons"`: two half circles that hold each other, with normal noise around them."""

    kind: Literal["moons"] = "moons"
    noise: Noise = 0.1

    @property
    def bayes_error(self) -> float:
        """By integration on a grid."""
        return curve_error([partial(_moon, number=n) for n in (0, 1)], self.noise)


class SpiralsSpec(Synthetic):
    """`kind = "spirals"`: `arms` spirals of `turns` turns and radius 1, with normal noise."""

    kind: Literal["spirals"] = "spirals"
    arms: Annotated[int, Field(strict=True, ge=2, le=10)] = 2
    turns: Annotated[float, Field(gt=0, le=10)] = 1.0
    noise: Noise = 0.02

    def arm(self, t: Real, number: int) -> Real:
        """Points (n, 2) of one arm at t from 0 to 1; it starts at a tenth of the radius."""
        angle = 2 * pi * (self.turns * t + number / self.arms)
        radius = 0.1 + 0.9 * t
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)

    @property
    def bayes_error(self) -> float:
        """By integration on a grid."""
        return curve_error([partial(self.arm, number=n) for n in range(self.arms)], self.noise)


class TeacherSpec(Synthetic):
    """`kind = "teacher"`: a fixed random perceptron names the classes of normal inputs.

    A share `label_noise` of labels is another class, drawn evenly: that share is the Bayes error.

    Attributes:
        width: hidden units (tanh) of the teacher.
    """

    kind: Literal["teacher"] = "teacher"
    features: Count = 16
    width: Count = 16
    classes: Annotated[int, Field(strict=True, ge=2)] = 4
    label_noise: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _is_learnable(self) -> Self:
        if self.label_noise >= 1 - 1 / self.classes:
            raise InputError(
                f"label_noise = {self.label_noise} leaves nothing to learn of {self.classes} "
                f"classes: below {1 - 1 / self.classes:.3g}"
            )
        return self

    @property
    def bayes_error(self) -> float:
        """`label_noise`."""
        return self.label_noise


AnySynthetic = GaussiansSpec | MoonsSpec | SpiralsSpec | TeacherSpec


def load_synthetic(spec: AnySynthetic) -> Examples:
    """Inputs (n, features) float32 and classes (n,) int64, drawn from the seed alone."""
    draw = np.random.default_rng(np.random.Philox(spec.seed))
    classes = {"spirals": "arms", "teacher": "classes"}.get(spec.kind)
    count = int(getattr(spec, classes)) if classes else 2
    teacher = _teacher(spec, draw) if isinstance(spec, TeacherSpec) else None
    parts: list[NDArray[np.generic]] = []
    for n in (spec.examples, max(spec.examples // 4, 4 * count)):
        match spec:
            case GaussiansSpec():
                labels = draw.permutation(np.arange(n) % 2)
                x = draw.standard_normal((n, spec.features))
                x[:, 0] += spec.distance * (labels - 0.5)
            case TeacherSpec():
                assert teacher is not None
                x = draw.standard_normal((n, spec.features))
                labels = _noisy(teacher(x), spec, draw)
            case MoonsSpec() | SpiralsSpec():
                labels = draw.permutation(np.arange(n) % count)
                t = draw.uniform(size=n)
                arms = [_moon(t, c) if isinstance(spec, MoonsSpec) else spec.arm(t, c)
                        for c in range(count)]  # fmt: skip
                x = np.choose(labels[:, None], arms) + spec.noise * draw.standard_normal((n, 2))
        parts += [x, labels.astype(np.int64)]
    return make_examples(parts, "classification", count, f"the {spec.kind}")


def _moon(t: Real, number: int) -> Real:
    """Upper (0) and lower (1) half circle at t from 0 to 1: (n, 2)."""
    x, y = np.cos(pi * t), np.sin(pi * t)
    return np.stack([1.0 - x, 0.5 - y] if number else [x, y], axis=1)


def _teacher(spec: TeacherSpec, draw: np.random.Generator) -> Callable[[Real], NDArray[np.int64]]:
    inner = draw.standard_normal((spec.features, spec.width)) / sqrt(spec.features)
    outer = draw.standard_normal((spec.width, spec.classes))
    # Scores centred on their mean over inputs, so that no class takes almost everything.
    sample = np.tanh(draw.standard_normal((4096, spec.features)) @ inner) @ outer
    middle, spread = sample.mean(axis=0), sample.std(axis=0)
    return lambda x: np.argmax((np.tanh(x @ inner) @ outer - middle) / spread, axis=1)


def _noisy(
    labels: NDArray[np.int64], spec: TeacherSpec, draw: np.random.Generator
) -> NDArray[np.int64]:
    other = (labels + draw.integers(1, spec.classes, len(labels))) % spec.classes
    return np.where(draw.uniform(size=len(labels)) < spec.label_noise, other, labels)


def curve_error(curves: Sequence[Callable[[Real], Real]], noise: float) -> float:
    """Bayes error of classes spread evenly along curves, with normal noise around them.

    1 − ∫ max_c p_c(x) dx / classes, with p_c the mean of 400 normal densities along the curve,
    on a grid of an eighth of the noise's deviation or of 600 points a side, whichever is coarser.
    Without noise, 0: the curves do not cross.
    """
    if not noise:
        return 0.0
    t = (np.arange(400) + 0.5) / 400
    points = [curve(t) for curve in curves]
    every = np.concatenate(points)
    low, high = every.min(axis=0) - 5 * noise, every.max(axis=0) + 5 * noise
    sides = [np.linspace(a, b, min(600, int(8 * (b - a) / noise) + 1))
             for a, b in zip(low, high, strict=True)]  # fmt: skip
    cell = float(np.prod([side[1] - side[0] for side in sides]))
    # exp(-(dx² + dy²)/2σ²) is a product: the density is one matrix product of its two factors.
    densities = [
        np.exp(-((sides[0][:, None] - p[:, 0]) ** 2) / (2 * noise**2))
        @ np.exp(-((sides[1] - p[:, 1, None]) ** 2) / (2 * noise**2))
        / (2 * pi * noise**2 * len(p))
        for p in points
    ]
    return max(0.0, 1.0 - float(np.max(densities, axis=0).sum()) * cell / len(points))
