"""Elementwise operations of several steps."""

import torch
from torch import Tensor

from .declared import register_op


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


@register_op("addr")
def addr(x: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta x + alpha (a b^T): product, scalings, sum."""
    product = a[:, None] * b[None, :]
    product = product if alpha == 1 else product * alpha
    return product + (x if beta == 1 else x * beta)


@register_op("xlogy")
def xlogy(x: Tensor | float, y: Tensor | float) -> Tensor:
    """x log y, 0 where x is."""
    y = torch.as_tensor(y) if not isinstance(y, Tensor) else y
    product = x * torch.log(y)
    zero = torch.as_tensor(x == 0) & ~torch.isnan(y)
    return torch.where(zero, torch.zeros_like(product), product)


@register_op("logit")
def logit(x: Tensor, eps: float | None = None) -> Tensor:
    """log(x / (1 - x)), x within eps .. 1 - eps."""
    x = x if eps is None else torch.clamp(x, eps, 1 - eps)
    return torch.log(x / (1 - x))


@register_op("logit_backward")
def logit_backward(grad: Tensor, x: Tensor, eps: float | None = None) -> Tensor:
    """g / (x (1 - x)), 0 outside of eps .. 1 - eps."""
    slope = grad / (x * (1 - x))
    if eps is None:
        outside, value = (x < 0) | (x > 1), torch.nan
    else:
        outside, value = (x < eps) | (x > 1 - eps), 0.0
    return torch.where(outside, torch.full_like(slope, value), slope)
