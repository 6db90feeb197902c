"""quantize, encode and decode, for numpy arrays and torch tensors of any shape."""

from typing import Any, Literal, cast

import numpy as np
import torch

from .arrays import CONTAINERS, Array, T, as_codes, as_floats
from .blocks.block import AnyFormat, BlockFormat
from .blocks.codes import BlockCodes
from .catalog import get_format
from .codes import decode_grid
from .device.place import on_device
from .errors import InputError, choice, whole_number
from .format import FloatFormat, Format, GridFormat, fits
from .generators import draw_words
from .grid_conversion import Conversion, encode_grid, quantize_grid
from .qtorch.numbers import is_qtorch
from .rounding import (
    AnyRounding,
    Flush,
    Overflow,
    Stochastic,
    get_flush,
    get_overflow,
    get_rounding,
)
from .tables.conversion import decode_table, encode_table, quantize_table
from .tables.floats import table_of

GRADIENTS = ("none", "straight_through", "clipped")


def quantize(
    x: T,
    fmt: str | AnyFormat,
    *,
    rounding: AnyRounding = "nearest_even",
    overflow: str | Overflow = "saturate",
    flush: str | Flush = "none",
    seed: int = 0,
    stream: int = 0,
    random_bits: Array | None = None,
    axis: int | None = None,
    gradient: Literal["none", "straight_through", "clipped"] = "none",
) -> T:
    """Each element of x rounded to a value of the format.

    Args:
        x: float64, float32, float16 or bfloat16 array or tensor of any shape, or a number; not
            changed.
        fmt: a name, an alias or family (see `get_format`), a `Format` or `BlockFormat`, or a
            number of qtorch's.
        rounding: a name of `Rounding`, or `Stochastic(bits=k, rule=...)`.
        overflow: what magnitudes beyond the largest value become, infinity included.
        flush: whether subnormal inputs and results become zeros; not for blocks.
        seed, stream: select the random bits of stochastic rounding; element i in row-major order
            always gets the same bits.
        random_bits: integers in 0 .. 2^k - 1 of x's shape, used in their place.
        axis: along which blocks lie; None is the block format's own.
        gradient: of a tensor: "none" ends the graph here; "straight_through" passes gradients as
            they are; "clipped" drops those of elements outside the format's range.

    Returns:
        Same kind, dtype and shape as x, contiguous. Rounded once from the exact input: there is
        no double rounding. The sign of zero is kept where the format has one. NaN stays NaN.
        Blocks of float16 and bfloat16 are computed in float32, and rounded to the dtype after.
        Tensors on CUDA devices are rounded there, to the same bits; what has no kernel is refused.

    Raises:
        InputError: unknown names; a dtype that cannot hold every value of the format; NaN where
            the format has none; an overflow policy that the format cannot express.
    """
    options: dict[str, Any] = {
        "rounding": rounding, "overflow": overflow, "flush": flush, "random_bits": random_bits,
        "seed": whole_number(seed, "seed"), "stream": whole_number(stream, "stream"),
    }  # fmt: skip
    if gradient != "none":
        return _differentiable(x, fmt, gradient, options | {"axis": axis})
    if is_qtorch(fmt) and type(fmt).__name__ == "BlockFloatingPoint":
        return _quantize_qtorch_blocks(x, fmt, options | {"axis": axis})
    row = get_format(fmt)
    if axis is not None and not isinstance(row, BlockFormat):
        raise InputError(f"axis = {axis} is for block formats, not {row.name}; leave it out")
    if isinstance(x, torch.Tensor) and _elsewhere(x):
        from .device.interface import quantize_elsewhere

        return quantize_elsewhere(x, row, options, axis)
    if isinstance(row, BlockFormat):
        from .blocks.conversion import quantize_blocks

        _refuse_flush(options.pop("flush"), row)
        return quantize_blocks(x, row, axis=axis, **options)
    array, rebuild, container = as_floats(x)
    how = _conversion(array, **options)
    if (table := table_of(row)) is not None:
        return rebuild(quantize_table(array, table, how.rounding, how.overflow, how.drawn(array)))
    row = cast(GridFormat, row)
    if not fits(row, container):
        raise InputError(_too_narrow(row, container))
    return rebuild(quantize_grid(array, row, how))


def encode(
    x: Any,
    fmt: str | AnyFormat,
    *,
    rounding: AnyRounding = "nearest_even",
    overflow: str | Overflow = "saturate",
    flush: str | Flush = "none",
    seed: int = 0,
    stream: int = 0,
    random_bits: Array | None = None,
    axis: int | None = None,
) -> Any:
    """The codes of `quantize(x, ...)`: uint8, 16, 32 or 64, whichever is the least that holds them.

    Arguments and errors as `quantize`. Integers are two's complement in their low bits. A block
    format gives `BlockCodes`: the codes, their scales, and how they lie.
    """
    options: dict[str, Any] = {
        "rounding": rounding, "overflow": overflow, "flush": flush, "random_bits": random_bits,
        "seed": whole_number(seed, "seed"), "stream": whole_number(stream, "stream"),
    }  # fmt: skip
    row = get_format(fmt)
    if isinstance(x, torch.Tensor) and _elsewhere(x):
        from .device.interface import encode_elsewhere

        return encode_elsewhere(x, row, options, axis)
    if isinstance(row, BlockFormat):
        from .blocks.conversion import encode_blocks

        _refuse_flush(options.pop("flush"), row)
        return encode_blocks(x, row, axis=axis, **options)
    array, _, _ = as_floats(x)
    how = _conversion(array, **options)
    if (table := table_of(row)) is not None:
        codes = encode_table(array, table, how.rounding, how.overflow, how.drawn(array))
        return _like(x, codes)
    return _like(x, encode_grid(array, cast(GridFormat, row), how))


def decode(codes: Any, fmt: str | AnyFormat | None = None) -> Any:
    """The values of unsigned integer codes: float32 where that holds the format, else float64.

    `BlockCodes` bring their format and dtype along.

    Raises:
        InputError: `codes` is not an unsigned integer array, or holds a code of too many bits.
    """
    if isinstance(codes, BlockCodes):
        from .blocks.conversion import decode_blocks

        if isinstance(codes.codes, torch.Tensor) and _elsewhere(codes.codes):
            from .device.interface import decode_elsewhere

            return decode_elsewhere(codes, None)
        return decode_blocks(codes)
    if fmt is None:
        raise InputError("decode: codes alone do not say their format; pass it as the second")
    row = get_format(fmt)
    if isinstance(row, BlockFormat):
        raise InputError(f"decode: {row.name} needs scales too; pass the BlockCodes of encode")
    if isinstance(codes, torch.Tensor) and _elsewhere(codes):
        from .device.interface import decode_elsewhere

        return decode_elsewhere(codes, row)
    array, rebuild = as_codes(codes)
    if array.size and int(array.max()) >= 2**row.bits:
        raise InputError(
            f"decode: code {int(array.max())} is not one of 0 to {2**row.bits - 1} ({row.name})"
        )
    if (table := table_of(row)) is not None:
        return rebuild(decode_table(array, table))
    return rebuild(decode_grid(array, cast(GridFormat, row)))


def _differentiable(x: T, fmt: str | AnyFormat, gradient: str, options: dict[str, Any]) -> T:
    """quantize with a derivative: see `autograd.straight_through`."""
    from .autograd import straight_through

    choice(gradient, GRADIENTS, "gradient", "quantize")
    if not isinstance(x, torch.Tensor):
        raise InputError(f'gradient = "{gradient}" is for tensors, not {type(x).__name__}')
    return straight_through(x, cast(Format, fmt), gradient == "clipped", **options)


def _elsewhere(x: torch.Tensor) -> bool:
    """Whether the kernels of `device` are asked, and not numba's."""
    return x.device.type != "cpu" or on_device(x)


def _quantize_qtorch_blocks(x: T, number: Any, options: dict[str, Any]) -> T:
    """Blocks over all dimensions but one; what qtorch's have no counterpart of is refused."""
    from .qtorch.rounding import round_blocks  # built on this module

    how = get_rounding(options["rounding"])
    foreign = {
        "overflow": get_overflow(options["overflow"]) is not Overflow.SATURATE,
        "flush": get_flush(options["flush"]) is not Flush.NONE,
        "stream": options["stream"] != 0,
        "random_bits": options["random_bits"] is not None,
        "axis": options["axis"] is not None,
        "rounding": isinstance(how, Stochastic) and how.source != "philox",
    }
    if given := [name for name, differs in foreign.items() if differs]:
        raise InputError(
            f"quantize: {', '.join(given)} is not for {number}; leave it out, or pass a BlockFormat"
        )
    if isinstance(x, torch.Tensor):
        return round_blocks(x, number, how, options["seed"])
    array, rebuild, _ = as_floats(x)
    tensor = torch.from_numpy(np.array(array))
    return rebuild(round_blocks(tensor, number, how, options["seed"]).numpy())


def _refuse_flush(flush: str | Flush, row: BlockFormat) -> None:
    if get_flush(flush) is not Flush.NONE:
        raise InputError(f'flush = "{flush}" is not for blocks ({row.name}); quantize elements')


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


def _like(x: Any, codes: Array) -> Any:
    """Codes in the kind of x."""
    if isinstance(x, torch.Tensor):
        return torch.from_numpy(np.asarray(codes))
    out: Any = np.asarray(codes)
    return out.item() if isinstance(x, int | float) else out
