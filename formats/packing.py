"""Two 4-bit codes in one byte, by torch operations alone.

The low half of a byte holds the even column. Every row starts on a whole byte: a row of odd
length leaves the high half of its last byte zero, so that no byte is shared by two rows.
"""

import torch
from torch import Tensor

from .errors import InputError


def packed_columns(columns: int) -> int:
    """Bytes that one row of `columns` 4-bit codes takes."""
    return (columns + 1) // 2


def pack_nibbles(codes: Tensor) -> Tensor:
    """(..., columns) uint8 codes 0 to 15 -> (..., ⌈columns/2⌉) uint8.

    Raises:
        InputError: the codes are not uint8, or one needs more than 4 bits.
    """
    if codes.dtype != torch.uint8 or (codes.numel() > 0 and int(codes.amax()) > 15):
        raise InputError(
            f"pack_nibbles: codes of dtype {codes.dtype} are not uint8 from 0 to 15: encode them "
            "with a 4-bit format"
        )
    columns = codes.shape[-1]
    packed = codes.new_zeros((*codes.shape[:-1], packed_columns(columns)))
    packed.copy_(codes[..., 0::2])
    packed[..., : columns // 2] |= codes[..., 1::2] << 4
    return packed


def unpack_nibbles(packed: Tensor, columns: int) -> Tensor:
    """The codes that `pack_nibbles` was given: (..., ⌈columns/2⌉) uint8 -> (..., columns) uint8.

    Raises:
        InputError: the packed rows do not have the length that `columns` codes take.
    """
    if packed.dtype != torch.uint8 or packed.shape[-1] != packed_columns(columns):
        raise InputError(
            f"unpack_nibbles: rows of {packed.shape[-1]} {packed.dtype} do not hold {columns} "
            f"codes: they take {packed_columns(columns)} bytes of uint8"
        )
    pairs = torch.stack((packed & 15, packed >> 4), dim=-1)
    return pairs.flatten(-2)[..., :columns]
