"""Matrices as codes with one float32 scale per row block, packed without a wasted bit in a row.

A stored matrix is a dictionary of tensors, so that it can live in an optimizer's state: codes
(rows, ⌈columns·bits/8⌉) uint8 and scales (rows, ⌈columns/block⌉) float32. Each row is cut into
blocks of `block` columns, the last one short; scale s = max|x| of the block; the code is that
of the codeword nearest to x·(1/s), where the product is rounded once and s·codeword is the
restored value, rounded once. A block whose s is below the least normal float32 has scale 0 and
the zero code throughout.

Source: Wang, Zhou, Li, Huang, arXiv 2405.18144 (their rows of odd length share a byte with the
next row; here every row starts on a whole byte). A vector is a matrix of one row: the blockwise
quantisation of Dettmers et al., arXiv 2110.02861.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import embedding, pad

from ..formats.packing import (
    pack_codes,
    pack_nibbles,
    packed_bytes,
    unpack_codes,
    unpack_nibbles,
)
from ..formats.tables.codebook import CodebookFormat, decode, encode

Stored = dict[str, Tensor]
LEAST = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class RowCodec:
    """How matrices become codes: a codebook of 2 to 8 bits, and the columns that share a scale."""

    book: CodebookFormat
    block: int = 64

    def scales(self, x: Tensor) -> Tensor:
        """max|x| of each row block: (rows, columns) -> (rows, ⌈columns/block⌉)."""
        rows, columns = x.shape
        whole = pad(x.abs(), (0, -columns % self.block))
        return settled(whole.reshape(rows, -1, self.block).amax(dim=-1))

    def spread(self, scales: Tensor, columns: int) -> Tensor:
        """Each scale repeated over the columns of its block: (rows, columns)."""
        wide = scales.unsqueeze(-1).expand(*scales.shape, self.block)
        return wide.reshape(len(scales), -1)[:, :columns]

    def codes(self, x: Tensor, scales: Tensor) -> Tensor:
        """The codes of x, unpacked; `scales` has a column for each block or for each of x."""
        inverse = torch.where(scales > 0, 1 / scales, torch.zeros_like(scales))
        if inverse.shape != x.shape:
            inverse = self.spread(inverse, x.shape[1])
        return encode(x * inverse, self.book)

    def values(self, codes: Tensor, scales: Tensor) -> Tensor:
        """What unpacked codes stand for; `scales` as in `codes`."""
        return self._scaled(decode(codes, self.book), scales)

    def pack(self, codes: Tensor) -> Tensor:
        """(rows, columns) codes -> (rows, ⌈columns·bits/8⌉) bytes."""
        if self.book.bits == 8:
            return codes
        return pack_nibbles(codes) if self.book.bits == 4 else pack_codes(codes, self.book.bits)

    def unpack(self, packed: Tensor, columns: int) -> Tensor:
        """The codes that `pack` was given."""
        if self.book.bits == 8:
            return packed
        if self.book.bits == 4:
            return unpack_nibbles(packed, columns)
        return unpack_codes(packed, self.book.bits, columns)

    def store(self, x: Tensor) -> Stored:
        """The codes and scales of x (rows, columns)."""
        scales = self.scales(x)
        return {"codes": self.pack(self.codes(x, scales)), "scales": scales}

    def restore(self, stored: Stored, columns: int) -> Tensor:
        """The matrix that `store` kept, (rows, columns)."""
        if self.book.bits != 4:
            return self.values(self.unpack(stored["codes"], columns), stored["scales"])
        # Both codewords of a byte at once: this is read at every step of the optimizer.
        pairs = _pairs(self.book, stored["codes"].device)
        words = embedding(stored["codes"].int(), pairs).reshape(len(stored["codes"]), -1)
        return self._scaled(words[:, :columns], stored["scales"])

    def store_symmetric(self, x: Tensor) -> Stored:
        """As `store`, with the diagonal of the square x kept in float32 and out of the scales."""
        diagonal = x.diagonal().clone()
        return self.store(x - torch.diag(diagonal)) | {"diagonal": diagonal}

    def restore_symmetric(self, stored: Stored) -> Tensor:
        """The matrix that `store_symmetric` kept."""
        diagonal = stored["diagonal"]
        return self.restore(stored, len(diagonal)).diagonal_scatter(diagonal)

    def bytes(self, order: int) -> int:
        """What `store_symmetric` of a square matrix occupies: codes, scales and diagonal."""
        blocks = -(-order // self.block)
        return order * packed_bytes(order, self.book.bits) + 4 * order * blocks + 4 * order

    def _scaled(self, words: Tensor, scales: Tensor) -> Tensor:
        rows, columns = words.shape
        if scales.shape == words.shape:
            return words * scales
        if columns % self.block == 0 and columns:
            blocks = words.reshape(rows, -1, self.block)
            return (blocks * scales.unsqueeze(-1)).reshape(rows, columns)
        return words * self.spread(scales, columns)


def settled(peaks: Tensor) -> Tensor:
    """Scales from largest magnitudes: 0 for those below the least normal float32."""
    return torch.where(peaks < LEAST, torch.zeros_like(peaks), peaks)


@lru_cache(maxsize=64)
def _pairs(book: CodebookFormat, device: torch.device) -> Tensor:
    """The two codewords of each byte of 4-bit codes, (256, 2) float32, the low half first."""
    byte = torch.arange(256, dtype=torch.uint8, device=device)
    return decode(torch.stack((byte & 15, byte >> 4), dim=-1), book)
