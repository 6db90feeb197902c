"""Integer orders: exact sums through the native product, then wrapping or saturation."""

import numpy as np

from ...formats import quantize
from ..order import Integer
from .layout import Formats, Matrix, Place, Sums, native_product, products_fit


def run_integer(
    order: Integer, a: Matrix, b: Matrix, start: Sums, formats: Formats, place: Place
) -> Sums:
    """Exact integer sums through the native GEMM: float32 below 2^24, float64 below 2^53.

    Where no partial sum can leave the accumulator, wrapping and saturation do nothing, so the
    blocks need not be told apart.
    """
    depth = max(a.shape[2], 1)
    peak = float(np.abs(start).max()) if start.size else 0.0
    if a.size and b.size:
        peak += depth * float(np.abs(a).max()) * float(np.abs(b).max())
    safe = peak <= order.result.largest
    block = depth if safe or order.overflow == "wrap" else order.block or depth
    total = start
    for k in range(0, depth, block):
        total = total + _integer_product(a[:, :, k : k + block], b[:, k : k + block], formats)
        if not safe:
            total = quantize(total, order.result, overflow=order.overflow)
    return total


def _integer_product(a: Matrix, b: Matrix, formats: Formats) -> Sums:
    dtype = np.float32 if products_fit(a, b, formats, 24) else np.float64
    return native_product(a.astype(dtype, copy=False), b.astype(dtype, copy=False)).astype(
        np.float64
    )
