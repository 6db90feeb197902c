"""Exact orders: the native float64 product where no bit can be lost, else pairs or digits."""

import numpy as np
from numpy.typing import NDArray

from ...formats.rounding import kernel_mode
from ..kernels import exact as kernels
from ..kernels import grid as grids
from ..kernels.chain import add_to_odd
from ..kernels.exact import round_rows
from ..order import Exact
from .layout import (
    Formats,
    Matrix,
    Place,
    Sums,
    digits_of,
    native_product,
    plain,
    products_fit,
)

#: A native product of a block shorter than this costs more than the kernel's own sums.
_LONG = 64


def run_exact(
    order: Exact, a: Matrix, b: Matrix, start: Sums, formats: Formats, place: Place
) -> Sums:
    """Exact blocks: long ones by the native float64 GEMM if no bit can be lost in it."""
    depth = max(a.shape[2], 1)
    block = min(order.block or depth, depth)
    spec = _spec(order, formats, block)
    finite = np.isfinite(a).all() and np.isfinite(b).all() and np.isfinite(start).all()
    if block < _LONG or not finite or not products_fit(a, b, formats, 53):
        kernels.matmul(plain(a, formats), plain(b, formats), start, spec)
        return start
    for k in range(0, depth, block):
        x, y = a[:, :, k : k + block], b[:, k : k + block]
        product = native_product(x.astype(np.float64), y.astype(np.float64))
        add_to_odd(product.reshape(-1), start.reshape(-1), product.reshape(-1))
        start = product
        round_rows(start, spec)
    return start


def _spec(order: Exact, formats: Formats, block: int) -> NDArray[np.int64]:
    """The order as the kernel's array."""
    lowest, digits = digits_of(formats, order.result, block)
    mode, _ = kernel_mode(order.accumulate)
    return np.array([block, lowest, digits, mode, *grids.pack(order.result.grid)], np.int64)
