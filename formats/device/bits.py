"""Float tensors as sign, magnitude and NaN in integers, and back: no float arithmetic.

A magnitude 2^e 1.f is held as `wide` = (e + 1023) 2^52 + 2^52 f in int64, the layout of float64
with an exponent field that runs on below zero, so that subnormals are numbers like all others and
wide ascends with the magnitude. Zero is the lowest wide, infinity has the field 2047. The one
conversion is an integer below 2^53 to a float, which is exact and never subnormal.
"""

import math
import struct
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InputError

MASK, IMPLICIT = 2**52 - 1, 2**52
ZERO, INFINITE = -(2**63), 2047 << 52


class Layout(NamedTuple):
    """The fields of a torch float dtype, and the integer dtype of the same width."""

    integer: torch.dtype
    fraction_bits: int
    exponent_bits: int

    @property
    def bias(self) -> int:
        """Exponent bias."""
        return int(2 ** (self.exponent_bits - 1)) - 1

    @property
    def sign(self) -> int:
        """The sign bit, as the integer dtype reads it."""
        return -(1 << (self.fraction_bits + self.exponent_bits))


LAYOUTS = {
    torch.float64: Layout(torch.int64, 52, 11),
    torch.float32: Layout(torch.int32, 23, 8),
    torch.bfloat16: Layout(torch.int16, 7, 8),
    torch.float16: Layout(torch.int16, 10, 5),
}


class Parts(NamedTuple):
    """Numbers as sign, magnitude and NaN; all of one shape."""

    negative: Tensor  # bool
    wide: Tensor  # int64
    nan: Tensor  # bool


def layout_of(x: Tensor) -> Layout:
    """The layout of x's dtype.

    Raises:
        InputError: x is not a float tensor of 16, 32 or 64 bits.
    """
    if x.dtype not in LAYOUTS:
        allowed = ", ".join(str(dtype) for dtype in LAYOUTS)
        raise InputError(f"dtype {x.dtype} is not one of {allowed}; convert the tensor first")
    return LAYOUTS[x.dtype]


def disassemble(x: Tensor) -> Parts:
    """The parts of a float tensor, from its bits."""
    layout = layout_of(x)
    width, top = layout.fraction_bits, (1 << layout.exponent_bits) - 1
    bits = x.view(layout.integer).to(torch.int64)
    magnitude = bits & ~layout.sign
    field, fraction = magnitude >> width, magnitude & ((1 << width) - 1)
    normal = ((field + (1023 - layout.bias)) << 52) + (fraction << (52 - width))
    wide = torch.where(field == 0, widen(fraction, 1 - layout.bias - width, width), normal)
    wide = torch.where(field == top, INFINITE, wide)
    return Parts(bits < 0, wide, (field == top) & (fraction != 0))


def widen(steps: Tensor, exponent: int, width: int) -> Tensor:
    """The wide of steps * 2^exponent, 0 <= steps < 2^width, width at most 53."""
    layout = LAYOUTS[torch.float32 if width <= 24 else torch.float64]
    floating = steps.to(torch.float32 if width <= 24 else torch.float64)  # exact, and normal
    bits = floating.view(layout.integer).to(torch.int64) << (52 - layout.fraction_bits)
    return torch.where(steps == 0, ZERO, bits + ((exponent + 1023 - layout.bias) << 52))


def wide_of(value: float) -> int:
    """The wide of a finite float >= 0."""
    fraction, exponent = math.frexp(value)  # exact for subnormals too
    if value == 0.0:
        return ZERO
    (bits,) = struct.unpack("<q", struct.pack("<d", fraction))
    return int(bits) + (exponent << 52)


def scale_parts(parts: Parts, exponent: Tensor | int) -> Parts:
    """Numbers times 2^exponent, exactly: the exponent field of a wide has room on both sides.

    exponent: int64 that broadcasts, within -600 to 600.
    """
    fixed = (parts.wide == ZERO) | (parts.wide == INFINITE)
    return parts._replace(wide=torch.where(fixed, parts.wide, parts.wide + (exponent << 52)))


def integer_steps(wide: Tensor, quantum: int) -> Tensor:
    """The magnitude over 2^quantum, of which it is a multiple, modulo 2^32."""
    places = (wide >> 52) - 1023 - quantum - 52
    sig = torch.where(wide == ZERO, 0, (wide & MASK) | IMPLICIT)
    left = (sig & 0xFFFFFFFF) << places.clamp(0, 31)
    shifted = torch.where(places < 0, sig >> (-places).clamp(0, 63), left)
    return torch.where(places > 31, 0, shifted) & 0xFFFFFFFF


def assemble(parts: Parts, dtype: torch.dtype) -> Tensor:
    """Parts that the dtype holds exactly, as a tensor of it; NaN is the quiet one."""
    layout = LAYOUTS[dtype]
    width = layout.fraction_bits
    e = (parts.wide >> 52) - 1023
    field = e + layout.bias
    normal = (field << width) + ((parts.wide & MASK) >> (52 - width))
    sig = (parts.wide & MASK) | IMPLICIT
    bits = torch.where(field > 0, normal, sig >> (53 - width - field).clamp(0, 63))
    top = ((1 << layout.exponent_bits) - 1) << width
    bits = torch.where(parts.wide == ZERO, 0, torch.where(parts.wide == INFINITE, top, bits))
    bits = torch.where(parts.nan, top | 1 << (width - 1), bits)
    bits = torch.where(parts.negative, bits + layout.sign, bits)
    return bits.to(layout.integer).view(dtype)
