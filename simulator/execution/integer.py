"""Integer orders: exact sums through the native product, then wrapping; or sums that saturate."""

import numpy as np

from ...formats import quantize
from ..kernels import integer as kernels
from ..order import Integer
from .layout import Formats, Matrix, Place, Sums, native_product, plain, products_fit


def run_integer(
    order: Integer, a: Matrix, b: Matrix, start: Sums, formats: Formats, place: Place
) -> Sums:
    """Exact integer sums through the native GEMM: float32 below 2^24, float64 below 2^53.

    Where no partial sum can leave the accumulator, wrapping and saturation do nothing, so the
    blocks need not be told apart.
    """
    depth = max(a.shape[2], 1)
    largest = float(np.abs(a).max(initial=0.0)) * float(np.abs(b).max(initial=0.0))
    safe = depth * largest + float(np.abs(start).max(initial=0.0)) <= order.result.largest
    group, partial = order.group or 1, order.partial_format
    if partial is not None and group * largest <= partial.largest:
        partial = None
    if partial is None and (safe or order.overflow == "wrap"):
        total = _integer_product(a, b, formats)
        total += start
        return total if safe else quantize(total, order.result, overflow="wrap")
    clamped = order.overflow == "saturate"
    low, high = (order.result.lowest, order.result.largest) if clamped else (-np.inf, np.inf)
    part = (partial.lowest, partial.largest) if partial else (-np.inf, np.inf)
    block = order.block or depth
    kernels.matmul(
        plain(a, formats), plain(b, formats), start, block, group if partial else block,
        float(low), float(high), float(part[0]), float(part[1]),
    )  # fmt: skip
    return start if clamped else quantize(start, order.result, overflow="wrap")


def _integer_product(a: Matrix, b: Matrix, formats: Formats) -> Sums:
    dtype = np.float32 if products_fit(a, b, formats, 24) else np.float64
    return native_product(a.astype(dtype, copy=False), b.astype(dtype, copy=False)).astype(
        np.float64, copy=False
    )
