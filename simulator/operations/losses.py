"""Losses and their derivatives, step by step; reduction 0: none, 1: mean, 2: sum."""

import torch
from torch import Tensor

from .declared import register_op

Maybe = Tensor | None


def _reduced(loss: Tensor, reduction: int) -> Tensor:
    return loss if reduction == 0 else torch.mean(loss) if reduction == 1 else torch.sum(loss)


def _spread(grad: Tensor, x: Tensor, reduction: int) -> Tensor:
    """The derivative of the reduction."""
    return grad / x.numel() if reduction == 1 else grad


@register_op("mse_loss")
def mse_loss(x: Tensor, target: Tensor, reduction: int = 1) -> Tensor:
    """(x - t)^2."""
    d = x - target
    return _reduced(d * d, reduction)


@register_op("mse_loss_backward")
def mse_loss_backward(grad: Tensor, x: Tensor, target: Tensor, reduction: int) -> Tensor:
    """2 / n (x - t) g."""
    return ((x - target) * (2.0 / x.numel() if reduction == 1 else 2.0)) * grad


@register_op("smooth_l1_loss")
def smooth_l1_loss(x: Tensor, target: Tensor, reduction: int = 1, beta: float = 1.0) -> Tensor:
    """d^2 / (2 beta) below beta, else d - beta / 2; d = |x - t|."""
    d = torch.abs(x - target)
    if beta == 0:
        return _reduced(d, reduction)
    return _reduced(torch.where(d < beta, ((d * d) * 0.5) / beta, d - 0.5 * beta), reduction)


@register_op("smooth_l1_loss_backward")
def smooth_l1_loss_backward(
    grad: Tensor, x: Tensor, target: Tensor, reduction: int, beta: float
) -> Tensor:
    """g (x - t) / beta within beta, else g sign(x - t); over n."""
    d = x - target
    slope = torch.sign(d) if beta == 0 else torch.clamp(d / beta, -1, 1)
    return slope * _spread(grad, x, reduction)


@register_op("huber_loss")
def huber_loss(x: Tensor, target: Tensor, reduction: int = 1, delta: float = 1.0) -> Tensor:
    """d^2 / 2 up to delta, else delta (d - delta / 2); d = |x - t|."""
    d = torch.abs(x - target)
    return _reduced(torch.where(d <= delta, (d * d) * 0.5, (d - 0.5 * delta) * delta), reduction)


@register_op("huber_loss_backward")
def huber_loss_backward(
    grad: Tensor, x: Tensor, target: Tensor, reduction: int, delta: float
) -> Tensor:
    """g min(max(x - t, -delta), delta); over n."""
    return torch.clamp(x - target, -delta, delta) * _spread(grad, x, reduction)


@register_op("soft_margin_loss")
def soft_margin_loss(x: Tensor, target: Tensor, reduction: int = 1) -> Tensor:
    """log1p(exp(-t x))."""
    return _reduced(torch.log1p(torch.exp(-(target * x))), reduction)


@register_op("soft_margin_loss_backward")
def soft_margin_loss_backward(grad: Tensor, x: Tensor, target: Tensor, reduction: int) -> Tensor:
    """-t sigmoid(-t x) g; over n."""
    return (-(target * torch.sigmoid(-(target * x)))) * _spread(grad, x, reduction)


@register_op("binary_cross_entropy")
def bce(x: Tensor, target: Tensor, weight: Maybe = None, reduction: int = 1) -> Tensor:
    """-(t log x + (1 - t) log1p(-x)) w, logarithms from -100 up."""
    yes = torch.clamp(torch.log(x), min=-100)
    no = torch.clamp(torch.log1p(-x), min=-100)
    loss = (target - 1) * no - target * yes
    return _reduced(loss if weight is None else loss * weight, reduction)


@register_op("binary_cross_entropy_backward")
def bce_backward(
    grad: Tensor, x: Tensor, target: Tensor, weight: Maybe = None, reduction: int = 1
) -> Tensor:
    """g w (x - t) / max(x (1 - x), 1e-12); over n."""
    slope = (x - target) / torch.clamp((1 - x) * x, min=1e-12)
    slope = slope if weight is None else slope * weight
    return slope * _spread(grad, x, reduction)


@register_op("binary_cross_entropy_with_logits")
def bce_with_logits(
    x: Tensor, target: Tensor, weight: Maybe = None, pos_weight: Maybe = None, reduction: int = 1
) -> Tensor:
    """(1 - t) x + (1 + (p - 1) t) (log1p(exp(-|x|)) + max(-x, 0))."""
    log = torch.log1p(torch.exp(-torch.abs(x))) + torch.clamp(-x, min=0)
    log = log if pos_weight is None else ((pos_weight - 1) * target + 1) * log
    loss = (1 - target) * x + log
    return _reduced(loss if weight is None else loss * weight, reduction)


@register_op("nll_loss_forward")
def nll_loss(
    x: Tensor, target: Tensor, weight: Maybe, reduction: int, ignore: int
) -> tuple[Tensor, Tensor]:
    """-w_t x_t, 0 where the target is ignored; mean over the sum of weights, which is returned."""
    classes = x.ndim - 1 if x.ndim < 3 else 1
    kept = target != ignore
    place = torch.where(kept, target, 0).unsqueeze(classes)
    picked = torch.gather(x, classes, place).squeeze(classes)
    weights = (
        kept.to(x.dtype)
        if weight is None
        else torch.where(kept, weight[place.squeeze(classes)], 0.0)
    )
    loss = torch.where(kept, -(picked * weights) if weight is not None else -picked, 0.0)
    total = torch.sum(weights) if reduction == 1 else x.new_zeros(())
    if reduction == 0:
        return loss, total
    summed = torch.sum(loss)
    return (summed / total if reduction == 1 else summed), total


@register_op("nll_loss_backward")
def nll_loss_backward(
    grad: Tensor, x: Tensor, target: Tensor, weight: Maybe, reduction: int, ignore: int,
    total: Tensor,
) -> Tensor:  # fmt: skip
    """-w_t g at the target, over the sum of weights."""
    classes = x.ndim - 1 if x.ndim < 3 else 1
    kept = target != ignore
    place = torch.where(kept, target, 0)
    g = grad / total if reduction == 1 else grad
    g = -(g * weight[place]) if weight is not None else -g
    at_target = torch.where(kept, g, torch.zeros((), dtype=x.dtype, device=x.device)).unsqueeze(
        classes
    )
    return torch.zeros_like(x).scatter(classes, place.unsqueeze(classes), at_target)


register_op("nll_loss2d_forward")(nll_loss)
register_op("nll_loss2d_backward")(nll_loss_backward)
