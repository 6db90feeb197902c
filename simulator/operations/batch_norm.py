"""Batch normalisation and its derivative, step by step, with its running statistics."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .declared import register_op
from .normalisation import Three, _channels

Maybe = Tensor | None


@register_op("native_batch_norm")
def batch_norm(
    x: Tensor, weight: Maybe, bias: Maybe, mean: Maybe, var: Maybe, training: bool,
    momentum: float, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(x - mean) / sqrt(var + eps) * weight + bias over all but channels.

    Training: the batch's mean and variance; running <- momentum new + (1 - momentum) running, the
    variance over n - 1. Else the running ones, and the saved statistics are empty.
    """
    if not training:
        rstd = torch.rsqrt(_given(var) + eps)
        centred = x - _channels(_given(mean), x)
        return _scaled(centred, rstd, weight, bias), x.new_zeros((0,)), x.new_zeros((0,))
    dims = [d for d in range(x.ndim) if d != 1]
    average = torch.mean(x, dims)
    centred = x - _channels(average, x)
    squares = torch.sum(centred * centred, dims)
    n = x.numel() // x.shape[1]
    rstd = torch.rsqrt(squares / n + eps)
    for running, new in ((mean, average), (var, squares / max(n - 1, 1))):
        if running is not None:
            running.copy_(new * momentum + running * (1 - momentum))
    return _scaled(centred, rstd, weight, bias), average, rstd


def _given(running: Maybe) -> Tensor:
    assert running is not None  # PyTorch has checked: there is no evaluation without them
    return running


def _scaled(centred: Tensor, rstd: Tensor, weight: Maybe, bias: Maybe) -> Tensor:
    y = centred * _channels(rstd, centred)
    y = y * _channels(weight, centred) if weight is not None else y
    return y + _channels(bias, centred) if bias is not None else y


@register_op("_native_batch_norm_legit")
def batch_norm_legit(x: Tensor, weight: Maybe, bias: Maybe, *rest: Any) -> tuple[Tensor, ...]:
    """`batch_norm`, with or without running statistics."""
    given: tuple[Any, ...] = rest if len(rest) == 5 else (None, None, *rest)
    return batch_norm(x, weight, bias, *given)


@register_op("_native_batch_norm_legit_no_training")
def batch_norm_no_training(
    x: Tensor, weight: Maybe, bias: Maybe, mean: Tensor, var: Tensor, momentum: float, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`batch_norm` with the running statistics."""
    return batch_norm(x, weight, bias, mean, var, False, momentum, eps)


@register_op("_batch_norm_with_update")
def batch_norm_with_update(
    x: Tensor, weight: Maybe, bias: Maybe, mean: Tensor, var: Tensor, momentum: float, eps: float
) -> tuple[Tensor, ...]:
    """`batch_norm` in training, and nothing reserved."""
    reserved = torch.empty(0, dtype=torch.uint8)
    return (*batch_norm(x, weight, bias, mean, var, True, momentum, eps), reserved)


@register_op("_batch_norm_no_update")
def batch_norm_no_update(
    x: Tensor, weight: Maybe, bias: Maybe, mean: Maybe, var: Maybe, momentum: float, eps: float
) -> tuple[Tensor, ...]:
    """`batch_norm` in evaluation, and nothing reserved."""
    reserved = torch.empty(0, dtype=torch.uint8)
    return (*batch_norm(x, weight, bias, mean, var, False, momentum, eps), reserved)


@register_op("native_batch_norm_backward")
def batch_norm_backward(
    grad: Tensor, x: Tensor, weight: Maybe, mean: Maybe, var: Maybe, saved_mean: Maybe,
    saved_rstd: Maybe, training: bool, eps: float, mask: Sequence[bool],
) -> Three:  # fmt: skip
    """weight rstd (g - mean g - n mean(g n)), sum g n, sum g; in evaluation weight rstd g."""
    dims = [d for d in range(x.ndim) if d != 1]
    centre = _given(saved_mean if training else mean)
    rstd = _given(saved_rstd) if training else torch.rsqrt(_given(var) + eps)
    normal = (x - _channels(centre, x)) * _channels(rstd, x)
    db, dw = torch.sum(grad, dims), torch.sum(grad * normal, dims)
    scale = _channels(rstd * weight if weight is not None else rstd, x)
    dx = None
    if mask[0] and training:
        n = x.numel() // x.shape[1]
        dx = ((grad - _channels(db / n, x)) - normal * _channels(dw / n, x)) * scale
    elif mask[0]:
        dx = grad * scale
    return dx, dw if mask[1] else None, db if mask[2] else None


@register_op("batch_norm_backward")
def batch_norm_backward_reserved(
    grad: Tensor, x: Tensor, weight: Tensor, mean: Maybe, var: Maybe, saved_mean: Maybe,
    saved_rstd: Maybe, update: bool, eps: float, mask: Sequence[bool], reserve: Tensor,
) -> Three:  # fmt: skip
    """`native_batch_norm_backward`."""
    return batch_norm_backward(
        grad, x, weight, mean, var, saved_mean, saved_rstd, update, eps, mask
    )
