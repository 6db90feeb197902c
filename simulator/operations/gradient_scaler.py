"""torch.amp.GradScaler's two operations, step by step: a program may scale its own loss."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .declared import register_op


@register_op("_amp_foreach_non_finite_check_and_unscale", writes=True)
def check_and_unscale(gradients: Sequence[Tensor], found: Tensor, inverse: Tensor) -> None:
    """found <- 1 if any g is not finite; g <- g inverse."""
    for g in gradients:
        if not bool(torch.isfinite(g).all()):
            found.fill_(1.0)
        g.mul_(inverse)


@register_op("_amp_update_scale", writes=True)
def update_scale(
    scale: Tensor,
    tracker: Tensor,
    found: Tensor,
    growth: float,
    backoff: float,
    interval: int,
) -> Tensor:
    """s <- s backoff if found, else s growth (if finite) after `interval` steps in a row."""
    if bool(found):
        tracker.zero_()
        return scale.mul_(backoff)
    steps = int(tracker) + 1
    if steps == interval and bool(torch.isfinite(larger := scale * growth)):
        scale.copy_(larger)
    tracker.fill_(0 if steps == interval else steps)
    return scale
