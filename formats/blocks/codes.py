"""Encoded blocks: codes, scales and zero points, and the bytes that they occupy when packed."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ..errors import InputError, choice
from ..packing import pack_codes, packed_bytes, unpack_codes
from .block import BlockFormat

#: An array or a tensor.
Values = Any


@dataclass(frozen=True, eq=False)
class BlockCodes:
    """What a block format stores of an array.

    Attributes:
        codes: unsigned codes of the elements, in the array's shape, one to an integer.
        scales: codes of the scales: the array's shape with the blocked axes divided.
        tensor_scale: the scale above all blocks, a value of `fmt.tensor_scale`.
        zero_points: codes of the zero points, in the shape of the scales.
        axis: the axis that the blocks lie along.
        dtype: float32 or float64, what was encoded.
    """

    codes: Values
    scales: Values
    fmt: BlockFormat
    tensor_scale: float | None = None
    zero_points: Values = None
    axis: int = -1
    dtype: str = "float32"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return tuple(self.codes.shape)

    @property
    def bytes(self) -> int:
        """What `pack` occupies: rows of codes and of zero points start on whole bytes."""
        scales: tuple[int, ...] = tuple(self.scales.shape)
        width = -(-self.fmt.scale.bits // 8)
        size = _packed_size(self.shape, self.fmt.bits) + prod(scales) * width
        if self.zero_points is not None:
            size += _packed_size(scales, self.fmt.bits)
        if self.fmt.tensor_scale is not None and self.tensor_scale is not None:
            size += -(-self.fmt.tensor_scale.bits // 8)
        return size

    def pack(self) -> dict[str, Values]:
        """The codes, scales, zero points and tensor scale as they lie in memory.

        Codes of at most 8 bits are packed as `packing.pack_codes` does, wider ones stay as they
        are; scales take whole bytes; the tensor scale is one float32. numpy or torch, as encoded.
        """
        packed = {"codes": _pack(self.codes, self.fmt.bits), "scales": self.scales}
        if self.zero_points is not None:
            packed["zero_points"] = _pack(self.zero_points, self.fmt.bits)
        if self.tensor_scale is not None:
            packed["tensor_scale"] = np.float32(self.tensor_scale)
        return packed


def unpack_blocks(
    packed: Mapping[str, Values],
    fmt: str | BlockFormat,
    shape: tuple[int, ...],
    *,
    axis: int | None = None,
    dtype: str = "float32",
) -> BlockCodes:
    """The codes that `BlockCodes.pack` was called on.

    Raises:
        InputError: no block format; a part is missing, or does not have the size that `shape`
            gives it; another dtype than float32 and float64.
    """
    from ..catalog import get_format
    from .layout import lay_out  # built on this module

    row = get_format(fmt, "unpack_blocks")
    if not isinstance(row, BlockFormat):
        raise InputError(f"unpack_blocks: {row.name} has no blocks; decode takes its codes")
    fmt = row
    choice(dtype, ("float32", "float64"), "dtype", "unpack_blocks")
    _refuse_missing(packed, fmt)
    scales, zeros, tensor = packed["scales"], packed.get("zero_points"), packed.get("tensor_scale")
    wanted = lay_out(shape, fmt, axis)[1]
    if tuple(scales.shape) != wanted:
        raise InputError(
            f"unpack_blocks: scales of shape {tuple(scales.shape)} are not {wanted}, the blocks of "
            f"{fmt.name} in {shape}"
        )
    if zeros is not None:
        zeros = _unpack(zeros, fmt.bits, wanted)
    return BlockCodes(
        codes=_unpack(packed["codes"], fmt.bits, shape),
        scales=scales,
        fmt=fmt,
        tensor_scale=None if tensor is None else float(tensor),
        zero_points=zeros,
        axis=fmt.axis if axis is None else axis,
        dtype=dtype,
    )


def _refuse_missing(packed: Mapping[str, Values], fmt: BlockFormat) -> None:
    rule = fmt.scale_rule
    needed = {"zero_points": rule.zero_point, "tensor_scale": rule.two_level}
    wanted = ["codes", "scales", *(name for name, needs in needed.items() if needs)]
    if missing := [name for name in wanted if name not in packed]:
        raise InputError(f"unpack_blocks: {', '.join(missing)} missing from the packed parts")


def _packed_size(shape: tuple[int, ...], bits: int) -> int:
    if bits > 8:
        return prod(shape) * (2 if bits <= 16 else 4)
    *rows, columns = shape or (1,)
    return prod(rows) * packed_bytes(columns, bits)


def _pack(codes: Values, bits: int) -> Values:
    if bits > 8:
        return codes
    return pack_codes(codes if codes.ndim else codes.reshape(1), bits)


def _unpack(packed: Values, bits: int, shape: tuple[int, ...]) -> Values:
    codes = packed if bits > 8 else unpack_codes(packed, bits, (shape or (1,))[-1])
    if prod(codes.shape) != prod(shape):
        raise InputError(
            f"unpack_blocks: {prod(codes.shape)} codes of {bits} bits do not fill shape {shape}"
        )
    return codes.reshape(shape)
