"""What is read off a run from outside the emulated chip: in numpy's float64, counted nowhere."""

from math import fsum, nan, sqrt

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from ..optimizers.state import tensors_in


def gradient_norm(model: nn.Module) -> float:
    """sqrt(Σ g²) over all gradients of `model`; NaN or infinite where one of them is.

    The gradients are read as numpy arrays, which no emulation sees. Each parameter's sum of
    squares is accumulated in float64; the sums are added without rounding.
    """
    gradients = [p.grad.numpy(force=True) for p in model.parameters() if p.grad is not None]
    sums = [float(np.sum(np.square(g, dtype=np.float64))) for g in gradients]
    return sqrt(fsum(sums)) if np.all(np.isfinite(sums)) else sum(sums)


def quality(scores: Tensor, labels: Tensor) -> tuple[float, float]:
    """(mean cross-entropy in nats, share of rows whose largest score is the label's).

    scores (n, classes), labels (n,). A row with a score that is not finite counts as wrong.
    """
    values = scores.numpy(force=True)
    right = np.argmax(values, axis=1) == labels.numpy(force=True)
    finite = np.isfinite(values).all(axis=1)
    return mean_loss(scores, labels), float(np.mean(right & finite))


def mean_loss(scores: Tensor, labels: Tensor) -> float:
    """Mean over the rows of log Σ exp(s) − s[label], in nats; NaN where a score is not finite."""
    values: NDArray[np.float64] = scores.numpy(force=True).astype(np.float64)
    if not np.isfinite(values).all():
        return nan
    top = values.max(axis=1, keepdims=True)
    total = np.log(np.exp(values - top).sum(axis=1)) + top[:, 0]
    own = values[np.arange(len(values)), labels.numpy(force=True)]
    return float(np.mean(total - own))


def state_bytes(optimizer: Optimizer) -> int:
    """Bytes of all tensors that `optimizer` keeps beside the weights, as they are stored."""
    tensors = tensors_in(list(optimizer.state.values()))
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
