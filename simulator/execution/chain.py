"""Chains: flushes, lanes, and the kernels that the plan of a chain names."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...formats.format import Grid
from ...formats.rounding import Mode, kernel_mode
from ..kernels import chain as kernels
from ..kernels import chain_half as half
from ..kernels import chain_steps as steps
from ..kernels import chain_tiles as tiles
from ..order import Chain
from .chain_plan import (
    PEAK,
    Operands,
    Plan,
    choose,
    choose_double,
    make_draws,
    make_target,
)
from .layout import Formats, Matrix, Place, Sums, plain

#: Work that is done before threads could start.
FEW_PRODUCTS, FEW_TILES, FEW_SUMS = 1 << 16, 16, 1 << 12


class _NearTheEndError(Exception):
    """Sums in float32 lanes grew so far that the next ones might have left them."""


def run_chain(
    order: Chain, a: Matrix, b: Matrix, start: Sums, formats: Formats, place: Place
) -> Sums:
    """Chains; several lanes start from +0, are added in ascending order, then to `start`."""
    a, b = plain(a, formats), plain(b, formats)
    if order.flush:
        a, b, start = (flush_subnormals(x) for x in (a, b, start))
    if order.lanes == 1:
        return _one_chain(order, Operands(a, b, formats), start, place, 0)
    zero, every = np.zeros_like(start), order.lanes
    total = zero
    for n in range(every):
        part = Operands(a[:, :, n::every], b[:, n::every], formats)
        lane = _one_chain(order, part, zero, place, n)
        total = add(total, lane, order) if n else lane
    return add(start, total, order)


def _one_chain(order: Chain, x: Operands, start: Sums, place: Place, lane: int) -> Sums:
    """One of the interleaved chains, by its plan, or in float64 where float32 was left."""
    plan = choose(order, x)
    if plan.lane is np.float16:
        return _run_half(x, start)
    if plan.reach == steps.FLUSHED_AS_IS:
        out = _run(order, plan, x, start * 2.0, place, lane) * 0.5
        return out if np.isfinite(out).all() else _double(order, x, start, place, lane)
    try:
        return _run(order, plan, x, start, place, lane)
    except _NearTheEndError:
        return _double(order, x, start, place, lane)


def _run_half(x: Operands, start: Sums) -> Sums:
    """The float16 kernels, the longer side of the result along the vector lanes."""
    turned = x.b.shape[2] < min(x.a.shape[1], 64)
    a, b = (x.b.mT, x.a.mT) if turned else (x.a, x.b)
    with np.errstate(invalid="ignore"):
        halves = [np.require(v, np.float16, "C") for v in (a, b, start.mT if turned else start)]
        a, b, out = (np.array(v, order="C").view(np.int16) for v in halves)
        batch, height, width = out.shape
        count = tiles.count_tiles(batch, height, width, False)
        few = count <= FEW_TILES and out.size * a.shape[2] <= FEW_PRODUCTS
        _each(half.run_tile, half.spread_tiles, few, count, a, b, out)
        sums = out.view(np.float16).astype(np.float64)
    return np.ascontiguousarray(sums.mT) if turned else sums


def _double(order: Chain, x: Operands, start: Sums, place: Place, lane: int) -> Sums:
    return _run(order, choose_double(order, x), x, start, place, lane)


def _run(order: Chain, plan: Plan, x: Operands, start: Sums, place: Place, lane: int) -> Sums:
    """The kernels of a plan, the longer side of the result along the vector lanes.

    A chain of FLUSHED_AS_IS gets twice its numbers, so that sums next to 2^-126 have all 24 bits,
    as with an exponent without lower end; it overflows too early, which leaves an infinity.

    Raises:
        _NearTheEndError: stochastic sums in float32 came too near to its largest number.
    """
    rows, columns = x.a.shape[1], x.b.shape[2]
    turned = columns < min(rows, 64)
    a, b = (x.b.mT, x.a.mT) if turned else (x.a, x.b)
    out = np.array(start.mT if turned else start, order="C")
    twice = plan.reach == steps.FLUSHED_AS_IS
    a, b, out = _quiet(a), _quiet(b), _quiet(out)
    a = np.require(a * plan.lane(2) if twice else a, plan.lane, ["C", "W"])
    b = np.require(b, plan.lane, ["C", "W"])
    arguments = (a, b, out, *_targets(order, plan), plan.way)
    random = order.random_bits is not None
    batch, height, width = out.shape
    count = tiles.count_tiles(batch, height, width, random)
    few = count <= FEW_TILES and math.prod(out.shape) * a.shape[2] <= FEW_PRODUCTS
    if random:
        peaks = np.zeros(count, np.int64)
        draws = make_draws(order, plan, place, lane, (1, columns) if turned else (columns, 1))
        _each(
            tiles.run_random_tile, tiles.spread_random_tiles, few, count, *arguments, draws, peaks
        )
        _check_peaks(plan, peaks)
    else:
        _each(tiles.run_tile, tiles.spread_tiles, few, count, *arguments)
    return np.ascontiguousarray(out.mT) if turned else out


def _quiet(x: Matrix) -> Matrix:
    """NaN without payload, which the integer step of a rounding cannot carry into the sign."""
    missing = np.isnan(x)
    return np.where(missing, x.dtype.type(np.nan), x) if missing.any() else x


def _each(run: Any, spread: Any, few: bool, count: int, *arguments: Any) -> None:
    """All tiles, on threads unless they are few: to start those takes as long as 10^5 products."""
    if not few:
        spread(count, *arguments)
        return
    for n in range(count):
        run(n, *arguments)


def _targets(order: Chain, plan: Plan) -> tuple[Any, Any]:
    """What sums and products are rounded to."""
    bits, smallest = order.random_bits or 0, order.result.min_normal
    twice = plan.reach == steps.FLUSHED_AS_IS
    mode = int(Mode.NEAREST_EVEN)
    return (
        make_target(order.result, plan.lane, plan.mode, bits, 2 * smallest if twice else smallest),
        make_target(order.result, plan.lane, mode, 0, smallest),
    )


def _check_peaks(plan: Plan, peaks: NDArray[np.int64]) -> None:
    if plan.reach == steps.IN_PLACE and peaks.max(initial=0) >= np.float32(PEAK).view(np.int32):
        raise _NearTheEndError


def _step(order: Chain, mode: int) -> tuple[Any, ...]:
    """Grid, mode and flush threshold; a flushing unit rounds with an unbounded exponent first."""
    grid: Grid = order.result.grid
    if not order.flush:
        return grid, mode, 0.0
    return grid._replace(min_exponent=-900), mode, 2.0**grid.min_exponent


def flush_subnormals(x: Matrix) -> Matrix:
    """Magnitudes below the smallest normal float32 as zeros of their sign."""
    return np.where(np.abs(x) < 2.0**-126, np.copysign(x.dtype.type(0), x), x)


def add(x: Sums, y: Sums, order: Chain) -> Sums:
    """round(x + y), elementwise, as the accumulator of `order` adds."""
    if order.flush:
        x, y = flush_subnormals(x), flush_subnormals(y)
    out = np.empty_like(x)
    mode, _ = kernel_mode(order.accumulate)
    flat = (np.ascontiguousarray(v).reshape(-1) for v in (x, y))
    run = kernels.add_part if out.size <= FEW_SUMS else kernels.add
    run(*flat, out.reshape(-1), *_step(order, mode))
    return out
