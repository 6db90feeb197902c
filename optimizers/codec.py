"""Matrices as 4-bit codes with one float32 scale per row block, packed two codes a byte.

A stored matrix is a dictionary of tensors, so that it can live in an optimizer's state:
codes (rows, ⌈columns/2⌉) uint8 and scales (rows, ⌈columns/block⌉) float32. Each row is cut into
blocks of `block` columns, the last one short; scale s = max|x| of the block; the code is that
of the codeword nearest to x·(1/s), where the product is rounded once and s·codeword is the
restored value, rounded once. A block whose s is below the least normal float32 has scale 0 and
the zero code throughout.

Source: Wang, Zhou, Li, Huang, arXiv 2405.18144 (their rows of odd length share a byte with the
next row; here every row starts on a whole byte).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..formats.packing import pack_nibbles, packed_columns, unpack_nibbles
from ..formats.tables.codebook import CodebookFormat, decode, encode

Stored = dict[str, Tensor]
LEAST = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class RowCodec:
    """How matrices become codes: a 4-bit codebook, and the columns that share a scale."""

    book: CodebookFormat
    block: int = 64

    def scales(self, x: Tensor) -> Tensor:
        """max|x| of each row block: (rows, columns) -> (rows, ⌈columns/block⌉)."""
        rows, columns = x.shape
        whole = pad(x.abs(), (0, -columns % self.block))
        largest = whole.reshape(rows, -1, self.block).amax(dim=-1)
        return torch.where(largest < LEAST, torch.zeros_like(largest), largest)

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
        if scales.shape != codes.shape:
            scales = self.spread(scales, codes.shape[1])
        return decode(codes, self.book) * scales

    def store(self, x: Tensor) -> Stored:
        """The codes and scales of x (rows, columns)."""
        scales = self.scales(x)
        return {"codes": pack_nibbles(self.codes(x, scales)), "scales": scales}

    def restore(self, stored: Stored, columns: int) -> Tensor:
        """The matrix that `store` kept, (rows, columns)."""
        return self.values(unpack_nibbles(stored["codes"], columns), stored["scales"])

    def store_symmetric(self, x: Tensor) -> Stored:
        """As `store`, with the diagonal of the square x kept in float32 and out of the scales."""
        diagonal = x.diagonal().clone()
        return self.store(x - torch.diag(diagonal)) | {"diagonal": diagonal}

    def restore_symmetric(self, stored: Stored) -> Tensor:
        """The matrix that `store_symmetric` kept."""
        diagonal = stored["diagonal"]
        return self.restore(stored, len(diagonal)) + torch.diag(diagonal)

    def bytes(self, order: int) -> int:
        """What `store_symmetric` of a square matrix occupies: codes, scales and diagonal."""
        blocks = -(-order // self.block)
        return order * packed_columns(order) + 4 * order * blocks + 4 * order
