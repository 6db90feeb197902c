"""Formats that are a list of values, for tensors on CUDA devices: a search, then choices.

The search is a Triton kernel that compares float64 numbers; everything else is a choice among
integers or values by torch's own operations, none of which rounds. Stochastic rounding asks for
thresholds that are rationals, which Python decides: it has no kernel.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..rounding import AnyRounding, Overflow, Rounding, Stochastic, get_rounding
from ..tables.conversion import check_policy
from ..tables.search import Edges
from ..tables.table import Table
from .launch import blocks, launch
from .place import NoKernel

_BLOCK = 1024


def quantize_by_table(x: Tensor, table: Table, rounding: AnyRounding, overflow: Overflow) -> Tensor:
    """`tables.conversion.quantize_table` of a contiguous float32 or float64 tensor."""
    listed = table.values if x.dtype is torch.float64 else table.values32
    if listed is None:
        raise InputError(f"float32 cannot hold the range of {table.name}; pass a float64 array")
    values = _tensor(table, "values" if x.dtype is torch.float64 else "values32", x.device)
    rung, negative, special = _placed(x, table, rounding, overflow)
    out = values[rung]
    if table.mirrored:
        flag = negative if table.signed_zero else negative & (out != 0)
        out = torch.where(flag, -out, out)
    infinite = torch.copysign(torch.full_like(x, torch.inf), x)
    return torch.where(special == 2, infinite, torch.where(special == 1, torch.nan, out))


def encode_by_table(x: Tensor, table: Table, rounding: AnyRounding, overflow: Overflow) -> Tensor:
    """`tables.conversion.encode_table`: uint8 or, beyond 8 bits, uint16."""
    codes, negative, special = _placed(x, table, rounding, overflow)
    if table.mirrored and table.negative == "twos_complement":
        codes = torch.where(negative, -codes & (2**table.bits - 1), codes)
    elif table.mirrored and table.negative == "sign_bit":
        nonzero = _tensor(table, "values", x.device)[codes] != 0
        flag = negative & (nonzero | table.signed_zero)
        codes = codes | (flag.to(torch.int64) << (table.bits - 1))
    if table.infinity is not None:
        sign = negative.to(torch.int64) << (table.bits - 1)
        codes = torch.where(special == 2, sign | table.infinity, codes)
    if table.nan is not None:
        codes = torch.where(special == 1, table.nan, codes)
    return codes.to(torch.uint8 if table.bits <= 8 else torch.uint16)


def _placed(
    x: Tensor, table: Table, rounding: AnyRounding, overflow: Overflow
) -> tuple[Tensor, Tensor, Tensor]:
    """(rung, sign, what else: 1 NaN, 2 infinity, 0 a number) of each element."""
    mode = get_rounding(rounding)
    if isinstance(mode, Stochastic):
        raise NoKernel(f"stochastic rounding to {table.name}, a table of values")
    check_policy(np.empty(0), table, overflow)
    lost = torch.isnan(x)
    if table.nan is None and bool(lost.any()):
        missing = int(lost.sum())
        raise InputError(f"{missing} NaN in the input: {table.name} has no NaN; remove them first")
    negative = torch.signbit(x)
    wide = x.to(torch.float64)
    wide = torch.where(lost, 0.0, wide.abs() if table.mirrored else wide)
    rung = _rungs(wide, negative, table, mode)
    over = rung > table.top
    if table.negative == "none" and table.mirrored:
        under = negative & (rung > 0)
        rung = torch.where(under, 0, rung)
        over = over | under
    special = _special(over, torch.isinf(wide), negative, table, mode, overflow)
    return rung.clamp(max=table.top), negative, torch.where(lost, 1, special)


def _special(
    over: Tensor, infinite: Tensor, negative: Tensor, table: Table, mode: Rounding, policy: Overflow
) -> Tensor:
    """As `tables.conversion._special`."""
    if table.not_real:
        return infinite.to(torch.int64)
    if policy is Overflow.SATURATE:
        return torch.zeros_like(over, dtype=torch.int64)
    over = infinite if policy is Overflow.PROPAGATE else over | infinite
    if policy is Overflow.NAN or table.infinity is None:
        return over.to(torch.int64)
    stops = torch.full_like(negative, mode in (Rounding.TOWARD_ZERO, Rounding.TO_ODD))
    if mode is Rounding.UP:
        stops = negative
    if mode is Rounding.DOWN:
        stops = ~negative
    found = torch.full_like(over, 2, dtype=torch.int64)
    if table.negative == "none":
        found = torch.where(negative, 1, found)
    return torch.where(over & ~(stops & ~infinite), found, 0)


def _rungs(x: Tensor, negative: Tensor, table: Table, mode: Rounding) -> Tensor:
    """The rung that each x goes to; the ends are never passed."""
    if mode is Rounding.NEAREST_EVEN:
        return _reached(x, table, "even_edges")
    if mode is Rounding.NEAREST_AWAY:
        return _reached(x, table, "away_edges")
    low = _reached(x, table, "floor_edges") - 1
    inside = (low >= 0) & (low < len(table.floors) - 1)
    low = low.clamp(0, len(table.floors) - 1)
    floors, exact = _tensor(table, "floors", x.device), _tensor(table, "on_floor", x.device)
    inside = inside & ~(exact[low] & (x == floors[low]))
    turned = negative & table.mirrored
    if mode is Rounding.TOWARD_ZERO:
        up = negative & (not table.mirrored)
    elif mode is Rounding.UP:
        up = ~turned
    elif mode is Rounding.DOWN:
        up = turned
    else:
        up = _tensor(table, "odd", x.device)[(low + 1).clamp(max=len(table.odd) - 1)]
    return low + (inside & up).to(torch.int64)


def _reached(x: Tensor, table: Table, name: str) -> Tensor:
    """How many of a table's edges each float64 x, no NaN, is at or above."""
    from .triton import conversion as kernels

    edges = _tensor(table, name, x.device)
    out = torch.empty(x.shape, dtype=torch.int32, device=x.device)
    launch(
        kernels.count_reached, (blocks(x.numel(), _BLOCK),), x, edges, out, x.numel(),
        EDGES=len(edges), STEPS=len(edges).bit_length(), BLOCK=_BLOCK,
    )  # fmt: skip
    return out.to(torch.int64)


@lru_cache(maxsize=256)
def _tensor(table: Table, name: str, device: torch.device) -> Tensor:
    field: Any = getattr(table, name)
    array = field.edges if isinstance(field, Edges) else field
    return torch.from_numpy(np.array(array)).to(device)
