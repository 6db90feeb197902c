"""Fused optimizers as the equations of their single-tensor forms, each operation rounded.

The arithmetic is that of the vector unit; tensors of fewer bits are read exactly, and parameters
and states are rounded to their dtype as they are stored.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .declared import register_op

List = Sequence[Tensor]


def _number(x: float | Tensor) -> float:
    return float(x)


def _skipped(found_inf: Tensor | None) -> bool:
    """Whether a loss scaler found an infinite gradient."""
    return found_inf is not None and bool(found_inf)


def _gradient(grad: Tensor, maximize: bool, grad_scale: Tensor | None) -> Tensor:
    """The gradient as float32 or wider, unscaled; a scaler wants it stored so."""
    g = _wide(grad)
    if grad_scale is not None:
        g = g / _number(grad_scale)
        grad.copy_(g)
    return -g if maximize else g


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _adam(
    params: List, grads: List, means: List, squares: List, largest: List, steps: List, *,
    lr: float | Tensor, beta1: float, beta2: float, weight_decay: float, eps: float,
    amsgrad: bool, maximize: bool, grad_scale: Tensor | None = None,
    found_inf: Tensor | None = None, decoupled: bool,
) -> None:  # fmt: skip
    """m <- m + (1 - b1)(g - m), v <- b2 v + (1 - b2) g^2,
    p <- p - (lr / c1) m / (sqrt v / sqrt c2 + eps).

    c1 = 1 - b1^t, c2 = 1 - b2^t are numbers of the host. AMSGrad takes the largest v so far.
    """
    if _skipped(found_inf):
        return
    lr = _number(lr)
    for i, (param, grad, mean, square) in enumerate(
        zip(params, grads, means, squares, strict=True)
    ):
        p, g, t = _wide(param), _gradient(grad, maximize, grad_scale), _number(steps[i])
        if weight_decay:
            p, g = (p * (1 - lr * weight_decay), g) if decoupled else (p, g + p * weight_decay)
        m = _wide(mean)
        m = m + (g - m) * (1 - beta1)
        v = _wide(square) * beta2 + (g * g) * (1 - beta2)
        if amsgrad:
            largest[i].copy_(torch.maximum(_wide(largest[i]), v))
        root = torch.sqrt(_wide(largest[i]) if amsgrad else v) / (1 - beta2**t) ** 0.5
        param.copy_(p - (m / (root + eps)) * (lr / (1 - beta1**t)))
        mean.copy_(m)
        square.copy_(v)


@register_op("_fused_adam", writes=True)
def adam(*lists: List, **options: Any) -> None:
    """Adam (Kingma & Ba 2015), weight decay as a part of the gradient."""
    _adam(*lists, **options, decoupled=False)


@register_op("_fused_adamw", writes=True)
def adamw(*lists: List, **options: Any) -> None:
    """AdamW (Loshchilov & Hutter 2019): p shrinks by 1 - lr weight_decay first."""
    _adam(*lists, **options, decoupled=True)


@register_op("_fused_sgd", writes=True)
def sgd(
    params: List, grads: List, buffers: List, *, weight_decay: float, momentum: float,
    lr: float | Tensor, dampening: float, nesterov: bool, maximize: bool, is_first_step: bool,
    grad_scale: Tensor | None = None, found_inf: Tensor | None = None,
) -> None:  # fmt: skip
    """b <- momentum b + (1 - dampening) g, p <- p - lr b; Nesterov: p - lr (g + momentum b)."""
    if _skipped(found_inf):
        return
    for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
        p, g = _wide(param), _gradient(grad, maximize, grad_scale)
        g = g + p * weight_decay if weight_decay else g
        if momentum:
            old = _wide(buffers[i])
            b = g if is_first_step else old * momentum + g * (1 - dampening)
            buffers[i].copy_(b)
            g = g + b * momentum if nesterov else b
        param.copy_(p - g * _number(lr))


@register_op("_fused_adagrad", writes=True)
def adagrad(
    params: List, grads: List, sums: List, steps: List, *, lr: float | Tensor, lr_decay: float,
    weight_decay: float, eps: float, maximize: bool, grad_scale: Tensor | None = None,
    found_inf: Tensor | None = None,
) -> None:  # fmt: skip
    """s <- s + g^2, p <- p - lr / (1 + (t - 1) lr_decay) g / (sqrt s + eps)."""
    if _skipped(found_inf):
        return
    for i, (param, grad, total) in enumerate(zip(params, grads, sums, strict=True)):
        p, g = _wide(param), _gradient(grad, maximize, grad_scale)
        g = g + p * weight_decay if weight_decay else g
        s = _wide(total) + g * g
        rate = _number(lr) / (1 + (_number(steps[i]) - 1) * lr_decay)
        param.copy_(p - (g / (torch.sqrt(s) + eps)) * rate)
        total.copy_(s)
