"""quantize, encode and decode for tensors on CUDA devices: the arguments of the Triton kernels."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..format import FLOAT32, FloatFormat, GridFormat, fits
from ..random import random_dtype
from ..rounding import AnyRounding, Flush, Overflow, Stochastic, get_rounding, kernel_mode
from .launch import blocks, launch
from .target import DOUBLE, NO_CODE, SINGLE, Code, Target, make_code, make_target

UNSIGNED = ((8, torch.uint8), (16, torch.uint16), (32, torch.uint32), (64, torch.uint64))
#: Elements of a program of the conversion kernel.
PROGRAM = 2048
#: The most random bits that float32 lanes carry: srf holds 2 r + 1 in 31 bits.
_NARROW_BITS = 28


class Random(NamedTuple):
    """Random integers of a conversion: the caller's, flat, or Philox's of a seed and a stream."""

    seed: int = 0
    stream: int = 0
    given: Tensor | None = None


class Table(NamedTuple):
    """Factors of blocks, flat, and where the blocks lie (`formats.blocks.kernels.Layout`).

    how: 1 fl(x m), 2 fl(x / m), 3 x m exactly.
    """

    multipliers: Tensor | None
    totals: Tensor | None
    how: int
    columns: int
    rows: int = 1
    inner: int = 1
    tile_rows: int = 1
    tile_columns: int = 1

    @property
    def places(self) -> tuple[int, ...]:
        """As the kernels take it."""
        down, across = blocks(self.rows, self.tile_rows), blocks(self.columns, self.tile_columns)
        sizes = (self.columns, self.rows, self.inner, self.tile_rows, self.tile_columns)
        return *(max(n, 1) for n in sizes), down, across


def round_tensor(
    x: Tensor,
    row: GridFormat,
    rounding: AnyRounding,
    overflow: Overflow,
    random: Random,
    *,
    table: Table | None = None,
    codes: bool = False,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Each element of x, scaled by the table, as a value of the format, or as its code.

    x: contiguous; of float16, bfloat16, float32 or float64. The result has x's shape and, if it
    holds values, `dtype`, or x's own.
    """
    mode, k = kernel_mode(get_rounding(rounding))
    target, code, out_kind = _compiled(x.dtype, row, mode, k, overflow, codes, table)
    kind = dtype or x.dtype
    if codes:
        kind = next(d for width, d in UNSIGNED if row.bits <= width)
    out = torch.empty(x.shape, dtype=kind, device=x.device)
    run_conversion(x, out, random, target, code, out_kind, table)
    return out


def _compiled(
    dtype: torch.dtype, row: GridFormat, mode: int, k: int, overflow: Overflow, codes: bool,
    table: Table | None,
) -> tuple[Target, Code, int]:  # fmt: skip
    wide = dtype is torch.float64 or k > _NARROW_BITS or overflow is Overflow.WRAP
    # float32's subnormals do not show the binade that a grid below 2^-126 rounds them in.
    wide = wide or not fits(row, FLOAT32) or row.grid.min_exponent < FLOAT32.min_exponent
    wide = wide or (table is not None and table.how == 3)
    layout = DOUBLE if wide else SINGLE
    target = make_target(row.grid, layout, mode, k, overflow)
    if not codes:
        return target, NO_CODE, 0
    return target, make_code(row, layout), 1 if isinstance(row, FloatFormat) else 2


def run_conversion(
    x: Tensor, out: Tensor, random: Random, target: Target, code: Code = NO_CODE, kind: int = 0,
    table: Table | None = None,
) -> None:  # fmt: skip
    """The kernel over flat x and out, contiguous."""
    from .triton import conversion as kernels

    width = 8 * np.dtype(random_dtype(target.k)).itemsize if target.k else 8
    table = table or Table(None, None, 0, 1)
    each = PROGRAM * width // 128
    count = x.numel()
    launch(
        kernels.convert, (blocks(count, PROGRAM),),
        _carrier(x), _carrier(out), random.given if random.given is not None else x,
        x if table.multipliers is None else table.multipliers,
        x if table.totals is None else table.totals,
        count, *key_of(random.seed, random.stream), *table.places,
        t=target, c=code, SCALE=table.how, RESTORE=table.totals is not None, OUT=kind,
        GIVEN=random.given is not None, WIDTH=width, BLOCKS=each,
    )  # fmt: skip


def key_of(seed: int, stream: int) -> tuple[int, int]:
    """Seed and stream as the int64 arguments of a kernel."""
    return tuple((n + 2**63) % 2**64 - 2**63 for n in (seed, stream))  # type: ignore[return-value]


def _carrier(x: Tensor) -> Tensor:
    """Unsigned integers of 16 bits and more as the signed ones of their width."""
    kinds = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}
    return x.view(kinds[x.dtype]) if x.dtype in kinds else x


def flushed(x: Tensor, smallest: float) -> Tensor:
    """Magnitudes below `smallest` as zeros of their sign: a comparison and a choice, no sum."""
    limit = torch.tensor(smallest, dtype=x.dtype, device=x.device)
    return torch.where(x.abs() < limit, torch.copysign(torch.zeros_like(x), x), x)


def flush_inputs(x: Tensor, flush: Flush) -> Tensor:
    """Subnormals of x's own dtype as zeros, where they are flushed."""
    if flush not in (Flush.INPUTS, Flush.BOTH):
        return x
    return flushed(x, torch.finfo(x.dtype).smallest_normal)


def check_policy(x: Tensor, row: GridFormat, policy: Overflow) -> None:
    """As `grid_conversion.check_policy`; formats without NaN cost one reduction and a wait.

    Raises:
        InputError: a policy, a NaN or an infinity that the format has no code for.
    """
    from ..grid_conversion import check_policy as check

    check(np.empty(0), row, policy)
    if row.grid.has_nan:
        return
    if missing := int(torch.isnan(x).sum()):
        raise InputError(f"{missing} NaN in the input: {row.name} has no NaN; remove them first")
    if policy is Overflow.WRAP and not bool(torch.isfinite(x).all()):
        raise InputError(f"infinity in the input cannot wrap into {row.name}; use saturate")


def decode_tensor(codes: Tensor, row: GridFormat) -> Tensor:
    """Values of codes: by a table up to 16 bits, else by integer operations of torch's."""
    from ..codes import every_value
    from .codes import check_codes, decode_on_device

    if row.bits > 16:
        return decode_on_device(codes, row)
    check_codes(codes, row)
    return look_up(codes, _on(every_value, row, codes.device))


@lru_cache(maxsize=64)
def _on(make: Any, row: Any, device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(make(row))).to(device)


def look_up(codes: Tensor, table: Tensor) -> Tensor:
    """table[codes], in the shape of the codes."""
    from .triton import conversion as kernels

    codes = codes.contiguous()
    wide = codes if codes.dtype is torch.uint8 else codes.to(torch.int32)
    out = torch.empty(codes.shape, dtype=table.dtype, device=codes.device)
    launch(kernels.look_up, (blocks(codes.numel(), 1024),), wide, table, out, codes.numel(),
           BLOCK=1024)  # fmt: skip
    return out


def is_stochastic(rounding: AnyRounding) -> bool:
    """Whether a rounding draws bits."""
    return isinstance(get_rounding(rounding), Stochastic)
