"""Conversion of arrays into formats whose values follow from widths: floats and integers."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import loops
from .errors import InputError
from .format import FLOAT32, ArithmeticFormat, FloatFormat, IntegerFormat, fits
from .jit import start_threads
from .lanes import GENERAL, Plan, make_plan
from .random import random_dtype
from .reference import nan_code
from .rounding import Flush, Overflow, Rounding, Stochastic, kernel_mode

Array = NDArray[Any]
_UNSIGNED = ((8, np.uint8), (16, np.uint16), (32, np.uint32), (64, np.uint64))


class Conversion(NamedTuple):
    """How numbers become a format's, all of it checked.

    `random`: the caller's integers below 2^k, one an element, or None for Philox's.
    """

    rounding: Rounding | Stochastic
    overflow: Overflow
    flush: Flush
    seed: int
    stream: int
    random: Array | None


def quantize_grid(x: Array, row: ArithmeticFormat, how: Conversion) -> Array:
    """Each element of a contiguous float32 or float64 array on the format's grid; same dtype.

    Raises:
        InputError: NaN, infinity or a policy that the format has no code for.
    """
    check_policy(x, row, how.overflow)
    start_threads()
    out = np.empty(x.shape, x.dtype)
    flat, target = _flushed_inputs(x, how.flush).reshape(-1), out.reshape(-1)
    plan, given, key = _plan(row, how, x.dtype)
    loops.round_array(flat, target, given, *plan, *key)
    if how.flush in (Flush.OUTPUTS, Flush.BOTH) and isinstance(row, FloatFormat):
        loops.flush_array(target, target, x.dtype.type(row.min_normal))
    return out


def encode_grid(x: Array, row: ArithmeticFormat, how: Conversion) -> Array:
    """The codes of `quantize_grid`, in the least unsigned dtype that holds them."""
    dtype = next(d for width, d in _UNSIGNED if row.bits <= width)
    if how.flush in (Flush.OUTPUTS, Flush.BOTH) or not fits(row, FLOAT32):
        x = x.astype(np.float64)
    plan, given, key = _plan(row, how, x.dtype)
    if plan.lane.one.dtype != x.dtype:
        x = x.astype(np.float64)
    straight = plan.kind != GENERAL and row.name != "float64"
    if not straight or how.flush in (Flush.OUTPUTS, Flush.BOTH):
        return _codes(quantize_grid(x.astype(np.float64), row, how), row).astype(dtype)
    check_policy(x, row, how.overflow)
    start_threads()
    flat = _flushed_inputs(x, how.flush).reshape(-1)
    codes = np.empty(x.shape, dtype)
    whole = not isinstance(row, FloatFormat)
    loops.encode_lanes(flat, codes.reshape(-1), given, whole, *plan, *key)
    return codes


def _plan(
    row: ArithmeticFormat, how: Conversion, dtype: np.dtype[Any]
) -> tuple[Plan, Array, tuple[np.uint64, np.uint64]]:
    """The plan, the random integers in Philox's dtype (empty: to be drawn), seed and stream."""
    mode, bits = kernel_mode(how.rounding)
    plan = make_plan(row, mode, bits, how.overflow, dtype == np.float32)
    kind = random_dtype(bits)
    given: Array = np.empty(0, kind)
    if bits and how.random is not None:
        given = np.ascontiguousarray(how.random, kind).reshape(-1)
    return plan, given, (np.uint64(how.seed % 2**64), np.uint64(how.stream % 2**64))


def _flushed_inputs(x: Array, flush: Flush) -> Array:
    if flush not in (Flush.INPUTS, Flush.BOTH):
        return x
    out = np.empty_like(x)
    loops.flush_array(x.reshape(-1), out.reshape(-1), np.finfo(x.dtype).smallest_normal)
    return out


def check_policy(x: Array, row: ArithmeticFormat, policy: Overflow) -> None:
    """Refuse what the format has no code for: a policy, or NaN.

    Raises:
        InputError: `wrap` for a float, `infinity`, `propagate` or `nan` for a format with
            neither, NaN in x, or infinity to be wrapped.
    """
    if policy is Overflow.WRAP and isinstance(row, FloatFormat):
        raise InputError(f'overflow = "wrap" is for integers, not {row.name}; use saturate')
    if row.grid.has_nan:
        return
    if policy in (Overflow.INFINITY, Overflow.NAN, Overflow.PROPAGATE):
        if not (row.grid.has_infinity and row.grid.lowest < 0 and policy is not Overflow.NAN):
            raise InputError(
                f'overflow = "{policy}": {row.name} has neither infinity nor NaN; use saturate'
            )
    missing = int(np.isnan(x).sum())
    if missing:
        raise InputError(f"{missing} NaN in the input: {row.name} has no NaN; remove them first")
    if policy is Overflow.WRAP and not np.isfinite(x).all():
        raise InputError(f"infinity in the input cannot wrap into {row.name}; use saturate")


def _codes(values: NDArray[np.float64], row: ArithmeticFormat) -> NDArray[np.uint64]:
    """Codes of values on the grid."""
    if not isinstance(row, FloatFormat):
        steps = np.ldexp(values, -row.grid.min_exponent + row.grid.subnormal_fraction_bits)
        return steps.astype(np.int64).astype(np.uint64) & np.uint64(2**row.bits - 1)
    if row.name == "float64":
        return values.view(np.uint64)
    codes = np.empty(values.shape, np.uint64)
    infinity = (2**row.exponent_bits - 1) << row.fraction_bits
    nan = nan_code(row) if row.grid.has_nan else 0
    loops.encode_array(values.reshape(-1), codes.reshape(-1), row.grid, row.bits, infinity, nan)
    return codes


def decode_grid(codes: Array, row: ArithmeticFormat) -> Array:
    """The values of codes: float32 where that holds the format, else float64."""
    narrow = fits(row, FLOAT32)
    if row.bits <= 16:
        return np.take(_table(row, narrow), codes)
    values = _decoded(codes.astype(np.uint64), row)
    return values.astype(np.float32) if narrow else values


@lru_cache(maxsize=64)
def _table(row: ArithmeticFormat, narrow: bool) -> Array:
    """Every value of a format of at most 16 bits, by code."""
    values = _decoded(np.arange(2**row.bits, dtype=np.uint64), row)
    return values.astype(np.float32) if narrow else values


def _decoded(codes: NDArray[np.uint64], row: ArithmeticFormat) -> NDArray[np.float64]:
    """Values of codes, from the fields; every step is exact in float64."""
    if isinstance(row, IntegerFormat):
        signed = codes.astype(np.int64)
        return (
            np.where(codes >> np.uint64(row.bits - 1), signed - 2**row.bits, signed).astype(
                np.float64
            )
            if row.signed
            else codes.astype(np.float64)
        )
    width = np.uint64(row.fraction_bits)
    body = codes & np.uint64(2 ** (row.bits - row.signed) - 1)
    field = (body >> width).astype(np.int64)
    fraction = (body & np.uint64(2**row.fraction_bits - 1)).astype(np.float64)
    subnormal = (field == 0) & row.zero
    whole = np.where(subnormal, 0.0, 2.0**row.fraction_bits) + fraction
    exponent = np.maximum(field - int(row.zero), 0) + row.min_exponent - row.fraction_bits
    values: NDArray[np.float64] = np.ldexp(whole, exponent)
    if not row.subnormals:
        values = np.where(subnormal, 0.0, values)
    top = field == 2**row.exponent_bits - 1
    if row.nan == "ieee":
        infinite = np.inf if row.infinity else np.nan
        values = np.where(top, np.where(fraction == 0, infinite, np.nan), values)
    elif row.nan == "all_ones":
        values = np.where(body == 2 ** (row.bits - row.signed) - 1, np.nan, values)
    if not row.signed:
        return values
    negative = (codes >> np.uint64(row.bits - 1)) != 0
    if row.nan == "negative_zero":
        values = np.where(negative & (body == 0), np.nan, values)
    return np.where(negative, -values, values)
