"""The plain steps that others build on: SGD with momentum and AdamW, on float32 state.

Operation by operation as torch's single-tensor SGD and AdamW, so that they are bit-equal to
those on float32 parameters.
"""

from typing import Any

import torch
from torch import Tensor

State = dict[str, Any]


def wide(p: Tensor) -> torch.dtype:
    """The dtype of state: float32, or float64 for float64 parameters."""
    return torch.float64 if p.dtype == torch.float64 else torch.float32


def sgdm_step(
    p: Tensor, gradient: Tensor, state: State, *, lr: float, momentum: float, weight_decay: float
) -> None:
    """g ← g + δ·w;  b ← μ·b + g;  w ← w − η·b   (coupled weight decay, no dampening)."""
    if "momentum" not in state:
        state["momentum"] = torch.zeros_like(p, dtype=wide(p))
    buffer: Tensor = state["momentum"]
    decayed = gradient.add(p, alpha=weight_decay) if weight_decay else gradient
    buffer.mul_(momentum).add_(decayed)
    p.add_(buffer.to(p.dtype), alpha=-lr)


def adamw_step(
    p: Tensor,
    gradient: Tensor,
    state: State,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """w ← w·(1 − η·δ) − η·m̂/(√v̂ + ε), with m and v exponential means of g and g².

    Source: Loshchilov and Hutter, ICLR 2019, arXiv 1711.05101, algorithm 2.
    """
    if "first" not in state:
        state["first"] = torch.zeros_like(p, dtype=wide(p))
        state["second"] = torch.zeros_like(p, dtype=wide(p))
        state["base_step"] = 0
    state["base_step"] += 1
    first, second = state["first"], state["second"]
    p.mul_(1 - lr * weight_decay)
    first.lerp_(gradient, 1 - betas[0])
    second.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
    unbias_first = 1 - betas[0] ** state["base_step"]
    unbias_second = 1 - betas[1] ** state["base_step"]
    root = (second.sqrt() / unbias_second**0.5).add_(eps)
    if p.dtype == wide(p):
        p.addcdiv_(first, root, value=-lr / unbias_first)
    else:
        p.add_((first / root).to(p.dtype), alpha=-lr / unbias_first)
