"""Small parameters stepped together, large ones in cuts: about 33 000 weights at a time.

A step is some thirty operations, each a microsecond before it computes anything; a Vision
Transformer of 70 000 weights has 31 parameters. So the state of a block of small parameters lies
in one tensor a key, of which the optimizer's state of each parameter is a view: it reads and
loads as if there were no blocks. A large parameter is a block of its own and is computed in cuts,
so that temporaries stay small and in cache.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from .components import State, difference, finite
from .kernels.noise import RUN
from .noise import Place

#: Most weights of a block of several parameters, and of a cut: temporaries of 256 KiB.
BLOCK = 1 << 15


class Block:
    """Parameters of one group, of one dtype and device, and their joined state.

    Attributes:
        state: as `components` has it, for the flat concatenation of the parameters.
        cuts: the ranges of weights that are computed at a time, where torch computes.
        first: the place of the first weight's random numbers, a multiple of RUN.
    """

    def __init__(
        self, params: list[Tensor], group: dict[str, Any], states: list[State], first: int
    ) -> None:
        self.params, self.group, self.states, self.first = params, group, states, first
        self.sizes = [p.numel() for p in params]
        count = sum(self.sizes)
        # Only a contiguous parameter can be written in flat pieces.
        alone = len(params) == 1 and params[0].is_contiguous()
        width = BLOCK if alone else max(count, 1)
        self.cuts = [slice(a, min(a + width, count)) for a in range(0, max(count, 1), width)]
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

    @property
    def stop(self) -> int:
        """The first place that the next block may take."""
        return self.first + -(-sum(self.sizes) // RUN) * RUN

    def place(self, draw: Place, cut: slice, index: int = 0) -> Place:
        """Where a cut's random numbers lie in a draw, or a parameter's of a cut that is whole."""
        return draw.after(self.first + cut.start + sum(self.sizes[:index]))

    def cut(self, cut: slice) -> State:
        """Views of the state for one of `cuts`."""
        return {key: flat[..., cut] for key, flat in self.state.items()}

    def room_for_sample(self, wanted: bool) -> None:
        """Make or drop the place in the state where samples w±, (2, N), are kept."""
        if wanted and "sample" not in self.state:
            m, v = self.state["m"], self.state["v"]
            self._share("sample", torch.empty_like(m, dtype=v.dtype))
        elif not wanted and "sample" in self.state:
            for owner in (self.state, *self.states, *self.views):
                del owner["sample"]

    def write(self, sample: Tensor, cut: slice) -> None:
        """w = w⁺ − w⁻ into the parameters, or into a cut of the only one."""
        w = difference(sample, self.params[0])
        if len(self.cuts) > 1:
            self.params[0].view(-1)[cut].copy_(w)
        else:
            self._spread(w)

    def own_row(self) -> Tensor | None:
        """The only parameter's memory in a row, if it is float32 and lies in order."""
        p = self.params[0]
        alone = len(self.params) == 1 and p.dtype == torch.float32 and p.is_contiguous()
        return p.detach().view(-1) if alone else None

    def spread(self, w: Tensor) -> None:
        """All weights w, (N,), into the parameters, within their finite numbers."""
        self._spread(finite(w, self.params[0]))

    def _spread(self, w: Tensor) -> None:
        for p, part in zip(self.params, torch.split(w, self.sizes), strict=True):
            p.copy_(part.view(p.shape))

    def present(self) -> list[bool]:
        """Which parameters have a gradient."""
        return [p.grad is not None for p in self.params]

    def ranges(self, present: list[bool]) -> list[tuple[int, int]]:
        """The first and last + 1 of every run of weights whose parameters are present."""
        found: list[tuple[int, int]] = []
        start = 0
        for there, size in zip(present, self.sizes, strict=False):
            if there and found and found[-1][1] == start:
                found[-1] = (found[-1][0], start + size)
            elif there:
                found.append((start, start + size))
            start += size
        return found

    def gradient(self) -> tuple[Tensor | None, list[bool]]:
        """The gradients in a row, zeros for missing ones, and which are there; None if none is."""
        present = self.present()
        if not any(present):
            return None, present
        parts = [torch.zeros_like(p) if p.grad is None else p.grad.detach() for p in self.params]
        flat = [part.reshape(-1) for part in parts]
        return torch.cat(flat) if len(flat) > 1 else flat[0], present

    def _flat(self, tensor: Tensor, p: Tensor) -> Tensor:
        """(2, *shape) -> (2, n), and the shape of the parameter itself -> (n,)."""
        return tensor.reshape((*tensor.shape[: tensor.ndim - p.ndim], p.numel()))

    def _share(self, key: str, flat: Tensor) -> None:
        self.state[key] = flat
        for i, (state, views) in enumerate(zip(self.states, self.views, strict=True)):
            state[key] = views[key] = self.part(flat, i)


def blocks_of(group: dict[str, Any], states: dict[Tensor, State], first: int) -> Iterator[Block]:
    """The blocks of a group, in the order of its parameters, their random numbers from `first`."""
    gathered: list[Tensor] = []
    for p in group["params"]:
        head = gathered[0] if gathered else p
        full = sum(q.numel() for q in gathered) + p.numel() > BLOCK
        if gathered and (full or (p.dtype, p.device) != (head.dtype, head.device)):
            block = Block(gathered, group, [states[q] for q in gathered], first)
            gathered, first = [], block.stop
            yield block
        gathered.append(p)
    if gathered:
        yield Block(gathered, group, [states[q] for q in gathered], first)


#: The u± of a cut of a block, and which of the block's parameters had a gradient.
Total = tuple[Block, slice, Tensor, list[bool]]


def accumulate(totals: dict[Block, list[Total]], shares: Iterable[Total]) -> None:
    """Add the shares of one sample to those of the samples before, cut by cut."""
    for block, cut, share, present in shares:
        cuts = totals.setdefault(block, [])
        index = next((i for i, total in enumerate(cuts) if total[1] == cut), len(cuts))
        if index < len(cuts):
            _, _, before, there = cuts[index]
            share, present = share + before, [a or b for a, b in zip(present, there, strict=True)]
        cuts[index : index + 1] = [(block, cut, share, present)]
