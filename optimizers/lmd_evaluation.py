"""The weights at which a model with noisy weights is evaluated."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..formats.errors import choice
from .checks import whole
from .components import Group, State, drawn, medians
from .lmd_blocks import Block
from .noise import NOISE_LAWS

PLACE = "LMD.eval_weights"
MODES = ("median", "mean", "average", "sample")


@contextmanager
def evaluated(blocks: list[Block], mode: str, draw: int, draws: int, seed: int) -> Iterator[None]:
    """See `LMD.eval_weights`."""
    choice(mode, MODES, "mode", PLACE)
    count = whole(draws, 1, "draws", PLACE) if mode == "average" else 1
    first = whole(draw, 0, "draw", PLACE)
    generators = [torch.Generator().manual_seed(_mixed(seed, first + i)) for i in range(count)]
    kept = [(p, p.detach().clone()) for block in blocks for p in block.params]
    with torch.no_grad():
        for block in blocks:
            for cut in block.cuts:
                block.write(_components(block.cut(cut), block.group, mode, generators), cut)
    try:
        yield
    finally:
        with torch.no_grad():
            for p, sample in kept:
                p.copy_(sample)


def _components(state: State, group: Group, mode: str, generators: list[torch.Generator]) -> Tensor:
    """w± of the mode."""
    if mode == "median":
        return medians(state, group)
    if mode == "mean":
        return medians(state, group) * NOISE_LAWS[group["noise"]].mean(group["sigma"])
    samples = [drawn(state, group, group["sigma"], generator) for generator in generators]
    return torch.stack(samples).mean(0)


def _mixed(seed: int, draw: int) -> int:
    """A seed for evaluation sample `draw`, far from the training seeds 0, 1, 2, ..."""
    return (0x9E3779B9 * (draw + 1) + seed) % 2**32
