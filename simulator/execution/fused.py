"""Fused orders: layout, scales, special values, and which arithmetic is wide enough."""

import numpy as np
from numpy.typing import NDArray

from ...formats.rounding import kernel_mode
from ..kernels import fused as kernels
from ..kernels import grid as grids
from ..kernels.align import SPECIAL_EXPONENT, ZERO_EXPONENT
from ..order import Fused, Scale
from .layout import (
    Formats,
    Matrix,
    Place,
    Scales,
    Sums,
    Surveyed,
    narrow_chunk,
    padded,
    plain,
    special_outputs,
    surveyed,
    transposed,
)

_NO_SCALE = np.empty((0, 0, 0), np.int16)


def run_fused(
    order: Fused, a: Matrix, b: Matrix, start: Sums, formats: Formats, place: Place,
    scales: Scales | None = None,
) -> Sums:  # fmt: skip
    """Fused blocks; zero products fill the last one (they align nothing and add nothing)."""
    if a.shape[2] == 0:
        return start
    a, b = padded(plain(a, formats), 2, order.block), padded(plain(b, formats), 1, order.block)
    if b.shape[2] < min(a.shape[1], 256) and not order.random_bits:  # long rows fill the lanes
        flipped = None if scales is None else (transposed(scales[1]), transposed(scales[0]))
        a, b, start = transposed(b), transposed(a), transposed(start)
        return transposed(_run(order, a, b, start, (formats[1], formats[0]), place, flipped))
    return _run(order, a, b, start, formats, place, scales)


def _run(
    order: Fused, a: Matrix, b: Matrix, start: Sums, formats: Formats, place: Place,
    scales: Scales | None,
) -> Sums:  # fmt: skip
    x, y = surveyed(a, formats[0]), surveyed(b, formats[1])
    outer: tuple[Matrix, Matrix] = (_NO_SCALE, _NO_SCALE)
    highest, shifted, pair = max(x.high, y.high), False, None
    if scales is not None and order.scale is not None:
        fmt, shifted = order.scale.fmt, _shifts(order)
        left, right = (surveyed(plain(s, (fmt, fmt)), fmt) for s in scales)
        highest, pair = max(highest, left.high, right.high), (left, right)
        if shifted:
            outer = left.exponents, right.exponents
        else:
            x, y = _scaled(x, left, 2, order.scale), _scaled(y, right, 1, order.scale)
    spec, key = spec_of(order, shifted), key_of(place)
    hit, fixed = None, start
    if highest >= SPECIAL_EXPONENT or not np.isfinite(start).all():
        p, q = x, y
        if shifted and pair is not None and order.scale is not None:
            p, q = _scaled(x, pair[0], 2, order.scale), _scaled(y, pair[1], 1, order.scale)
        hit = special_outputs(p.values, q.values, start)
        fixed = start.copy()
        kernels.matmul_special(p.values, q.values, p.exponents, q.exponents, fixed, hit, spec, key)
    chunk = narrow_chunk(x, y, formats, order.fraction_bits) if x.values.dtype == np.float32 else 0
    kernels.matmul(x.values, y.values, x.exponents, y.exponents, start, *outer, spec, chunk, key)
    if hit is not None:
        np.copyto(start, fixed, where=hit)
    return start


def _shifts(order: Fused) -> bool:
    """Whether scales move whole blocks: powers of two, constant over each."""
    scale = order.scale
    return scale is not None and scale.fmt.fraction_bits == 0 and scale.block % order.block == 0


def _scaled(x: Surveyed, scale: Surveyed, axis: int, row: Scale) -> Surveyed:
    """An operand times its scales, exact in float64, and the sum of both exponents."""
    last = scale.values.shape[axis] - 1
    at = np.minimum(np.arange(x.values.shape[axis]) // row.block, last)
    with np.errstate(invalid="ignore"):
        values = x.values.astype(np.float64) * np.take(scale.values, at, axis)
    sums = x.exponents + np.take(scale.exponents, at, axis)
    sums = np.where(values == 0, np.int16(ZERO_EXPONENT), sums)
    low = int(sums[values != 0].min(initial=-ZERO_EXPONENT))
    return Surveyed(plain(values), plain(sums), low, int(sums.max(initial=ZERO_EXPONENT)))


def spec_of(order: Fused, shifted: bool) -> NDArray[np.int64]:
    """The order as the kernels' array; whether its scales move whole blocks or groups."""
    mode, bits = kernel_mode(order.accumulate)
    scale_block = order.scale.block if shifted and order.scale else 0
    return np.array(
        [
            order.block, order.fraction_bits, order.min_exponent, order.result.min_exponent,
            mode, bits, scale_block, *grids.pack(order.result.grid),
        ],
        np.int64,
    )  # fmt: skip


def key_of(place: Place) -> NDArray[np.uint64]:
    """Where the random words are, as the kernels' array."""
    seed, stream = place.seed % 2**64, place.stream % 2**64
    return np.array([seed, stream, place.k_first, -(-place.k_all // 4) * 4], np.uint64)
