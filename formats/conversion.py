"""quantize, encode and decode, for numpy arrays and torch tensors of any shape."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from . import loops
from .catalog import CATALOG, get_format
from .codes import decode_grid
from .errors import InputError
from .float_table import table_of
from .format import FixedFormat, FloatFormat, Format, GridFormat, fits
from .jit import start_threads
from .kernels import OVERFLOW_CODES
from .random import fill_words
from .reference import nan_code
from .rounding import (
    AnyRounding,
    Overflow,
    Stochastic,
    get_overflow,
    get_rounding,
    kernel_mode,
)
from .tables import decode_table, encode_table, quantize_table

Array = NDArray[Any]
T = TypeVar("T", Array, torch.Tensor, float)

_CONTAINERS = {
    np.dtype(np.float32): cast(FloatFormat, CATALOG["float32"]),
    np.dtype(np.float64): cast(FloatFormat, CATALOG["float64"]),
}
_UNSIGNED = ((8, np.uint8), (16, np.uint16), (32, np.uint32), (64, np.uint64))


def quantize(
    x: T,
    fmt: str | Format,
    *,
    rounding: AnyRounding = "nearest_even",
    overflow: str | Overflow = "saturate",
    seed: int = 0,
    stream: int = 0,
    random_bits: Array | None = None,
) -> T:
    """Each element of x rounded to a value of the format.

    Args:
        x: float32 or float64 array or CPU tensor of any shape, or a number; not changed.
        fmt: a name, an alias, a custom eXmY or intN, or a `Format`.
        rounding: a name of `Rounding`, or `Stochastic(bits=k, rule=...)`.
        overflow: what magnitudes beyond the largest value become, infinity included.
        seed, stream: select the Philox bits of stochastic rounding; element i in row-major order
            always gets the same bits.
        random_bits: integers in 0 .. 2^k - 1 of x's shape, used in place of Philox.

    Returns:
        Same kind, dtype and shape as x, contiguous, outside of autograd. Rounded once from the
        exact input: there is no double rounding. The sign of zero is kept where the format has
        one. NaN stays NaN.

    Raises:
        InputError: unknown names; a dtype that cannot hold every value of the format; NaN where
            the format has none; an overflow policy that the format cannot express.
    """
    array, rebuild = _as_numpy(x)
    row = get_format(fmt)
    if (table := table_of(row)) is not None:
        random = _random(array, rounding, seed, stream, random_bits)
        return rebuild(quantize_table(array, table, rounding, overflow, random))
    row = cast(GridFormat, row)
    _check_container(row, array.dtype)
    out = np.empty(array.shape, array.dtype)
    _round_into(array, out, row, rounding, overflow, seed, stream, random_bits)
    return rebuild(out)


def encode(
    x: T,
    fmt: str | Format,
    *,
    rounding: AnyRounding = "nearest_even",
    overflow: str | Overflow = "saturate",
    seed: int = 0,
    stream: int = 0,
    random_bits: Array | None = None,
) -> T:
    """The codes of `quantize(x, ...)`: uint8, 16, 32 or 64, whichever is the least that holds them.

    Arguments and errors as `quantize`. Integers are two's complement in their low bits.
    """
    array, rebuild = _as_numpy(x)
    row = get_format(fmt)
    if (table := table_of(row)) is not None:
        random = _random(array, rounding, seed, stream, random_bits)
        return rebuild(encode_table(array, table, rounding, overflow, random))
    row = cast(GridFormat, row)
    values = np.empty(array.shape, np.float64)
    _round_into(array, values, row, rounding, overflow, seed, stream, random_bits)
    dtype = next(d for width, d in _UNSIGNED if row.bits <= width)
    return rebuild(_codes(values, row).astype(dtype))


def decode(codes: T, fmt: str | Format) -> T:
    """The values of unsigned integer codes: float32 where that holds the format, else float64.

    Raises:
        InputError: `codes` is not an unsigned integer array, or holds a code of too many bits.
    """
    array, rebuild = _as_numpy(codes, integers=True)
    row = get_format(fmt)
    if array.size and int(array.max()) >= 2**row.bits:
        raise InputError(
            f"decode: code {int(array.max())} is not one of 0 to {2**row.bits - 1} ({row.name})"
        )
    if (table := table_of(row)) is not None:
        return rebuild(decode_table(array, table))
    row = cast(GridFormat, row)
    narrow = fits(row, _CONTAINERS[np.dtype(np.float32)])
    values = decode_grid(array, row)
    return rebuild(values.astype(np.float32) if narrow else values)


def _as_numpy(x: T, integers: bool = False) -> tuple[Array, Callable[[Array], T]]:
    """x as a contiguous array, and how to make x's kind out of a result."""
    rebuild: Callable[[Array], Any] = np.asarray
    if isinstance(x, torch.Tensor):
        if x.device.type != "cpu":
            raise InputError(f"tensor on {x.device}: formats work on the CPU; pass x.cpu()")
        if x.dtype in (torch.float16, torch.bfloat16):
            raise InputError(f"dtype {x.dtype} is not one of float32, float64; pass x.float()")
        array, rebuild = x.detach().numpy(), torch.from_numpy
    elif isinstance(x, int | float):
        array, rebuild = np.asarray(x, np.uint64 if integers else np.float64), _number
    else:
        array = np.asarray(x)
    allowed = "unsigned integers" if integers else "float32, float64"
    if not (array.dtype.kind == "u" if integers else array.dtype in _CONTAINERS):
        raise InputError(f"dtype {array.dtype} is not one of {allowed}; convert it first")
    return np.ascontiguousarray(array).reshape(array.shape), cast(Callable[[Array], T], rebuild)


def _number(out: Array) -> Any:
    return np.asarray(out).item()


def _check_container(row: GridFormat, dtype: np.dtype[Any]) -> None:
    if not fits(row, _CONTAINERS[dtype]):
        raise InputError(
            f"{dtype} cannot hold every value of {row.name}; pass a float64 array"
            if dtype == np.float32
            else f"{dtype} cannot hold every value of {row.name}"
        )


def _round_into(
    x: Array,
    out: Array,
    row: GridFormat,
    rounding: AnyRounding,
    overflow: str | Overflow,
    seed: int,
    stream: int,
    random_bits: Array | None,
) -> None:
    policy = get_overflow(overflow)
    _check_policy(x, row, policy)
    if isinstance(row, FixedFormat) and policy is Overflow.WRAP:
        scaled = np.ldexp(x.astype(np.float64), row.fraction_bits)
        whole = np.empty(x.shape, np.float64)
        _round_into(scaled, whole, row.integer, rounding, policy, seed, stream, random_bits)
        out[...] = whole * row.quantum
        return
    mode, bits = kernel_mode(get_rounding(rounding))
    start_threads()
    flat, target = x.reshape(-1), out.reshape(-1)
    code = OVERFLOW_CODES[policy.value]
    if random_bits is None or bits == 0:
        key = np.uint64(seed % 2**64), np.uint64(stream % 2**64)
        loops.quantize_array(flat, target, row.grid, mode, code, bits, *key)
    else:
        random = _checked(random_bits, x, bits)
        loops.quantize_with_bits(flat, target, row.grid, mode, code, bits, random.reshape(-1))
    if isinstance(row, FloatFormat) and row.infinity and not row.signed:
        out[np.isneginf(out)] = np.nan  # the grid has no word for a format with +infinity alone


def _checked(random_bits: Array, x: Array, bits: int) -> Array:
    """The caller's random integers, refused unless they fit."""
    random = np.ascontiguousarray(random_bits).reshape(np.shape(random_bits))
    if random.shape != x.shape or random.dtype.kind not in "iu":
        raise InputError(
            f"random_bits: {random.dtype} {random.shape} are not integers of shape {x.shape}"
        )
    if random.size and not 0 <= int(random.min()) <= int(random.max()) < 2**bits:
        raise InputError(
            f"random_bits: {random.min()} to {random.max()} is not within 0 to {2**bits - 1}"
        )
    return random


def _random(
    x: Array, rounding: AnyRounding, seed: int, stream: int, random_bits: Array | None
) -> Array | None:
    """The random integers of stochastic rounding for a table: the caller's, or Philox bits."""
    mode = get_rounding(rounding)
    if not isinstance(mode, Stochastic):
        return None
    if random_bits is not None:
        return _checked(random_bits, x, mode.bits)
    scratch = np.empty(x.size + 8, np.uint32)
    key = np.uint64(seed % 2**64), np.uint64(stream % 2**64)
    words = fill_words(scratch, *key, np.uint64(0), x.size)
    return np.asarray(words >> np.uint32(32 - mode.bits)).reshape(x.shape)


def _check_policy(x: Array, row: GridFormat, policy: Overflow) -> None:
    """Refuse what the format has no code for: a policy, or NaN."""
    if policy is Overflow.WRAP and (isinstance(row, FloatFormat) or row.symmetric):
        raise InputError(
            f'overflow = "wrap" is for integers that use all codes, not {row.name}; use saturate'
        )
    if row.grid.has_nan:
        return
    lacks_infinity = policy is Overflow.INFINITY and not row.grid.has_infinity
    if lacks_infinity or policy is Overflow.NAN:
        raise InputError(f'overflow = "{policy}": {row.name} has no code for it; use saturate')
    missing = int(np.isnan(x).sum())
    if missing:
        raise InputError(f"{missing} NaN in the input: {row.name} has no NaN; remove them first")
    if policy is Overflow.WRAP and not np.isfinite(x).all():
        raise InputError(f"infinity in the input cannot wrap into {row.name}; use saturate")


def _codes(values: NDArray[np.float64], row: GridFormat) -> NDArray[np.uint64]:
    """Codes of values on the grid."""
    if not isinstance(row, FloatFormat):
        whole = values if not isinstance(row, FixedFormat) else values / row.quantum
        return whole.astype(np.int64).astype(np.uint64) & np.uint64(2**row.bits - 1)
    if row.name == "float64":
        return values.view(np.uint64)
    codes = np.empty(values.shape, np.uint64)
    infinity = row.infinity_body if row.infinity else 0
    nan = nan_code(row) if row.grid.has_nan else 0
    loops.encode_array(values.reshape(-1), codes.reshape(-1), row.grid, row.bits, infinity, nan)
    return codes
