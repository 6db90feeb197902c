"""Fused orders: layout, special values, and which of the two kernels."""

from typing import Any

import numpy as np

from ...formats.format import ArithmeticFormat, FloatFormat
from ..kernels import fused as kernels
from ..order import Fused
from .layout import Formats, Matrix, Place, Sums, plain, special_outputs


def run_fused(
    order: Fused, a: Matrix, b: Matrix, start: Sums, formats: Formats, place: Place
) -> Sums:
    """Fused blocks; zero products fill the last one (they align nothing and add nothing)."""
    short = -a.shape[2] % order.block
    if short:
        a = np.pad(a, ((0, 0), (0, 0), (0, short)))
        b = np.pad(b, ((0, 0), (0, short), (0, 0)))
    a, b = plain(a, formats), plain(b, formats)
    hit = special_outputs(a, b, start)
    emins = [_min_exponent(f) for f in formats]
    fixed = (
        order.block, order.fraction_bits, order.min_exponent, order.result.grid,
        order.rounding == "nearest_even",
    )  # fmt: skip
    out = start.copy()
    if hit.any():
        everything = np.array([*emins, order.result.min_exponent])
        kernels.matmul_special(a, b, out, hit, *fixed, everything)
        a, b = (np.where(np.isfinite(x), x, x.dtype.type(0)) for x in (a, b))
    regular = np.where(hit, 0.0, start) if hit.any() else start.copy()
    matmul = kernels.matmul_narrow if _narrow(order, formats) else kernels.matmul_wide
    if b.shape[2] < min(a.shape[1], 256):  # the longer side fills the vector lanes
        a, b, emins = plain(b.mT), plain(a.mT), emins[::-1]
        regular = plain(regular.mT)
        _fused_matmul(matmul, a, b, emins, regular, fixed, order)
        regular = regular.mT
    else:
        _fused_matmul(matmul, a, b, emins, regular, fixed, order)
    return np.where(hit, out, regular) if hit.any() else plain(regular)


def _fused_matmul(
    matmul: Any, a: Matrix, b: Matrix, emins: list[int], out: Sums, fixed: Any, order: Fused
) -> None:
    ea, eb = kernels.exponents(a, emins[0]), kernels.exponents(b, emins[1])
    matmul(a, b, ea, eb, out, *fixed, order.result.min_exponent)


def _min_exponent(fmt: ArithmeticFormat) -> int:
    return fmt.min_exponent if isinstance(fmt, FloatFormat) else 0


def _narrow(order: Fused, formats: Formats) -> bool:
    """Whether products are exact in float32 and aligned sums fit int32 (the kernel's proof)."""
    width = order.fraction_bits + 2 + (order.block + 1).bit_length()
    return width <= 31 and all(_short(f) for f in formats)


def _short(fmt: ArithmeticFormat) -> bool:
    """At most half of float32's significand, exponents within -31 to 32: fp8, fp16, not bf16."""
    if not isinstance(fmt, FloatFormat) or fmt.precision > 12:
        return False
    return fmt.min_exponent >= -31 and fmt.max_exponent <= 32
