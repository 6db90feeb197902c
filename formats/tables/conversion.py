"""Rounding to table formats, encoding and decoding: the fast twins of `reference.py`.

One search an element among the float64 edges of the table (see `search.py`), and for stochastic
rounding one more comparison; the rest are a dozen passes of numpy over the array. On one busy
core that took 4 to 10 times as long as the grid kernels, stochastic rounding 10 to 15 times.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..rounding import AnyRounding, Overflow, Rounding, Stochastic, get_overflow, get_rounding
from .search import count_reached
from .table import Table

Array = NDArray[Any]
_STOPS = (Rounding.TOWARD_ZERO, Rounding.TO_ODD)


def quantize_table(
    x: Array,
    table: Table,
    rounding: AnyRounding = Rounding.NEAREST_EVEN,
    overflow: str | Overflow = Overflow.SATURATE,
    random: Array | None = None,
) -> Array:
    """Each element of x rounded to a value of the table, in the dtype of x.

    Args:
        x: float32 or float64, any shape.
        table: the `table` of a format.
        rounding: as for `quantize`; nearest is the format's own rule.
        overflow: "saturate", or what the format has codes for.
        random: integers r in 0 .. 2^k - 1 of x's shape, for `Stochastic` alone.

    Returns:
        Values rounded once from the exact rung to the dtype of x. NaN stays NaN. The sign of
        zero is kept where the format has one.

    Raises:
        InputError: NaN or an overflow policy that the format has no code for; float32 that
            cannot hold the range; stochastic rounding without `random`.
    """
    values = table.values if x.dtype == np.float64 else table.values32
    if values is None:
        raise InputError(f"float32 cannot hold the range of {table.name}; pass a float64 array")
    rung, negative, special = _placed(x, table, rounding, overflow, random)
    out = values[rung]
    if table.mirrored:
        flag = negative if table.signed_zero else negative & (out != 0)
        out = np.where(flag, -out, out)
    if special is None:
        return np.asarray(out)
    infinite = np.copysign(np.inf, x).astype(out.dtype)
    return np.where(special == 2, infinite, np.where(special == 1, out.dtype.type(np.nan), out))


def encode_table(
    x: Array,
    table: Table,
    rounding: AnyRounding = Rounding.NEAREST_EVEN,
    overflow: str | Overflow = Overflow.SATURATE,
    random: Array | None = None,
) -> Array:
    """The codes of `quantize_table(x, ...)`, uint8 or uint16; arguments and errors as there."""
    rung, negative, special = _placed(x, table, rounding, overflow, random)
    codes = np.asarray(rung, np.int64)
    if table.mirrored and table.negative == "twos_complement":
        codes = np.where(negative, -codes & (2**table.bits - 1), codes)
    elif table.mirrored and table.negative == "sign_bit":
        flag = negative & (table.signed_zero | (table.values[rung] != 0))
        codes = codes | (flag.astype(np.int64) << (table.bits - 1))
    if special is not None and table.infinity is not None:
        sign = np.signbit(x).astype(np.int64) << (table.bits - 1)
        codes = np.where(special == 2, table.infinity | sign, codes)
    if special is not None and table.nan is not None:
        codes = np.where(special == 1, table.nan, codes)
    return codes.astype(np.uint8 if table.bits <= 8 else np.uint16)


def decode_table(codes: Array, table: Table) -> Array:
    """The values of unsigned codes: float32 where that holds the format, else float64."""
    return np.asarray(table.by_code[codes])


def check_policy(x: Array, table: Table, policy: Overflow) -> None:
    """Refuse a policy, or NaN, that the table has no code for."""
    if policy is Overflow.WRAP:
        raise InputError(f'overflow = "wrap" is for integers, not {table.name}; use saturate')
    if policy is not Overflow.SATURATE and table.not_real:
        raise InputError(
            f'overflow = "{policy}": {table.name} stops at its largest value, as posits do; '
            "use saturate"
        )
    if policy is not Overflow.SATURATE and table.nan is None:
        raise InputError(f'overflow = "{policy}": {table.name} has no code for it; use saturate')
    missing = int(np.isnan(x).sum()) if table.nan is None else 0
    if missing:
        raise InputError(f"{missing} NaN in the input: {table.name} has no NaN; remove them first")


def _placed(
    x: Array, table: Table, rounding: AnyRounding, overflow: str | Overflow, random: Array | None
) -> tuple[Array, Array, Array | None]:
    """(rung, sign, special) of each element; special is 1 for NaN, 2 for infinity, else 0.

    It is None where all elements are numbers that stay numbers.
    """
    policy, mode = get_overflow(overflow), get_rounding(rounding)
    check_policy(x, table, policy)
    wide = x.astype(np.float64, copy=False)
    negative = np.signbit(x)
    lost = np.isnan(wide)
    any_lost = bool(lost.any())
    wide = np.abs(wide) if table.mirrored else wide
    if any_lost:
        wide = np.where(lost, 0.0, wide)
    flat = wide.reshape(-1)
    rung = _rungs(flat, negative.reshape(-1), table, mode, random).reshape(x.shape)
    over = rung > table.top
    if table.negative == "none" and table.mirrored:  # below the least value of unsigned formats
        under = negative & (rung > 0)
        rung = np.where(under, 0, rung)
        over |= under
    special = None
    if any_lost or table.not_real or policy is not Overflow.SATURATE:
        infinite = np.isinf(wide)
        special = _special(over | infinite, infinite, negative, table, mode, policy)
        special = np.where(lost, 1, special)
    return np.minimum(rung, table.top) if table.beyond else rung, negative, special


def _special(
    over: Array, infinite: Array, negative: Array, table: Table, mode: Rounding | Stochastic,
    policy: Overflow,
) -> Array:  # fmt: skip
    """What became of the elements past the ends: 0 saturated, 1 NaN, 2 infinity."""
    if table.not_real:
        return np.asarray(infinite, np.int64)
    if policy is Overflow.SATURATE:
        return np.zeros(over.shape, np.int64)
    if policy is Overflow.PROPAGATE:
        over = infinite
    if policy is Overflow.NAN or table.infinity is None:
        return over.astype(np.int64)
    stops = np.full(over.shape, mode in _STOPS)
    stops |= negative & (mode is Rounding.UP)
    stops |= ~negative & (mode is Rounding.DOWN)
    found = np.where(negative & (table.negative == "none"), 1, 2)
    return np.where(over & ~(stops & ~infinite), found, 0)


def _rungs(
    x: Array, negative: Array, table: Table, mode: Rounding | Stochastic, random: Array | None
) -> Array:
    """The rung that each x goes to; the ends are never passed."""
    if mode is Rounding.NEAREST_EVEN:
        return count_reached(x, table.even_edges)
    if mode is Rounding.NEAREST_AWAY:
        return count_reached(x, table.away_edges)
    low = count_reached(x, table.floor_edges) - 1
    inside = (low >= 0) & (low < len(table.floors) - 1)
    low = np.clip(low, 0, len(table.floors) - 1)
    inside &= ~(table.on_floor[low] & (x == table.floors[low]))
    rung = low.copy()
    at = np.flatnonzero(inside)
    rung[at] += _goes_up(x[at], low[at], negative[at], table, mode, random, at)
    return np.asarray(rung)


def _goes_up(
    x: Array, low: Array, negative: Array, table: Table, mode: Rounding | Stochastic,
    random: Array | None, at: Array,
) -> Array:  # fmt: skip
    """Whether x, strictly between two rungs, goes to the upper one."""
    if isinstance(mode, Stochastic):
        if random is None:
            raise InputError(f"{table.name}: stochastic rounding needs random integers; pass them")
        return _drawn_up(x, low, negative, table, mode, random.reshape(-1)[at].astype(np.int64))
    turned = negative & table.mirrored
    match mode:
        case Rounding.TOWARD_ZERO:
            return negative & (not table.mirrored)
        case Rounding.UP:
            return ~turned
        case Rounding.DOWN:
            return turned
        case _:
            return np.asarray(table.odd[low + 1])


def _drawn_up(
    x: Array, low: Array, negative: Array, table: Table, mode: Stochastic, r: Array
) -> Array:
    """Stochastic rounding as one comparison with a threshold that depends on r.

    With d the share of the gap below |x|, and 2^k = whole: srff goes up iff d >= 1 - r / whole;
    srf iff d >= 1 - (r + 1/2) / whole; src iff RNE(whole d) >= whole - r, that is d above
    1 - (r + 1/2) / whole, or there and whole - r even.
    """
    whole = 1 << mode.bits
    t = 2 * (whole - r) - (mode.rule != "srff")
    takes = np.ones(x.shape, bool) if mode.rule != "src" else r % 2 == 0
    down = negative & (not table.mirrored)  # there d counts from the upper rung
    edges, exact = table.cut(x, low, np.where(down, 2 * whole - t, t), 2 * whole)
    tie = exact & (x == edges)
    above = (x > edges) | ((x == edges) & ~exact)
    return np.asarray(above | (tie & np.where(down, ~takes, takes)))
