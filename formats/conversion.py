"""quantize, encode and decode, for numpy arrays and torch tensors of any shape."""

from typing import Any, cast

import numpy as np
import torch

from .arrays import CONTAINERS, Array, T, as_codes, as_floats
from .catalog import get_format
from .codes import decode_grid
from .errors import InputError
from .float_table import table_of
from .format import FloatFormat, Format, GridFormat, fits
from .generators import draw_words
from .grid_conversion import Conversion, encode_grid, quantize_grid
from .rounding import (
    AnyRounding,
    Flush,
    Overflow,
    Stochastic,
    get_flush,
    get_overflow,
    get_rounding,
)
from .tables import decode_table, encode_table, quantize_table


def quantize(
    x: T,
    fmt: str | Format,
    *,
    rounding: AnyRounding = "nearest_even",
    overflow: str | Overflow = "saturate",
    flush: str | Flush = "none",
    seed: int = 0,
    stream: int = 0,
    random_bits: Array | None = None,
) -> T:
    """Each element of x rounded to a value of the format.

    Args:
        x: float64, float32, float16 or bfloat16 array or tensor of any shape, or a number; not
            changed.
        fmt: a name, an alias, a custom eXmY or intN, or a `Format`.
        rounding: a name of `Rounding`, or `Stochastic(bits=k, rule=...)`.
        overflow: what magnitudes beyond the largest value become, infinity included.
        flush: whether subnormal inputs and results become zeros.
        seed, stream: select the random bits of stochastic rounding; element i in row-major order
            always gets the same bits.
        random_bits: integers in 0 .. 2^k - 1 of x's shape, used in their place.

    Returns:
        Same kind, dtype and shape as x, contiguous, outside of autograd. Rounded once from the
        exact input: there is no double rounding. The sign of zero is kept where the format has
        one. NaN stays NaN.

    Raises:
        InputError: unknown names; a dtype that cannot hold every value of the format; NaN where
            the format has none; an overflow policy that the format cannot express.
    """
    array, rebuild, container = as_floats(x)
    row = get_format(fmt)
    how = _conversion(array, rounding, overflow, flush, seed, stream, random_bits)
    if (table := table_of(row)) is not None:
        return rebuild(quantize_table(array, table, how.rounding, how.overflow, how.drawn(array)))
    row = cast(GridFormat, row)
    if not fits(row, container):
        raise InputError(_too_narrow(row, container))
    return rebuild(quantize_grid(array, row, how))


def encode(
    x: T,
    fmt: str | Format,
    *,
    rounding: AnyRounding = "nearest_even",
    overflow: str | Overflow = "saturate",
    flush: str | Flush = "none",
    seed: int = 0,
    stream: int = 0,
    random_bits: Array | None = None,
) -> T:
    """The codes of `quantize(x, ...)`: uint8, 16, 32 or 64, whichever is the least that holds them.

    Arguments and errors as `quantize`. Integers are two's complement in their low bits.
    """
    array, _, _ = as_floats(x)
    row = get_format(fmt)
    how = _conversion(array, rounding, overflow, flush, seed, stream, random_bits)
    if (table := table_of(row)) is not None:
        codes = encode_table(array, table, how.rounding, how.overflow, how.drawn(array))
        return _like(x, codes)
    return _like(x, encode_grid(array, cast(GridFormat, row), how))


def decode(codes: T, fmt: str | Format) -> T:
    """The values of unsigned integer codes: float32 where that holds the format, else float64.

    Raises:
        InputError: `codes` is not an unsigned integer array, or holds a code of too many bits.
    """
    array, rebuild = as_codes(codes)
    row = get_format(fmt)
    if array.size and int(array.max()) >= 2**row.bits:
        raise InputError(
            f"decode: code {int(array.max())} is not one of 0 to {2**row.bits - 1} ({row.name})"
        )
    if (table := table_of(row)) is not None:
        return cast(T, rebuild(decode_table(array, table)))
    return cast(T, rebuild(decode_grid(array, cast(GridFormat, row))))


def _conversion(
    x: Array,
    rounding: AnyRounding,
    overflow: str | Overflow,
    flush: str | Flush,
    seed: int,
    stream: int,
    random_bits: Array | None,
) -> Conversion:
    how = get_rounding(rounding)
    random = None
    if isinstance(how, Stochastic) and random_bits is not None:
        random = _checked_bits(np.asarray(random_bits), x.shape, how.bits)
    elif isinstance(how, Stochastic) and how.source != "philox":
        words = draw_words(how.source, x.size, seed, stream)
        random = (words >> np.uint32(32 - how.bits)).reshape(x.shape)
    return Conversion(how, get_overflow(overflow), get_flush(flush), seed, stream, random)


def _checked_bits(random: Array, shape: tuple[int, ...], bits: int) -> Array:
    if random.shape != shape or random.dtype.kind not in "iu":
        raise InputError(
            f"random_bits: {random.dtype} {random.shape} are not integers of shape {shape}"
        )
    if random.size and not 0 <= int(random.min()) <= int(random.max()) < 2**bits:
        raise InputError(
            f"random_bits: {random.min()} to {random.max()} is not within 0 to {2**bits - 1}"
        )
    return random


def _too_narrow(row: GridFormat, container: FloatFormat) -> str:
    wider = next(name for name, room in CONTAINERS.items() if fits(row, room))
    return f"{container.name} cannot hold every value of {row.name}; pass {wider}"


def _like(x: T, codes: Array) -> T:
    """Codes in the kind of x."""
    if isinstance(x, torch.Tensor):
        return torch.from_numpy(np.asarray(codes))
    out: Any = np.asarray(codes)
    return cast(T, out.item() if isinstance(x, int | float) else out)
