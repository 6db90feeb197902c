"""Small parameters stepped together: the state of a block of them lies in one tensor a key.

A step is some thirty operations, each a microsecond before it computes anything; a Vision
Transformer of 70 000 weights has 31 parameters. The optimizer's state of each parameter is a view
of its block's, so that it reads and loads as if there were no blocks.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .base import wide
from .components import State, difference

#: Weights after which a block takes no further parameter: temporaries of 128 KiB stay in cache.
BLOCK = 1 << 14


class Block:
    """Parameters of one group, of one dtype and device, and their joined state.

    Attributes:
        state: as `components` has it, for the flat concatenation of the parameters.
    """

    def __init__(self, params: list[Tensor], group: dict[str, Any], states: list[State]) -> None:
        self.params, self.group, self.states = params, group, states
        self.sizes = [p.numel() for p in params]
        self.state: State = {}
        self.views: list[State] = [{} for _ in params]
        for key in states[0]:
            parts = [self._flat(s[key], p) for s, p in zip(states, params, strict=True)]
            self._share(key, torch.cat(parts, dim=-1))

    def whole(self) -> bool:
        """Whether the parameters' states still are the views that were made of the block's."""
        return all(
            state.keys() == views.keys() and all(state[key] is views[key] for key in views)
            for state, views in zip(self.states, self.views, strict=True)
        )

    def part(self, flat: Tensor, index: int) -> Tensor:
        """The view of a flat tensor, ([2,] N), that belongs to parameter `index`."""
        first = sum(self.sizes[:index])
        cut = flat[..., first : first + self.sizes[index]]
        return cut.view((*flat.shape[:-1], *self.params[index].shape))

    def keep_sample(self, sample: Tensor | None) -> None:
        """Keep the sample w±, (2, N), in the state, or none."""
        if sample is not None and "sample" in self.state:
            self.state["sample"].copy_(sample)
        elif sample is not None:
            self._share("sample", sample)
        elif "sample" in self.state:
            for owner in (self.state, *self.states, *self.views):
                del owner["sample"]

    def write(self, sample: Tensor) -> None:
        """w = w⁺ − w⁻ into the parameters."""
        parts = torch.split(difference(sample, self.params[0]), self.sizes)
        for p, w in zip(self.params, parts, strict=True):
            p.copy_(w.view(p.shape))

    def gradient(self) -> tuple[Tensor | None, list[bool]]:
        """The gradients in a row, zeros for missing ones, and which are there; None if none is."""
        present = [p.grad is not None for p in self.params]
        if not any(present):
            return None, present
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.params]
        flat = torch.cat([part.reshape(-1) for part in parts])
        return flat.to(wide(flat)), present

    def _flat(self, tensor: Tensor, p: Tensor) -> Tensor:
        """(2, *shape) -> (2, n), and the shape of the parameter itself -> (n,)."""
        return tensor.reshape((*tensor.shape[: tensor.ndim - p.ndim], p.numel()))

    def _share(self, key: str, flat: Tensor) -> None:
        self.state[key] = flat
        for i, (state, views) in enumerate(zip(self.states, self.views, strict=True)):
            state[key] = views[key] = self.part(flat, i)


def blocks_of(group: dict[str, Any], states: dict[Tensor, State]) -> Iterator[Block]:
    """The blocks of a group, in the order of its parameters."""
    gathered: list[Tensor] = []
    for p in group["params"]:
        first = gathered[0] if gathered else p
        full = sum(q.numel() for q in gathered) + p.numel() > BLOCK
        if gathered and (full or (p.dtype, p.device) != (first.dtype, first.device)):
            yield Block(gathered, group, [states[q] for q in gathered])
            gathered = []
        gathered.append(p)
    if gathered:
        yield Block(gathered, group, [states[q] for q in gathered])
