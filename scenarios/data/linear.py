"""Least squares with a known answer: a convex quadratic of any condition number."""

from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from ...simulator.tables import Row
from .examples import Examples
from .split import Count, Seed


class LinearSpec(Row):
    """`kind = "linear"`: y = X w* + noise, whose least squares a linear model learns.

    Attributes:
        condition: largest over smallest eigenvalue of X'X / n.
        noise: standard deviation of what is added to the targets.
    """

    kind: Literal["linear"] = "linear"
    features: Count = 32
    examples: Count = 1024
    condition: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0
    noise: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    seed: Seed = 0


def load_linear(spec: LinearSpec) -> Examples:
    """Inputs (n, features) and targets (n, 1), float32; a test part of a quarter as many.

    X = Q diag(sqrt(eigenvalues)) R' sqrt(n) with random orthogonal Q (n, d) and R (d, d), so that
    X'X / n = R diag(eigenvalues) R' has exactly the eigenvalues 1 ... 1 / condition, spaced evenly
    on a log axis; w* ~ N(0, 1). Computed in float64, rounded once.
    """
    draw = np.random.default_rng(np.random.Philox(spec.seed))
    d, n = spec.features, max(spec.examples, spec.features)
    turn = np.linalg.qr(draw.standard_normal((d, d)))[0]
    answer = draw.standard_normal((d, 1))
    scale = np.sqrt(np.geomspace(1.0, 1.0 / spec.condition, d))
    parts: list[torch.Tensor] = []
    for rows in (n, max(n // 4, d)):
        basis = np.linalg.qr(draw.standard_normal((rows, d)))[0]
        x: NDArray[np.float64] = (basis * scale) @ turn.T * np.sqrt(rows)
        y = x @ answer + spec.noise * draw.standard_normal((rows, 1))
        parts += [torch.from_numpy(v.astype(np.float32)) for v in (x, y)]
    train, targets, test, test_targets = parts
    return Examples(train, targets, test, test_targets, "regression", 1, "the linear targets")


class QuadraticSpec(Row):
    """`kind = "quadratic"`: f(w) = (w − w*)' A (w − w*), whose answer and curvature are known.

    A has the eigenvalues 1 ... 1 / condition, spaced evenly on a log axis; w* has ±1 along each
    of its eigenvectors, so that f(0) is their sum and f(w*) = 0. With a `batch` of `dimension` a
    step sees all of f; with fewer, a part of it. Gradient descent, w <- w − 2 lr A (w − w*),
    multiplies what is left along an eigenvector by 1 − 2 lr eigenvalue a step: it settles for lr
    below 1.

    Attributes:
        condition: largest over smallest eigenvalue; 1 is a sphere.
    """

    kind: Literal["quadratic"] = "quadratic"
    dimension: Count = 32
    condition: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0
    seed: Seed = 0


def load_quadratic(spec: QuadraticSpec) -> Examples:
    """Rows (dimension, dimension) whose mean squared error is f, in training and test alike.

    X = sqrt(n) diag(sqrt(eigenvalues)) R' with a random orthogonal R, so that X'X / n = A; the
    targets are X w*. Computed in float64, rounded once.
    """
    draw, n = np.random.default_rng(np.random.Philox(spec.seed)), spec.dimension
    turn = np.linalg.qr(draw.standard_normal((n, n)))[0]
    answer = turn @ np.where(draw.uniform(size=(n, 1)) < 0.5, -1.0, 1.0)
    rows = np.sqrt(n * np.geomspace(1.0, 1.0 / spec.condition, n))[:, None] * turn.T
    x, y = (torch.from_numpy(v.astype(np.float32)) for v in (rows, rows @ answer))
    return Examples(x, y, x, y, "regression", 1, "the quadratic")
