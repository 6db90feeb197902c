"""The groups of LMD with the rule "adamw": plain AdamW on the mean gradient of the samples."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from .base import adamw_step, wide
from .components import State

Groups = list[dict[str, Any]]


def _plain(groups: Groups) -> Iterator[tuple[dict[str, Any], Tensor]]:
    for group in groups:
        if group["rule"] == "adamw":
            yield from ((group, p) for p in group["params"])


def add_plain(sums: dict[Tensor, Tensor], groups: Groups) -> None:
    """Add the gradients at hand to `sums`."""
    for _, p in _plain(groups):
        if p.grad is not None:
            gradient = p.grad.to(wide(p))
            sums[p] = sums[p] + gradient if p in sums else gradient


def step_plain(
    sums: dict[Tensor, Tensor], groups: Groups, states: dict[Tensor, State], samples: int
) -> None:
    """One step of every parameter in `sums`, from its sum over `samples`."""
    for group, p in _plain(groups):
        if p in sums:
            options = {key: group[key] for key in ("lr", "betas", "eps", "weight_decay")}
            adamw_step(p, sums[p] / samples, states[p], **options)
