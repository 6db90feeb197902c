"""Activation functions and their derivatives, step by step."""

import math
from typing import Any

import torch
from torch import Tensor

from .declared import register_op

_ROOT_HALF, _ROOT_2_OVER_PI, _CUBIC = math.sqrt(0.5), math.sqrt(2 / math.pi), 0.044715
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


@register_op("gelu")
def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """x / 2 (1 + erf(x / sqrt 2)), or with tanh(sqrt(2 / pi) (x + 0.044715 x^3)) for the erf."""
    if approximate == "tanh":
        return (x * 0.5) * (1 + torch.tanh(_gelu_inner(x)))
    return (x * 0.5) * (1 + torch.erf(x * _ROOT_HALF))


def _gelu_inner(x: Tensor) -> Tensor:
    cube = (x * x) * x
    return (x + cube * _CUBIC) * _ROOT_2_OVER_PI


@register_op("gelu_backward")
def gelu_backward(grad: Tensor, x: Tensor, *, approximate: str = "none") -> Tensor:
    """g (cdf + x pdf), or the derivative of the approximation by tanh."""
    if approximate != "tanh":
        cdf = (1 + torch.erf(x * _ROOT_HALF)) * 0.5
        pdf = torch.exp((x * x) * -0.5) * (_ROOT_HALF * math.sqrt(1 / math.pi))
        return grad * (cdf + x * pdf)
    t = torch.tanh(_gelu_inner(x))
    inner = ((x * x) * (3 * _CUBIC) + 1) * _ROOT_2_OVER_PI
    slope = (t + 1) * 0.5 + ((x * 0.5) * (1 - t * t)) * inner
    return grad * slope


@register_op("silu")
def silu(x: Tensor) -> Tensor:
    """x sigmoid x."""
    return x * torch.sigmoid(x)


@register_op("silu_backward")
def silu_backward(grad: Tensor, x: Tensor) -> Tensor:
    """g s (1 + x (1 - s)), s = sigmoid x."""
    s = torch.sigmoid(x)
    return grad * (s * (x * (1 - s) + 1))


@register_op("sigmoid_backward")
def sigmoid_backward(grad: Tensor, y: Tensor) -> Tensor:
    """g (1 - y) y."""
    return grad * ((1 - y) * y)


@register_op("tanh_backward")
def tanh_backward(grad: Tensor, y: Tensor) -> Tensor:
    """g (1 - y^2)."""
    return grad * (1 - y * y)


@register_op("softplus")
def softplus(x: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """log1p(exp(beta x)) / beta; x where beta x is above the threshold."""
    z = x * beta
    return torch.where(z > threshold, x, torch.log1p(torch.exp(z)) / beta)


@register_op("softplus_backward")
def softplus_backward(grad: Tensor, x: Tensor, beta: float, threshold: float) -> Tensor:
    """g e / (1 + e), e = exp(beta x); g above the threshold."""
    z = x * beta
    e = torch.exp(z)
    return torch.where(z > threshold, grad, (grad * e) / (e + 1))


@register_op("elu")
def elu(x: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Tensor:
    """scale x above 0, else scale alpha expm1(input_scale x)."""
    below = torch.expm1(x * input_scale) * (alpha * scale)
    return torch.where(x > 0, x * scale, below)


@register_op("elu_backward")
def elu_backward(
    grad: Tensor, alpha: float, scale: float, input_scale: float, is_result: bool, x: Tensor
) -> Tensor:
    """g scale above 0; below g input_scale (y + scale alpha), or with exp of the input."""
    if is_result:
        below = grad * ((x + alpha * scale) * input_scale)
    else:
        below = grad * (torch.exp(x * input_scale) * (input_scale * alpha * scale))
    return torch.where(x > 0, grad * scale, below)


@register_op("celu")
def celu(x: Tensor, alpha: float = 1) -> Tensor:
    """x above 0, else alpha expm1(x / alpha)."""
    return elu(x, alpha, 1, 1 / alpha)


@register_op("selu")
def selu(x: Tensor) -> Tensor:
    """elu with the constants of Klambauer et al. 2017."""
    return elu(x, _SELU_ALPHA, _SELU_SCALE)


@register_op("leaky_relu")
def leaky_relu(x: Tensor, slope: float = 0.01) -> Tensor:
    """x above 0, else slope x."""
    return torch.where(x > 0, x, x * slope)


@register_op("leaky_relu_backward")
def leaky_relu_backward(grad: Tensor, x: Tensor, slope: float, is_result: bool) -> Tensor:
    """g above 0, else slope g."""
    return torch.where(x > 0, grad, grad * slope)


@register_op("_prelu_kernel")
def prelu(x: Tensor, weight: Tensor) -> Tensor:
    """x above 0, else weight x."""
    return torch.where(x > 0, x, x * weight)


@register_op("_prelu_kernel_backward")
def prelu_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """(g above 0, else weight g; 0 above 0, else x g)."""
    dx = torch.where(x > 0, grad, grad * weight)
    return dx, torch.where(x > 0, torch.zeros_like(grad), x * grad)


@register_op("mish")
def mish(x: Tensor) -> Tensor:
    """x tanh(log1p(exp x))."""
    return x * torch.tanh(softplus(x))


@register_op("mish_backward")
def mish_backward(grad: Tensor, x: Tensor) -> Tensor:
    """g (t + x s (1 - t^2)), t = tanh softplus x, s = sigmoid x."""
    t, s = torch.tanh(softplus(x)), torch.sigmoid(x)
    return grad * (t + (x * s) * (1 - t * t))


@register_op("hardsigmoid")
def hardsigmoid(x: Tensor) -> Tensor:
    """min(max(x + 3, 0), 6) / 6."""
    return torch.clamp(x + 3, 0, 6) / 6


@register_op("hardsigmoid_backward")
def hardsigmoid_backward(grad: Tensor, x: Tensor) -> Tensor:
    """g / 6 within -3 .. 3."""
    return torch.where((x > -3) & (x < 3), grad / 6, torch.zeros_like(grad))


@register_op("hardswish")
def hardswish(x: Tensor) -> Tensor:
    """x min(max(x + 3, 0), 6) / 6."""
    return (x * torch.clamp(x + 3, 0, 6)) / 6


@register_op("hardswish_backward")
def hardswish_backward(grad: Tensor, x: Tensor) -> Tensor:
    """g (x / 3 + 1/2) within -3 .. 3, g above, 0 below."""
    inner = grad * (x / 3 + 0.5)
    outer = torch.where(x < -3, torch.zeros_like(grad), grad)
    return torch.where((x >= -3) & (x <= 3), inner, outer)


@register_op("log_sigmoid_forward")
def log_sigmoid(x: Tensor) -> tuple[Tensor, Tensor]:
    """min(x, 0) - log1p(exp(-|x|)), and no buffer."""
    y = torch.clamp(x, max=0) - torch.log1p(torch.exp(-torch.abs(x)))
    return y, x.new_zeros((0,))


@register_op("log_sigmoid_backward")
def log_sigmoid_backward(grad: Tensor, x: Tensor, buffer: Tensor) -> Tensor:
    """g sigmoid(-x)."""
    return grad * torch.sigmoid(-x)


@register_op("softshrink")
def softshrink(x: Tensor, lambd: float = 0.5) -> Tensor:
    """x - lambda above lambda, x + lambda below -lambda, else 0."""
    inside = torch.where(x < -lambd, x + lambd, torch.zeros_like(x))
    return torch.where(x > lambd, x - lambd, inside)


@register_op("softshrink_backward")
def softshrink_backward(grad: Tensor, x: Tensor, lambd: float) -> Tensor:
    """g outside of -lambda .. lambda."""
    return torch.where((x >= -lambd) & (x <= lambd), torch.zeros_like(grad), grad)


@register_op("glu")
def glu(x: Tensor, dim: int = -1) -> Tensor:
    """a sigmoid b of the two halves."""
    a, b = torch.chunk(x, 2, dim)
    return a * torch.sigmoid(b)


@register_op("glu_backward")
def glu_backward(grad: Tensor, x: Tensor, dim: int) -> Tensor:
    """(g s, g a s (1 - s)), s = sigmoid b."""
    a, b = torch.chunk(x, 2, dim)
    s = torch.sigmoid(b)
    da: Any = grad * s
    return torch.cat([da, (da * a) * (1 - s)], dim)
