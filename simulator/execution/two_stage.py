"""Two-stage orders: layout of the lanes, special values, and which arithmetic is wide enough."""

import numpy as np
from numpy.typing import NDArray

from ...formats.rounding import kernel_mode
from ..kernels import grid as grids
from ..kernels import two_stage as kernels
from ..kernels.align import SPECIAL_EXPONENT
from ..order import TwoStage
from .layout import (
    Formats,
    Matrix,
    Place,
    Sums,
    Surveyed,
    narrow_chunk,
    padded,
    plain,
    special_outputs,
    surveyed,
    transposed,
)


def run_two_stage(
    order: TwoStage, a: Matrix, b: Matrix, start: Sums, formats: Formats, place: Place
) -> Sums:
    """Blocks in two stages; zero products fill the last one."""
    a, b = padded(a, 2, order.block), padded(b, 1, order.block)
    if order.lanes > 1:  # the products of each lane side by side
        in_blocks = np.arange(a.shape[2]).reshape(-1, order.block // order.lanes, order.lanes)
        k = in_blocks.swapaxes(1, 2).reshape(-1)
        a, b = a[:, :, k], b[:, k]
    a, b = plain(a, formats), plain(b, formats)
    if b.shape[2] < min(a.shape[1], 256):  # the longer side fills the vector lanes
        out = _run(order, transposed(b), transposed(a), transposed(start), (formats[1], formats[0]))
        return transposed(out)
    return _run(order, a, b, start, formats)


def _run(order: TwoStage, a: Matrix, b: Matrix, start: Sums, formats: Formats) -> Sums:
    x, y = surveyed(a, formats[0]), surveyed(b, formats[1])
    spec = _spec(order)
    hit, fixed = None, start
    limit = order.result.max_exponent
    special = x.high + y.high + 1 > limit or max(x.high, y.high) >= SPECIAL_EXPONENT
    if special or not np.isfinite(start).all():
        hit = special_outputs(a, b, start) | _overflowing(x, y, limit)
        fixed = start.copy()
        kernels.matmul_special(x.values, y.values, x.exponents, y.exponents, fixed, hit, spec)
    chunk = narrow_chunk(x, y, formats, order.fraction_bits)
    kernels.matmul(x.values, y.values, x.exponents, y.exponents, start, spec, chunk)
    if hit is not None:
        np.copyto(start, fixed, where=hit)
    return start


def _overflowing(x: Surveyed, y: Surveyed, limit: int) -> NDArray[np.bool_]:
    """Outputs with operands large enough for a product of 2^(limit + 1)."""
    rows = x.exponents.max(axis=2, keepdims=True, initial=-8192)
    columns = y.exponents.max(axis=1, keepdims=True, initial=-8192)
    large: NDArray[np.bool_] = rows.astype(np.int32) + columns + 1 > limit
    return large


def _spec(order: TwoStage) -> NDArray[np.int64]:
    """The order as the kernel's array."""
    mode, _ = kernel_mode(order.accumulate)
    return np.array(
        [
            order.block, order.lanes, order.fraction_bits, order.guard_bits,
            -1 if order.sum_bits is None else order.sum_bits,
            -1 if order.drop_c is None else order.drop_c,
            order.result.min_exponent, mode, *grids.pack(order.result.grid),
        ],
        np.int64,
    )  # fmt: skip
