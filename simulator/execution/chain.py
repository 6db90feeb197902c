"""Chains: flushes, lanes, and the native shortcut of IEEE fused multiply-adds."""

from typing import Any

import numpy as np

from ...formats.format import Grid
from ...formats.rounding import Stochastic, kernel_mode
from ..kernels import chain as kernels
from ..order import Chain
from .layout import Formats, Matrix, Place, Sums, plain


def run_chain(
    order: Chain, a: Matrix, b: Matrix, start: Sums, formats: Formats, place: Place
) -> Sums:
    """Chains; several lanes start from +0, are added in ascending order, then to `start`."""
    a, b = plain(a, formats), plain(b, formats)
    if order.flush:
        a, b, start = (flush_subnormals(x) for x in (a, b, start))
    if order.lanes == 1:
        return _one_chain(order, a, b, start, place)
    lanes = [
        _one_chain(
            order, a[:, :, n :: order.lanes], b[:, n :: order.lanes], np.zeros_like(start), place
        )
        for n in range(order.lanes)
    ]
    total = lanes[0]
    for lane in lanes[1:]:
        total = add(total, lane, order)
    return add(start, total, order)


def _one_chain(order: Chain, a: Matrix, b: Matrix, start: Sums, place: Place) -> Sums:
    native = {"float32": np.float32, "float64": np.float64}.get(order.accumulator)
    ieee = order.rounding == "nearest_even" and order.fused and not order.flush
    if native is not None and ieee:
        out = start.astype(native)
        kernels.matmul_native(np.require(a, native, "C"), np.require(b, native, "C"), out)
        return out.astype(np.float64)
    out = start.copy()
    mode, bits = kernel_mode(order.accumulate)
    if isinstance(order.accumulate, Stochastic):
        kernels.matmul_stochastic(
            plain(a), plain(b), out, order.result.grid, order.fused, bits,
            np.uint64(place.seed % 2**64), np.uint64(place.stream % 2**64),
            place.k_first, place.k_all,
        )  # fmt: skip
        return out
    kernels.matmul(plain(a), plain(b), out, *_step(order, mode, order.fused))
    return out


def _step(order: Chain, mode: int, *fused: bool) -> tuple[Any, ...]:
    """Grid, mode and flush threshold; a flushing unit rounds with an unbounded exponent first."""
    grid: Grid = order.result.grid
    if not order.flush:
        return grid, mode, *fused, 0.0
    return grid._replace(min_exponent=-900), mode, *fused, 2.0**grid.min_exponent


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
    kernels.add(*flat, out.reshape(-1), *_step(order, mode))
    return out
