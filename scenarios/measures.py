"""What is read off a run from outside the emulated chip: in numpy's float64, counted nowhere."""

from math import fsum, nan, sqrt

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from ..optimizers.state import tensors_in
from ..simulator import Recipe, recipe_from_table


def gradient_norm(model: nn.Module) -> float:
    """sqrt(Σ g²) over all gradients of `model`; NaN or infinite where one of them is.

    The gradients are read as numpy arrays, which no emulation sees. Each parameter's sum of
    squares is accumulated in float64; the sums are added without rounding.
    """
    gradients = [p.grad.numpy(force=True) for p in model.parameters() if p.grad is not None]
    sums = [float(np.sum(np.square(g, dtype=np.float64))) for g in gradients]
    return sqrt(fsum(sums)) if np.all(np.isfinite(sums)) else sum(sums)


def quality(scores: Tensor, targets: Tensor) -> tuple[float, float]:
    """(loss, accuracy): see `mean_loss` and `mean_square`.

    scores (..., classes) and integer targets (...): accuracy is the share of rows whose largest
    score is the target's; a row with a score that is not finite counts as wrong. Targets of
    floating point are a regression's, whose accuracy is NaN.
    """
    if targets.is_floating_point():
        return mean_square(scores, targets), nan
    values = scores.numpy(force=True)
    right = np.argmax(values, axis=-1) == targets.numpy(force=True)
    finite = np.isfinite(values).all(axis=-1)
    return mean_loss(scores, targets), float(np.mean(right & finite))


def mean_loss(scores: Tensor, targets: Tensor) -> float:
    """Mean over the rows of log Σ exp(s) − s[target], in nats; NaN where a score is not finite."""
    values: NDArray[np.float64] = scores.numpy(force=True).astype(np.float64)
    if not np.isfinite(values).all():
        return nan
    top = values.max(axis=-1, keepdims=True)
    total = np.log(np.exp(values - top).sum(axis=-1)) + top[..., 0]
    own = np.take_along_axis(values, targets.numpy(force=True)[..., None], axis=-1)[..., 0]
    return float(np.mean(total - own))


def mean_square(scores: Tensor, targets: Tensor) -> float:
    """Mean of (score − target)²; NaN where a score is not finite."""
    values: NDArray[np.float64] = scores.numpy(force=True).astype(np.float64)
    if not np.isfinite(values).all():
        return nan
    return float(np.mean(np.square(values - targets.numpy(force=True))))


def counting_activations(recipe: Recipe) -> Recipe:
    """The recipe with its saved activations counted; no bit of the run depends on it.

    A recipe that stores them as they were computed would not count them. float32 in memory counts
    and rounds nothing.
    """
    if recipe.rows.memory.activation is not None:
        return recipe
    memory = recipe.table.get("memory", {}) | {"activation": {"format": "float32"}}
    return recipe_from_table(recipe.table | {"memory": memory}, recipe.place)


def paper_bytes(optimizer: Optimizer) -> int | None:
    """What the optimizer's paper gives for its state; None where it says nothing of it."""
    if isinstance(optimizer, AdamW):  # two moments in float32
        params = [p for group in optimizer.param_groups for p in group["params"]]
        moments: int = sum(8 * p.numel() for p in params)
        return moments
    formula = getattr(optimizer, "paper_bytes", None)
    if formula is None:
        return None
    count: int = formula()
    return count


def state_bytes(optimizer: Optimizer) -> int:
    """Bytes of all tensors that `optimizer` keeps beside the weights, as they are stored."""
    tensors = tensors_in(list(optimizer.state.values()))
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
