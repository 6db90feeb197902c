"""Conversion of arrays into formats whose values follow from widths: floats and integers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import loops
from .errors import InputError
from .format import FLOAT32, FloatFormat, GridFormat, fits
from .jit import start_threads
from .lanes import GENERAL, Plan, make_plan
from .random import fill_random, random_dtype
from .reference import nan_code
from .rounding import Flush, Overflow, Rounding, Stochastic, kernel_mode

Array = NDArray[Any]
Run = Callable[..., None]
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

    def drawn(self, x: Array) -> Array | None:
        """The random integers, one an element of x: the caller's, or Philox's."""
        if not isinstance(self.rounding, Stochastic) or self.random is not None:
            return self.random
        k = self.rounding.bits
        room = np.empty(x.size + 32, random_dtype(k))
        key = np.uint64(self.seed % 2**64), np.uint64(self.stream % 2**64)
        return np.asarray(fill_random(room, k, *key, np.uint64(0), x.size)).reshape(x.shape)


def quantize_grid(x: Array, row: GridFormat, how: Conversion) -> Array:
    """Each element of a contiguous float32 or float64 array on the format's grid; same dtype.

    Raises:
        InputError: NaN, infinity or a policy that the format has no code for.
    """
    check_policy(x, row, how.overflow)
    out = np.empty(x.shape, x.dtype)
    flat, target = _flushed_inputs(x, how.flush).reshape(-1), out.reshape(-1)
    plan, given, key = _plan(row, how, x.dtype)
    _spread(loops.round_short, loops.round_array, flat.size)(flat, target, given, *plan, *key)
    if how.flush in (Flush.OUTPUTS, Flush.BOTH) and isinstance(row, FloatFormat):
        start_threads()
        loops.flush_array(target, target, x.dtype.type(row.min_normal))
    return out


def encode_grid(x: Array, row: GridFormat, how: Conversion) -> Array:
    """The codes of `quantize_grid`, in the least unsigned dtype that holds them."""
    dtype = next(d for width, d in _UNSIGNED if row.bits <= width)
    if how.flush in (Flush.OUTPUTS, Flush.BOTH) or not fits(row, FLOAT32):
        x = x.astype(np.float64)
    plan, given, key = _plan(row, how, x.dtype)
    if plan.lane.one.dtype != x.dtype:
        x = x.astype(np.float64)
    straight = plan.kind != GENERAL and not _is_float64(row)
    if not straight or how.flush in (Flush.OUTPUTS, Flush.BOTH):
        return _codes(quantize_grid(x.astype(np.float64), row, how), row).astype(dtype)
    check_policy(x, row, how.overflow)
    flat = _flushed_inputs(x, how.flush).reshape(-1)
    codes = np.empty(x.shape, dtype)
    whole = not isinstance(row, FloatFormat)
    run = _spread(loops.encode_short, loops.encode_lanes, flat.size)
    run(flat, codes.reshape(-1), given, whole, *plan, *key)
    return codes


def _spread(short: Run, spread: Run, size: int) -> Run:
    """The kernel for so many elements."""
    if size <= loops.CHUNK:
        return short
    start_threads()
    return spread


def _plan(
    row: GridFormat, how: Conversion, dtype: np.dtype[Any]
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
    start_threads()
    loops.flush_array(x.reshape(-1), out.reshape(-1), np.finfo(x.dtype).smallest_normal)
    return out


def check_policy(x: Array, row: GridFormat, policy: Overflow) -> None:
    """Refuse what the format has no code for: a policy, or NaN.

    Raises:
        InputError: `wrap` for a float, `infinity`, `propagate` or `nan` for a format with
            neither, NaN in x, or infinity to be wrapped.
    """
    if policy is Overflow.WRAP and (isinstance(row, FloatFormat) or row.symmetric):
        raise InputError(
            f'overflow = "wrap" is for integers that use all codes, not {row.name}; use saturate'
        )
    if row.grid.has_nan:
        return
    if policy in (Overflow.INFINITY, Overflow.NAN, Overflow.PROPAGATE):
        if not (row.grid.has_infinity and row.grid.lowest < 0 and policy is not Overflow.NAN):
            raise InputError(f'overflow = "{policy}": {row.name} has no code for it; use saturate')
    missing = int(np.isnan(x).sum())
    if missing:
        raise InputError(f"{missing} NaN in the input: {row.name} has no NaN; remove them first")
    if policy is Overflow.WRAP and not np.isfinite(x).all():
        raise InputError(f"infinity in the input cannot wrap into {row.name}; use saturate")


def _is_float64(row: GridFormat) -> bool:
    """Whether the codes are those of float64, whatever the name: the bits of the values."""
    return isinstance(row, FloatFormat) and row.bits == 64


def _codes(values: NDArray[np.float64], row: GridFormat) -> NDArray[np.uint64]:
    """Codes of values on the grid."""
    if not isinstance(row, FloatFormat):
        steps = np.ldexp(values, -row.grid.min_exponent + row.grid.subnormal_fraction_bits)
        return steps.astype(np.int64).astype(np.uint64) & np.uint64(2**row.bits - 1)
    if _is_float64(row):
        return values.view(np.uint64)
    codes = np.empty(values.shape, np.uint64)
    start_threads()
    infinity = row.infinity_body if row.infinity else 0
    nan = nan_code(row) if row.grid.has_nan else 0
    loops.encode_array(values.reshape(-1), codes.reshape(-1), row.grid, row.bits, infinity, nan)
    return codes
