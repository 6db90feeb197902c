"""Fused orders on a device: scales, special values, and which arithmetic is wide enough."""

from typing import NamedTuple

import torch
from torch import Tensor

from ....formats.device.conversion import key_of
from ....formats.device.target import DOUBLE, Target, make_target
from ....formats.format import ArithmeticFormat, FloatFormat
from ....formats.rounding import Overflow, kernel_mode
from ...order import Fused, Scale
from ..layout import Formats, Place
from .tiles import all_finite, choose_narrow, start

_ZERO = -8192


class Block(NamedTuple):
    """A fused order as the kernel is compiled for it; see `kernels.fused` for the fields."""

    block: int
    fraction_bits: int
    floor: int
    c_floor: int
    scale_block: int
    group: int
    least_a: int
    least_b: int
    exponents: int
    narrow: int
    short: int
    special: int


def _least(fmt: ArithmeticFormat) -> int:
    return fmt.min_exponent if isinstance(fmt, FloatFormat) else 0


def target_of(order: Fused) -> Target:
    """The accumulator; finite sums beyond it are infinite in every rounding."""
    mode, bits = kernel_mode(order.accumulate)
    return make_target(order.result.grid, DOUBLE, mode, bits, Overflow.INFINITY, True)


def _row(order: Fused, formats: Formats, special: bool) -> Block:
    return Block(
        block=order.block,
        fraction_bits=order.fraction_bits,
        floor=order.min_exponent,
        c_floor=order.result.min_exponent,
        scale_block=0,
        group=order.group or 0,
        least_a=_least(formats[0]),
        least_b=_least(formats[1]),
        exponents=0,
        narrow=0,
        short=0,
        special=int(special),
    )


def _key(place: Place) -> tuple[int, ...]:
    """Seed, stream, words before the first k, and words an output."""
    return *key_of(place.seed, place.stream), place.k_first, -(-place.k_all // 4) * 4


def run_fused(
    order: Fused, a: Tensor, b: Tensor, c: Tensor, formats: Formats, place: Place,
    scales: tuple[Tensor, Tensor] | None,
) -> Tensor:  # fmt: skip
    """Fused blocks; what a ragged last one lacks are zero products."""
    from ...kernels.triton import fused as kernels

    if a.shape[2] == 0:
        return c
    scale = order.scale if scales is not None else None
    parts = scales if scales is not None else ()
    special = not all_finite(a, b, c, *parts)
    row = _row(order, formats, special)
    exponents, moves = (a, b), (a, b)
    strides: tuple[int, ...] = (0,) * 6
    if scale is not None and scales is not None:
        if _shifts(order, scale) and not special:
            moves = _exponents(scales[0], scale.fmt), _exponents(scales[1], scale.fmt)
            strides = (*moves[0].stride(), *moves[1].stride())
            row = row._replace(scale_block=scale.block)
        else:
            (a, e), (b, f) = (
                _scaled(x, s, axis, scale, fmt)
                for x, s, axis, fmt in zip((a, b), scales, (2, 1), formats, strict=True)
            )
            exponents, row = (e, f), row._replace(exponents=1)
    if not row.exponents:
        narrow, short = choose_narrow(a, b, formats, order.fraction_bits, order.block)
        row = row._replace(narrow=int(narrow), short=int(short))
    out = c.clone()
    start(
        kernels.matmul, a, b, (out, *exponents, *moves), after=(*strides, *_key(place)), f=row,
        g=target_of(order),
    )  # fmt: skip
    return out


def _shifts(order: Fused, scale: Scale) -> bool:
    """Whether scales move whole blocks: powers of two, constant over each."""
    return scale.fmt.fraction_bits == 0 and scale.block % order.block == 0


def _exponents(x: Tensor, fmt: ArithmeticFormat) -> Tensor:
    """floor(log2 |x|) as int16, subnormals at the format's smallest, zero at -8192."""
    wide = x.double().contiguous()
    e = ((wide.view(torch.int64) >> 52) & 2047) - 1023
    return torch.where(wide == 0, _ZERO, e.clamp(min=_least(fmt))).to(torch.int16)


def _scaled(
    x: Tensor, scale: Tensor, axis: int, row: Scale, fmt: ArithmeticFormat
) -> tuple[Tensor, Tensor]:
    """An operand times its scales, exact in float64, and the sum of both exponents."""
    depth = x.shape[axis]
    at = torch.arange(depth, device=x.device) // row.block
    values = x.double() * scale.index_select(axis, at).double()
    sums = _exponents(x, fmt) + _exponents(scale, row.fmt).index_select(axis, at)
    exponents = torch.where(values == 0, _ZERO, sums).to(torch.int16)
    return values.contiguous(), exponents.contiguous()


def run_grouped(
    order: Fused, a: Tensor, b: Tensor, c: Tensor, formats: Formats, place: Place,
    scales: tuple[Tensor, Tensor] | None,
) -> Tensor:  # fmt: skip
    """Fused blocks of exactly summed groups; without scales they are 1."""
    from ...kernels.triton import fused as kernels

    if order.scale is None or order.group is None or a.shape[2] == 0:
        return c
    if scales is None:
        parts = -(-a.shape[2] // order.scale.block)
        scales = (torch.ones(*a.shape[:2], parts, device=a.device),
                  torch.ones(b.shape[0], parts, b.shape[2], device=a.device))  # fmt: skip
    left, right = (s.double().contiguous() for s in scales)
    row = _row(order, formats, not all_finite(a, b, c, left, right))
    quanta = sum(f.grid.min_exponent - f.grid.subnormal_fraction_bits for f in formats)
    steps = order.group * formats[0].grid.largest * formats[1].grid.largest * 2.0**-quanta
    single = a.dtype is torch.float32 and b.dtype is torch.float32 and steps <= 2**24
    row = row._replace(scale_block=order.scale.block, narrow=int(single))
    exponents = _exponents(left, order.scale.fmt), _exponents(right, order.scale.fmt)
    out = c.clone()
    start(
        kernels.matmul_grouped, a, b, (out, left, right, *exponents),
        after=(*left.stride(), *right.stride(), *_key(place)), f=row, g=target_of(order),
    )  # fmt: skip
    return out
