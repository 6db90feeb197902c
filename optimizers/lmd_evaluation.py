"""The weights at which a model with noisy weights is evaluated."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..formats.errors import choice
from .checks import whole
from .components import drawn, medians
from .lmd_blocks import Block
from .noise import EVALUATION, NOISE_LAWS, Draws

PLACE = "LMD.eval_weights"
MODES = ("median", "mean", "average", "sample")


@contextmanager
def evaluated(blocks: list[Block], mode: str, draw: int, draws: int, seed: int) -> Iterator[None]:
    """See `LMD.eval_weights`."""
    choice(mode, MODES, "mode", PLACE)
    count = whole(draws, 1, "draws", PLACE) if mode == "average" else 1
    first = whole(draw, 0, "draw", PLACE)
    numbers = range(first, first + count)
    kept = [(p, p.detach().clone()) for block in blocks for p in block.params]
    with torch.no_grad():
        for block in blocks:
            for cut in block.cuts:
                block.write(_components(block, cut, mode, numbers, Draws(seed)), cut)
    try:
        yield
    finally:
        with torch.no_grad():
            for p, sample in kept:
                p.copy_(sample)


def _components(block: Block, cut: slice, mode: str, numbers: range, draws: Draws) -> Tensor:
    """w± of the mode."""
    state, group = block.cut(cut), block.group
    if mode == "median":
        return medians(state, group)
    if mode == "mean":
        return medians(state, group) * NOISE_LAWS[group["noise"]].mean(group["sigma"])
    samples = [
        drawn(state, group, group["sigma"], block.place(draws.place(EVALUATION, number), cut))
        for number in numbers
    ]
    return torch.stack(samples).mean(0)
