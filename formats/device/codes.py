"""Codes of float and integer formats by torch operations alone; the arithmetic is `device.py`'s."""

import math
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..format import FloatFormat
from ..reference import nan_code
from ..rounding import AnyRounding, Overflow
from .bits import (
    IMPLICIT,
    INFINITE,
    LAYOUTS,
    MASK,
    ZERO,
    Parts,
    assemble,
    disassemble,
    integer_steps,
    widen,
)
from .rounding import grid_fits, round_parts

_UNSIGNED = ((8, torch.uint8), (16, torch.uint16), (32, torch.uint32), (64, torch.uint64))


def encode_on_device(
    x: Tensor,
    fmt: Any,
    rounding: AnyRounding = "nearest_even",
    overflow: str | Overflow = "saturate",
    random: Tensor | None = None,
    *,
    seed: int = 0,
    stream: int = 0,
) -> Tensor:
    """The codes of x rounded to `fmt`: uint8, 16, 32 or 64, whichever is the least that holds them.

    fmt: a float format, or any format of two's complement integers over a power of two that has a
    `grid`. Arguments and errors as `quantize_on_device`, but any float dtype of x will do.
    """
    numbers = disassemble(x.detach())
    parts = round_parts(
        numbers, fmt.grid, rounding, overflow, random, seed=seed, stream=stream, name=fmt.name
    )
    codes = _float_codes(parts, fmt) if isinstance(fmt, FloatFormat) else _step_codes(parts, fmt)
    return codes.to(next(dtype for width, dtype in _UNSIGNED if fmt.bits <= width))


def decode_on_device(codes: Tensor, fmt: Any) -> Tensor:
    """The values of unsigned integer codes: float32 where that holds the format, else float64.

    Raises:
        InputError: `codes` is not an unsigned integer tensor, or holds a code of too many bits.
    """
    check_codes(codes, fmt)
    numbers = codes.to(torch.int64)
    parts = (
        _float_parts(numbers, fmt) if isinstance(fmt, FloatFormat) else _step_parts(numbers, fmt)
    )
    narrow = grid_fits(fmt.grid, LAYOUTS[torch.float32])
    return assemble(parts, torch.float32 if narrow else torch.float64)


def check_codes(codes: Tensor, fmt: Any) -> None:
    """Refuse what are no codes.

    Raises:
        InputError: `codes` is not an unsigned integer tensor, or holds a code of too many bits.
    """
    if codes.dtype not in [dtype for _, dtype in _UNSIGNED]:
        raise InputError(f"dtype {codes.dtype} is not one of unsigned integers; convert it first")
    if fmt.bits >= 64 or not codes.numel():
        return
    numbers = codes.to(torch.int64)
    if bool((numbers >> fmt.bits != 0).any()):
        largest = int(numbers.max())
        raise InputError(
            f"decode: code {largest} is not one of 0 to {2**fmt.bits - 1} ({fmt.name})"
        )


def _float_codes(parts: Parts, fmt: FloatFormat) -> Tensor:
    """Sign, exponent field and fraction of numbers on the grid of a float format."""
    width = fmt.fraction_bits
    quantum = fmt.min_exponent - fmt.grid.subnormal_fraction_bits
    field = (parts.wide >> 52) - 1023 - fmt.min_exponent + int(fmt.zero)
    normal = (field << width) + ((parts.wide & MASK) >> (52 - width))
    places = quantum + 52 - ((parts.wide >> 52) - 1023)
    steps = ((parts.wide & MASK) | IMPLICIT) >> places.clamp(0, 63)
    codes = torch.where(field >= int(fmt.zero), normal, steps)
    codes = torch.where(parts.wide == ZERO, 0, codes)
    codes = torch.where(parts.wide == INFINITE, _top_body(fmt) + 1, codes)
    if fmt.signed:
        sign = -(1 << 63) if fmt.bits == 64 else 1 << (fmt.bits - 1)
        codes = torch.where(parts.negative, codes | sign, codes)
    return torch.where(parts.nan, nan_code(fmt), codes) if fmt.grid.has_nan else codes


def _top_body(fmt: FloatFormat) -> int:
    """The code of the largest value; that of infinity, where there is one, is the next."""
    fraction, exponent = math.frexp(fmt.largest)
    field = exponent - 1 - fmt.min_exponent + int(fmt.zero)
    return (field << fmt.fraction_bits) + int((2 * fraction - 1) * 2**fmt.fraction_bits)


def _float_parts(codes: Tensor, fmt: FloatFormat) -> Parts:
    """Numbers from sign, exponent field and fraction."""
    width, signed = fmt.fraction_bits, int(fmt.signed)
    body = codes & ((1 << (fmt.bits - signed)) - 1)
    negative = (codes >> (fmt.bits - 1)) & 1 == 1 if fmt.signed else torch.zeros_like(codes) == 1
    field, fraction = body >> width, body & ((1 << width) - 1)
    exponent = field - int(fmt.zero) + fmt.min_exponent
    wide = ((exponent + 1023) << 52) + (fraction << (52 - width))
    if fmt.zero:
        small = widen(fraction, fmt.min_exponent - width, width)
        wide = torch.where(field == 0, small if fmt.subnormals else ZERO, wide)
    top = _top_body(fmt)
    infinite = (body == top + 1) & fmt.infinity
    nan = (body > top) & ~infinite
    if fmt.nan == "negative_zero":
        nan = nan | (negative & (body == 0))
    wide = torch.where(infinite, INFINITE, wide)
    return Parts(negative, wide, nan)


def _step_codes(parts: Parts, fmt: Any) -> Tensor:
    """Two's complement of the value over the grid's quantum, in the low bits."""
    quantum = fmt.grid.min_exponent - fmt.grid.subnormal_fraction_bits
    steps = integer_steps(parts.wide, quantum)
    codes: Tensor = torch.where(parts.negative, -steps, steps) & ((1 << fmt.bits) - 1)
    return codes


def _step_parts(codes: Tensor, fmt: Any) -> Parts:
    """Multiples of the grid's quantum from two's complement."""
    quantum = fmt.grid.min_exponent - fmt.grid.subnormal_fraction_bits
    negative = (codes >> (fmt.bits - 1) == 1) & (fmt.grid.lowest < 0)
    steps = torch.where(negative, (1 << fmt.bits) - codes, codes)
    return Parts(negative, widen(steps, quantum, fmt.bits), torch.zeros_like(negative))
