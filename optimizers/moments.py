"""How an optimizer keeps a state tensor of any shape: as it is, or as packed codes.

A codec turns a tensor into what the state holds and back; one that packs leaves tensors with fewer
than `least` elements as they are. Everything is computed between the two in float32 (float64 for
float64 parameters).
"""

from dataclasses import dataclass
from math import prod
from typing import Protocol

import torch
from torch import Tensor

from ..formats.packing import packed_bytes
from ..formats.tables.codebook import CodebookFormat, decode, encode
from .base import wide
from .codec import RowCodec, Stored, settled

Kept = Tensor | Stored
Shape = tuple[int, ...]


class StateCodec(Protocol):
    """What all ways of keeping a tensor have in common."""

    def store(self, x: Tensor) -> Kept:
        """What the state holds of x, a tensor in the parameter's shape."""
        ...

    def restore(self, kept: Kept, p: Tensor) -> Tensor:
        """The tensor that was stored, in the shape of `p`, float32 or float64."""
        ...

    def bytes(self, shape: Shape) -> int:
        """What `store` of a float32 tensor of this shape occupies, without padding of rows."""
        ...


@dataclass(frozen=True)
class Plain:
    """The tensor itself."""

    def store(self, x: Tensor) -> Kept:
        """See `StateCodec`; a copy is not made."""
        return x

    def restore(self, kept: Kept, p: Tensor) -> Tensor:
        """See `StateCodec`."""
        assert isinstance(kept, Tensor)
        return kept

    def bytes(self, shape: Shape) -> int:
        """See `StateCodec`."""
        return 4 * prod(shape)


@dataclass(frozen=True)
class Blocks:
    """The tensor as one row of codes, a scale for every `block` elements in memory order.

    Source: Dettmers, Lewis, Shleifer, Zettlemoyer, arXiv 2110.02861.
    """

    book: CodebookFormat
    block: int
    least: int

    def store(self, x: Tensor) -> Kept:
        """See `StateCodec`."""
        if x.numel() < max(self.least, 1):
            return x
        return RowCodec(self.book, self.block).store(x.reshape(1, -1).float())

    def restore(self, kept: Kept, p: Tensor) -> Tensor:
        """See `StateCodec`."""
        if isinstance(kept, Tensor):
            return kept
        row = RowCodec(self.book, self.block).restore(kept, p.numel())
        return row.reshape(p.shape).to(wide(p))

    def bytes(self, shape: Shape) -> int:
        """See `StateCodec`."""
        count = prod(shape)
        if count < max(self.least, 1):
            return 4 * count
        return packed_bytes(count, self.book.bits) + 4 * -(-count // self.block)


@dataclass(frozen=True)
class RankOne:
    """Codes of a tensor with at least two dimensions, scaled by one vector for each dimension.

    The scale of an element is the least, over the dimensions, of the largest magnitude among the
    elements that share its index there: for a matrix min(row maximum, column maximum).

    Source: Li, Chen, Zhu, "Memory Efficient Optimizers with 4-bit States", arXiv 2309.01507.
    """

    book: CodebookFormat
    block: int
    least: int

    def store(self, x: Tensor) -> Kept:
        """See `StateCodec`; vectors are kept in blocks."""
        if x.ndim < 2 or x.numel() < max(self.least, 1):
            return self._blocks.store(x)
        x = x.float()
        dims = range(x.ndim)
        peaks = [settled(x.abs().amax([e for e in dims if e != d])) for d in dims]
        scales = _least(peaks)
        inverse = torch.where(scales > 0, 1 / scales, torch.zeros_like(scales))
        codes = encode(x * inverse, self.book).reshape(1, -1)
        packed = {"codes": RowCodec(self.book).pack(codes)}
        return packed | {f"peaks_{d}": peak for d, peak in enumerate(peaks)}

    def restore(self, kept: Kept, p: Tensor) -> Tensor:
        """See `StateCodec`."""
        if isinstance(kept, Tensor) or "peaks_0" not in kept:
            return self._blocks.restore(kept, p)
        codes = RowCodec(self.book).unpack(kept["codes"], p.numel())
        words = decode(codes, self.book).reshape(p.shape)
        return (words * _least([kept[f"peaks_{d}"] for d in range(p.ndim)])).to(wide(p))

    def bytes(self, shape: Shape) -> int:
        """See `StateCodec`."""
        if len(shape) < 2 or prod(shape) < max(self.least, 1):
            return self._blocks.bytes(shape)
        return packed_bytes(prod(shape), self.book.bits) + 4 * sum(shape)

    @property
    def _blocks(self) -> Blocks:
        return Blocks(self.book, self.block, self.least)


def _least(peaks: list[Tensor]) -> Tensor:
    """min over the dimensions, each vector along its own, in the shape of the tensor."""
    least = peaks[0]
    for peak in peaks[1:]:
        least = torch.minimum(least.unsqueeze(-1), peak)
    return least
