"""Exact orders: the native float64 product where no bit can be lost, else long sums."""

import numpy as np

from ...formats.rounding import kernel_mode
from ..kernels import chain, exact
from ..order import Exact
from .layout import (
    Formats,
    Matrix,
    Place,
    Sums,
    lowest_bit,
    native_product,
    products_fit,
    special_outputs,
)


def run_exact(
    order: Exact, a: Matrix, b: Matrix, start: Sums, formats: Formats, place: Place
) -> Sums:
    """Exact blocks: the native float64 GEMM when no bit can be lost in it, else long sums."""
    block = order.block or max(a.shape[2], 1)
    mode, _ = kernel_mode(order.accumulate)
    out = start
    for k in range(0, max(a.shape[2], 1), block):
        x, y = a[:, :, k : k + block], b[:, k : k + block]
        total = _exact_sum(x, y, out, formats)
        out = np.empty_like(total)
        chain.add(
            total.reshape(-1), np.zeros(total.size), out.reshape(-1), order.result.grid, mode, 0.0
        )
    return out


def _exact_sum(a: Matrix, b: Matrix, c: Sums, formats: Formats) -> Sums:
    """c + a b, rounded to odd in float64."""
    finite_a, finite_b = (np.where(np.isfinite(x), x, 0).astype(np.float64) for x in (a, b))
    finite_c = np.where(np.isfinite(c), c, 0.0)
    if products_fit(finite_a, finite_b, formats, 53):
        out = np.empty_like(c)
        product = native_product(finite_a, finite_b)
        chain.add_to_odd(product.reshape(-1), finite_c.reshape(-1), out.reshape(-1))
    else:
        lowest = sum(lowest_bit(f) for f in formats)
        lowest = min(lowest, _least_bit(finite_c))
        top = _top_bit(finite_a) + _top_bit(finite_b) + a.shape[2].bit_length()
        digits = (max(top, _top_bit(finite_c)) - lowest) // 32 + 4
        out = finite_c.copy()
        exact.matmul_long(finite_a, finite_b, out, lowest, digits)
    hit = special_outputs(a, b, c)
    if hit.any():
        with np.errstate(invalid="ignore"):
            natural = a.astype(np.float64) @ b.astype(np.float64) + c
        out = np.where(hit, natural, out)
    return out


def _least_bit(x: Sums) -> int:
    """A bit that divides every element."""
    nonzero = np.abs(x[x != 0])
    return int(np.frexp(nonzero.min())[1]) - 53 if nonzero.size else 0


def _top_bit(x: Matrix) -> int:
    return int(np.frexp(np.abs(x).max())[1]) if x.size and x.any() else 0
