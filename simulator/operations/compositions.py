"""Composite operations, step by step: each line is one operation of the vector unit.

What is not here is taken apart by PyTorch's own decompositions. For these they end in a primitive
that does a whole variance at once, or leave the order of the steps to PyTorch's version.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .declared import register_op

Dims = Sequence[int] | int | None


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


@register_op("native_layer_norm")
def layer_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(x - mean) / sqrt(var + eps) * weight + bias; returns the mean and 1 / sqrt as well."""
    dims = list(range(x.ndim - len(shape), x.ndim))
    mean = torch.mean(x, dims, keepdim=True)
    centred = x - mean
    rstd = torch.rsqrt(torch.mean(centred * centred, dims, keepdim=True) + eps)
    y = centred * rstd
    y = y * weight if weight is not None else y
    return (y + bias if bias is not None else y), mean, rstd


@register_op("native_layer_norm_backward")
def layer_norm_backward(
    grad: Tensor,
    x: Tensor,
    shape: Sequence[int],
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """rstd (h - mean h - n mean(h n)), sum g n, sum g; h = g weight, n = (x - mean) rstd."""
    inner = list(range(x.ndim - len(shape), x.ndim))
    outer = list(range(x.ndim - len(shape)))
    normal = (x - mean) * rstd
    h = grad * weight if weight is not None else grad
    dx = None
    if mask[0]:
        along = torch.mean(h * normal, inner, keepdim=True)
        dx = rstd * ((h - torch.mean(h, inner, keepdim=True)) - normal * along)
    dw = torch.sum(grad * normal, outer) if mask[1] and weight is not None else None
    db = torch.sum(grad, outer) if mask[2] and bias is not None else None
    return dx, dw, db


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


@register_op("addcmul")
def addcmul(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    """x + value (a b): product, scaling, sum."""
    product = a * b
    return x + (product if value == 1 else product * value)


@register_op("addcdiv")
def addcdiv(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    """x + value (a / b): quotient, scaling, sum."""
    quotient = a / b
    return x + (quotient if value == 1 else quotient * value)


@register_op("lerp")
def lerp(start: Tensor, end: Tensor, weight: float | Tensor) -> Tensor:
    """start + weight (end - start)."""
    return start + (end - start) * weight
