"""Codes of 1 to 8 bits packed into bytes, by torch operations alone.

The codes of a row form one stream of bits, each code with its least significant bit first, and
the stream fills each byte from its least significant bit: code j of width w takes bits w j to
w j + w - 1. So the low half of a byte holds the even one of two 4-bit codes (as torchao's
pack_uint4, and cuBLAS and PTX for e2m1 pairs), and four 6-bit codes take three bytes (the order
of PTX's .b6x16_p32, without its 4 bytes of padding behind 16 codes). Every row starts on a whole
byte: the bits that its last byte has left are zero, and no byte is shared by two rows.
"""

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .errors import InputError

T = TypeVar("T", NDArray[Any], Tensor)


def packed_bytes(columns: int, bits: int) -> int:
    """Bytes that a row of `columns` codes takes: ⌈columns · bits / 8⌉."""
    return (columns * bits + 7) // 8


def pack_codes(codes: T, bits: int) -> T:
    """(..., columns) uint8 codes below 2^bits -> (..., ⌈columns · bits / 8⌉) uint8.

    numpy or torch, as given; any number of axes but none. `bits` is 1 to 8.

    Raises:
        InputError: the codes are not uint8, or one needs more bits.
    """
    if isinstance(codes, Tensor):
        return _pack(codes, bits)
    return _pack(_as_tensor(codes, "pack_codes"), bits).numpy()


def _pack(codes: Tensor, bits: int) -> Tensor:
    _check(codes, bits, "pack_codes")
    if codes.numel() > 0 and int(codes.amax()) >= 2**bits:
        raise InputError(
            f"pack_codes: code {int(codes.amax())} is not one of 0 to {2**bits - 1}: encode with "
            f"a format of {bits} bits, or give its width"
        )
    columns = codes.shape[-1]
    packed = codes.new_zeros((*codes.shape[:-1], packed_bytes(columns, bits)))
    for lane in range(min(8, columns)):
        for byte, shift in _places(lane, bits):
            part = codes[..., lane::8]
            part = part << shift if shift >= 0 else part >> -shift
            packed[..., byte::bits][..., : part.shape[-1]] |= part
    return packed


def unpack_codes(packed: T, bits: int, columns: int) -> T:
    """The codes that `pack_codes` was given: (..., ⌈columns · bits / 8⌉) -> (..., columns) uint8.

    Raises:
        InputError: the packed rows are not uint8 or do not have the length of `columns` codes.
    """
    if isinstance(packed, Tensor):
        return _unpack(packed, bits, columns)
    return _unpack(_as_tensor(packed, "unpack_codes"), bits, columns).numpy()


def _unpack(packed: Tensor, bits: int, columns: int) -> Tensor:
    _check(packed, bits, "unpack_codes")
    if columns < 0 or packed.shape[-1] != packed_bytes(columns, bits):
        raise InputError(
            f"unpack_codes: rows of {packed.shape[-1]} bytes do not hold {columns} codes of "
            f"{bits} bits: they take {packed_bytes(max(columns, 0), bits)} bytes"
        )
    codes = packed.new_zeros((*packed.shape[:-1], columns))
    for lane in range(min(8, columns)):
        room = codes[..., lane::8]
        for byte, shift in _places(lane, bits):
            part = packed[..., byte::bits][..., : room.shape[-1]]
            room |= (part >> shift if shift >= 0 else part << -shift) & (2**bits - 1)
    return codes


def _places(lane: int, bits: int) -> list[tuple[int, int]]:
    """(byte, left shift) of the bytes that code `lane` of a group of 8 lies in."""
    first = lane * bits
    return [(byte, first - 8 * byte) for byte in range(first // 8, (first + bits - 1) // 8 + 1)]


def _as_tensor(codes: NDArray[Any], name: str) -> Tensor:
    if codes.dtype != np.uint8:
        raise InputError(
            f"{name}: dtype {codes.dtype} is not uint8: convert with .astype(np.uint8)"
        )
    return torch.from_numpy(np.require(codes, requirements=["C", "W"]))


def _check(codes: Tensor, bits: int, name: str) -> None:
    if not 1 <= bits <= 8:
        raise InputError(f"{name}: bits = {bits} is not one of 1 to 8")
    if codes.dtype != torch.uint8 or codes.ndim == 0:
        raise InputError(
            f"{name}: {codes.dtype} of shape {tuple(codes.shape)} is not uint8 with at least one "
            "axis: convert with .to(torch.uint8), reshape a single code to (1,)"
        )


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
