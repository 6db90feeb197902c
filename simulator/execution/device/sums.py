"""Exact, tree, two-stage and integer orders on a device."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ....formats.device.conversion import Random, flushed, round_tensor
from ....formats.device.place import NoKernel
from ....formats.device.target import DOUBLE, make_target
from ....formats.format import ArithmeticFormat, FloatFormat
from ....formats.rounding import Overflow, kernel_mode
from ...order import Exact, Integer, Tree, TwoStage
from ..layout import Formats, Place, digits_of
from .tiles import all_finite, by_format, by_values, choose_narrow, programs, start

#: The largest group whose additions are all written out in one kernel.
LARGEST_GROUP = 64
_OUTSIDE = float("inf")


class Sums(NamedTuple):
    """Exact blocks as the kernel is compiled for them; digits 0: pairs alone."""

    block: int
    lowest: int
    digits: int


class Leaves(NamedTuple):
    """A tree as the kernel is compiled for it; before, after: when `smallest` flushes."""

    group: int
    leaf: int
    lowest: int
    digits: int
    before: int
    after: int
    smallest: float


class Stages(NamedTuple):
    """A two-stage order as the kernel is compiled for it; *_unit: powers of two of widths."""

    block: int
    lanes: int
    fraction_bits: int
    guard: int
    sum_bits: int
    drop: int
    c_floor: int
    width: int
    guard_unit: float
    fraction_unit: float
    limit: float
    least_a: int
    least_b: int
    narrow: int
    short: int
    special: int


def run_exact(
    order: Exact, a: Tensor, b: Tensor, c: Tensor, formats: Formats, place: Place
) -> Tensor:
    """Exact blocks; once more with digits where pairs did not hold a sum."""
    from ...kernels.triton import exact as kernels

    depth = max(a.shape[2], 1)
    block = min(order.block or depth, depth)
    lowest, digits = digits_of(formats, order.result, block)
    mode, _ = kernel_mode(order.accumulate)
    g = make_target(order.result.grid, DOUBLE, mode, 0, Overflow.INFINITY)
    if a.shape[2] == 0:  # C alone, rounded
        a, b = a.new_zeros(*a.shape[:2], 1), b.new_zeros(b.shape[0], 1, b.shape[2])
    return _with_digits(kernels.matmul, a, b, c, Sums(block, lowest, 0), digits, g)


def _with_digits(
    kernel: Any, a: Tensor, b: Tensor, c: Tensor, f: Any, digits: int, g: Any
) -> Tensor:
    """A kernel that says whether its pairs held every sum; if not, again with digits."""
    tiles, batch = programs(a, b)
    lost = torch.zeros(tiles * batch, dtype=torch.int32, device=a.device)
    out = torch.empty_like(c)
    start(kernel, a, b, (c, out, lost), f=f, g=g)
    if bool(lost.any()):
        start(kernel, a, b, (c, out, lost), f=f._replace(digits=digits), g=g)
    return out


def run_tree(
    order: Tree, a: Tensor, b: Tensor, c: Tensor, formats: Formats, place: Place
) -> Tensor:
    """Groups of products in pairs; what a ragged last group lacks are zero products."""
    from ...kernels.triton import tree as kernels

    if order.group > LARGEST_GROUP:
        raise NoKernel(f"order = tree with group = {order.group}, more than {LARGEST_GROUP},")
    a, b = (_flushed(x, f, order) for x, f in zip((a, b), formats, strict=True))
    c = _flushed(c, order.result, order)
    lowest, digits = digits_of(formats, order.result, order.leaf)
    mode, _ = kernel_mode(order.accumulate)
    grid, before = order.result.grid, order.flush and order.tininess == "before"
    f = Leaves(
        order.group, order.leaf, lowest, 0, int(before), int(order.flush and not before),
        2.0**grid.min_exponent,
    )  # fmt: skip
    if order.flush:
        grid = grid._replace(min_exponent=-900)
    g = make_target(grid, DOUBLE, mode, 0, Overflow.INFINITY, order.overflow == "infinity")
    return _with_digits(kernels.matmul, a, b, c, f, digits, g)


def _flushed(x: Tensor, fmt: ArithmeticFormat, order: Tree) -> Tensor:
    if not order.flush or not isinstance(fmt, FloatFormat):
        return x
    if order.flushed_inputs == "positive":
        return torch.where(x.abs() < fmt.min_normal, 0.0, x)
    return flushed(x, fmt.min_normal)


def run_two_stage(
    order: TwoStage, a: Tensor, b: Tensor, c: Tensor, formats: Formats, place: Place
) -> Tensor:
    """Blocks in two stages."""
    from ...kernels.triton import two_stage as kernels

    result, (mode, _) = order.result, kernel_mode(order.accumulate)
    known = by_format(formats[0]).high + by_format(formats[1]).high
    if known + 1 > result.max_exponent:
        known = by_values(a, formats[0]).high + by_values(b, formats[1]).high
    special = known + 1 > result.max_exponent or not all_finite(a, b, c)
    narrow, short = choose_narrow(a, b, formats, order.fraction_bits, order.block)
    width = max(order.guard_bits, order.fraction_bits)
    least = [f.min_exponent if isinstance(f, FloatFormat) else 0 for f in formats]
    f = Stages(
        block=order.block,
        lanes=order.lanes,
        fraction_bits=order.fraction_bits,
        guard=order.guard_bits,
        sum_bits=-1 if order.sum_bits is None else order.sum_bits,
        drop=-1 if order.drop_c is None else order.drop_c,
        c_floor=result.min_exponent,
        width=width,
        guard_unit=2.0 ** (width - order.guard_bits),
        fraction_unit=2.0 ** (width - order.fraction_bits),
        limit=2.0 ** (result.max_exponent + 1),
        least_a=least[0],
        least_b=least[1],
        narrow=int(narrow),
        short=int(short),
        special=int(special),
    )
    out = c.clone()
    g = make_target(result.grid, DOUBLE, mode, 0, Overflow.INFINITY)
    start(kernels.matmul, a, b, (out,), f=f, g=g)
    return out


def run_integer(
    order: Integer, a: Tensor, b: Tensor, c: Tensor, formats: Formats, place: Place
) -> Tensor:
    """Exact integer sums, wrapped at the end, or clamped on the way.

    The native float64 product is exact: every partial sum, in any order, is an integer of at most
    K max|a| max|b| + |c| < 2^53, so neither its order nor contraction is of any consequence.
    """
    depth = max(a.shape[2], 1)
    largest = [max(f.grid.largest, -f.grid.lowest) for f in formats]
    bound = depth * largest[0] * largest[1] - order.result.lowest
    group, partial = order.group or 1, order.partial_format
    if partial is not None and group * largest[0] * largest[1] <= partial.largest:
        partial = None
    safe = bound <= order.result.largest
    if partial is None and bound <= 2.0**53 and (safe or order.overflow == "wrap"):
        total = torch.bmm(a.double(), b.double()) + c
        return total if safe else _wrapped(total, order)
    return _saturated(order, a, b, c, partial, group if partial else order.block or depth)


def _saturated(
    order: Integer, a: Tensor, b: Tensor, c: Tensor, partial: ArithmeticFormat | None, group: int
) -> Tensor:
    from ...kernels.triton import exact as kernels

    clamped = order.overflow == "saturate"
    low, high = (order.result.lowest, order.result.largest) if clamped else (-_OUTSIDE, _OUTSIDE)
    part = (partial.grid.lowest, partial.grid.largest) if partial else (-_OUTSIDE, _OUTSIDE)
    block, out = order.block or max(a.shape[2], 1), c.clone()
    start(
        kernels.saturate, a, b, (out,), LOW=float(low), HIGH=float(high), PART_LOW=float(part[0]),
        PART_HIGH=float(part[1]), BLOCK=block, GROUP=group,
    )  # fmt: skip
    return out if clamped else _wrapped(out, order)


def _wrapped(x: Tensor, order: Integer) -> Tensor:
    return round_tensor(
        x.contiguous(), order.result, "nearest_even", Overflow.WRAP, Random(), dtype=x.dtype
    )
