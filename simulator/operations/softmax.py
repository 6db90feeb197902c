"""Softmax and its logarithm, step by step: each line is one operation of the vector unit."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .declared import register_op


@register_op("_softmax")
def softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    """exp(x - max x) / sum exp(x - max x)."""
    e = torch.exp(x - torch.amax(x, dim, keepdim=True)) if x.numel() else torch.exp(x)
    return e / torch.sum(e, dim, keepdim=True)


@register_op("_softmax_backward_data")
def softmax_backward(grad: Tensor, y: Tensor, dim: int, input_dtype: torch.dtype) -> Tensor:
    """y g - y sum(y g)."""
    weighted = grad * y
    return weighted - y * torch.sum(weighted, dim, keepdim=True)


@register_op("_log_softmax")
def log_softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    """(x - max x) - log sum exp(x - max x)."""
    shifted = x - torch.amax(x, dim, keepdim=True) if x.numel() else x
    return shifted - torch.log(torch.sum(torch.exp(shifted), dim, keepdim=True))


@register_op("_log_softmax_backward_data")
def log_softmax_backward(grad: Tensor, y: Tensor, dim: int, input_dtype: torch.dtype) -> Tensor:
    """g - exp(y) sum g."""
    return grad - torch.exp(y) * torch.sum(grad, dim, keepdim=True)


@register_op("_safe_softmax")
def safe_softmax(x: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """softmax, zero where all of a row is -inf."""
    masked = torch.all(x == -torch.inf, dim, keepdim=True)
    return torch.where(masked, torch.zeros_like(x), softmax(x, dim, False))


@register_op("logsumexp")
def logsumexp(x: Tensor, dim: Sequence[int] | int, keepdim: bool = False) -> Tensor:
    """log sum exp(x - m) + m, m = max x, or 0 if that is infinite."""
    dims = [dim] if isinstance(dim, int) else list(dim)
    largest = torch.amax(x, dims, keepdim=True)
    largest = torch.where(torch.isinf(largest), torch.zeros_like(largest), largest)
    y = torch.log(torch.sum(torch.exp(x - largest), dims, keepdim=True)) + largest
    if keepdim:
        return y
    kept = [n for d, n in enumerate(x.shape) if d not in {k % x.ndim for k in dims}]
    return y.reshape(kept)


@register_op("logcumsumexp")
def logcumsumexp(x: Tensor, dim: int) -> Tensor:
    """log cumsum exp(x - m) + m, m = max x along the dimension."""
    largest = torch.amax(x, dim, keepdim=True)
    return torch.log(torch.cumsum(torch.exp(x - largest), dim)) + largest
