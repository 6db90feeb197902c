"""Normalisations and their derivatives, step by step: mean, centring, variance, scaling."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .declared import register_op

Three = tuple[Tensor | None, Tensor | None, Tensor | None]


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


@register_op("_fused_rms_norm")
def rms_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None, eps: float | None
) -> tuple[Tensor, Tensor]:
    """x / sqrt(mean x^2 + eps) * weight, and 1 / sqrt."""
    dims = list(range(x.ndim - len(shape), x.ndim))
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    rstd = torch.rsqrt(torch.mean(x * x, dims, keepdim=True) + eps)
    y = x * rstd
    return (y * weight if weight is not None else y), rstd


@register_op("_fused_rms_norm_backward")
def rms_norm_backward(
    grad: Tensor,
    x: Tensor,
    shape: Sequence[int],
    rstd: Tensor,
    weight: Tensor | None,
    mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None]:
    """rstd (h - n mean(h n)), sum g n; h = g weight, n = x rstd."""
    inner = list(range(x.ndim - len(shape), x.ndim))
    normal = x * rstd
    h = grad * weight if weight is not None else grad
    dx = rstd * (h - normal * torch.mean(h * normal, inner, keepdim=True)) if mask[0] else None
    wanted = mask[1] and weight is not None
    outer = list(range(x.ndim - len(shape)))
    dw = (torch.sum(grad * normal, outer) if outer else grad * normal) if wanted else None
    return dx, dw


@register_op("native_group_norm")
def group_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, n: int, c: int, size: int, groups: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(x - mean) / sqrt(var + eps) over each group of channels, * weight + bias."""
    grouped = x.reshape(n, groups, -1)
    mean = torch.mean(grouped, 2, keepdim=True)
    centred = grouped - mean
    rstd = torch.rsqrt(torch.mean(centred * centred, 2, keepdim=True) + eps)
    y = (centred * rstd).reshape(x.shape)
    y = y * _channels(weight, x) if weight is not None else y
    y = y + _channels(bias, x) if bias is not None else y
    return y, mean.reshape(n, groups), rstd.reshape(n, groups)


@register_op("native_group_norm_backward")
def group_norm_backward(
    grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None, n: int, c: int,
    size: int, groups: int, mask: Sequence[bool],
) -> Three:  # fmt: skip
    """As `layer_norm_backward` within each group; sums of g n and g over all but channels."""
    centred = x.reshape(n, groups, -1) - mean.reshape(n, groups, 1)
    scale = rstd.reshape(n, groups, 1)
    normal = centred * scale
    dx = None
    if mask[0]:
        h = (grad * _channels(weight, x) if weight is not None else grad).reshape(n, groups, -1)
        along = torch.mean(h * normal, 2, keepdim=True)
        dx = (scale * ((h - torch.mean(h, 2, keepdim=True)) - normal * along)).reshape(x.shape)
    g = grad.reshape(n, c, -1)
    dw = torch.sum(g * normal.reshape(n, c, -1), [0, 2]) if mask[1] else None
    return dx, dw, torch.sum(g, [0, 2]) if mask[2] else None


def _channels(per_channel: Tensor, x: Tensor) -> Tensor:
    """(C,) as (1, C, 1, ...)."""
    return per_channel.reshape(1, -1, *[1] * (x.ndim - 2))
