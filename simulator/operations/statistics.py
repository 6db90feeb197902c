"""Variances and norms, step by step."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .declared import register_op

Dims = Sequence[int] | int | None


@register_op("var_mean")
def var_mean(
    x: Tensor,
    dim: Any = None,
    unbiased: Any = None,
    keepdim: bool = False,
    *,
    correction: Any = None,
) -> tuple[Tensor, Tensor]:
    """sum (x - mean)^2 / (n - correction), and the mean."""
    if isinstance(dim, bool):  # the overload without dimensions: (x, unbiased)
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased is None else int(unbiased)
    dims = list(range(x.ndim)) if dim is None or dim == [] else dim
    mean = torch.mean(x, dims, keepdim=True)
    centred = x - mean
    n = x.numel() // max(mean.numel(), 1)
    squares: Tensor = torch.sum(centred * centred, dims, keepdim=keepdim)
    var = squares / max(n - correction, 0)
    return var, mean if keepdim else mean.reshape(var.shape)


@register_op("std_mean")
def std_mean(x: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """sqrt of `var`, and the mean."""
    var, mean = var_mean(x, *args, **kwargs)
    return torch.sqrt(var), mean


@register_op("var")
def var(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """sum (x - mean)^2 / (n - correction)."""
    return var_mean(x, *args, **kwargs)[0]


@register_op("std")
def std(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """sqrt of `var`."""
    return torch.sqrt(var_mean(x, *args, **kwargs)[0])


@register_op("linalg_vector_norm")
def vector_norm(
    x: Tensor, order: float = 2, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """(sum |x|^p)^(1/p); p = 2 as sqrt of the sum of squares, p = inf as the largest magnitude."""
    dims: Any = list(range(x.ndim)) if dim is None else dim
    if order == 2:
        return torch.sqrt(torch.sum(x * x, dims, keepdim=keepdim))
    magnitude = torch.abs(x)
    if math.isinf(order):
        extreme = torch.amax if order > 0 else torch.amin
        return extreme(magnitude, dims, keepdim=keepdim)
    if order == 0:
        return torch.sum((x != 0).to(x.dtype), dims, keepdim=keepdim)
    if order == 1:
        return torch.sum(magnitude, dims, keepdim=keepdim)
    return torch.pow(torch.sum(torch.pow(magnitude, order), dims, keepdim=keepdim), 1 / order)


@register_op("_weight_norm_interface")
def weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> tuple[Tensor, Tensor]:
    """g v / |v|, and |v| over all dimensions but `dim`."""
    norm = vector_norm(v, 2, _all_but(v, dim), True)
    return v * (g / norm), norm


@register_op("_weight_norm_interface_backward")
def weight_norm_backward(
    grad: Tensor, v: Tensor, g: Tensor, norm: Tensor, dim: int
) -> tuple[Tensor, Tensor]:
    """(g / |v|) (h - v sum(h v) / |v|^2) and sum(h v) / |v|; h the gradient."""
    along = torch.sum(grad * v, _all_but(v, dim), keepdim=True) / norm
    return (g / norm) * (grad - v * (along / norm)), along


def _all_but(x: Tensor, dim: int) -> list[int]:
    return [d for d in range(x.ndim) if d != dim % x.ndim]


@register_op("_cdist_forward")
def distances(x: Tensor, y: Tensor, p: float, mode: int | None) -> Tensor:
    """The p-norm of every difference of a row of x and a row of y."""
    return vector_norm(x.unsqueeze(-2) - y.unsqueeze(-3), p, [-1])


@register_op("_cdist_backward")
def distances_backward(grad: Tensor, x: Tensor, y: Tensor, p: float, norm: Tensor) -> Tensor:
    """sum over y of g sign(d) |d|^(p-1) / norm^(p-1), 0 where the norm is; d = x - y."""
    d = x.unsqueeze(-2) - y.unsqueeze(-3)
    g, n = grad.unsqueeze(-1), norm.unsqueeze(-1)
    if p == 1:
        share = torch.sign(d)
    elif p == 2:
        share = d / n
    elif math.isinf(p):
        share = torch.sign(d) * (torch.abs(d) == n).to(d.dtype)
    else:
        share = torch.sign(d) * (torch.pow(torch.abs(d), p - 1) / torch.pow(n, p - 1))
    share = torch.where(n == 0, torch.zeros_like(d), share)
    return torch.sum(g * share, [-2])
