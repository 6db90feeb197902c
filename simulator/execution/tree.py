"""Trees: flushed inputs, and float32's own arithmetic where it is the unit's."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ...formats.format import FLOAT32, ArithmeticFormat, FloatFormat, fits
from ...formats.rounding import kernel_mode
from ..kernels import grid as grids
from ..kernels import tree as kernels
from ..order import Tree
from .layout import Formats, Matrix, Place, Sums, digits_of, padded, plain


def run_tree(
    order: Tree, a: Matrix, b: Matrix, start: Sums, formats: Formats, place: Place
) -> Sums:
    """Groups of products in pairs; zero products fill the last group."""
    a, b = (_flushed(x, f, order) for x, f in zip((a, b), formats, strict=True))
    start = _flushed(start, order.result, order)
    a = padded(plain(a, formats), 2, order.group)
    b = padded(plain(b, formats), 1, order.group)
    if _is_native(order, formats):
        out = start.astype(np.float32)
        tiny = np.float32(order.result.min_normal if order.flush else 0.0)
        kernels.matmul_native(a, b, out, order.group, tiny)
        return out
    kernels.matmul(a, b, start, _spec(order, formats))
    return start


def _is_native(order: Tree, formats: Formats) -> bool:
    """Whether float32 arithmetic is the unit's; the kernel's file says why."""
    short = sum(f.precision for f in formats) <= 23 or not order.flush
    ieee = order.accumulator == "float32" and order.rounding == "nearest_even"
    return ieee and order.leaf == 1 and short and all(fits(f, FLOAT32) for f in formats)


def _flushed(x: Matrix, fmt: ArithmeticFormat, order: Tree) -> Matrix:
    """Subnormals of the operand's own format as zeros."""
    if not order.flush or not isinstance(fmt, FloatFormat):
        return x
    tiny = np.abs(x) < fmt.min_normal
    zero = x.dtype.type(0)
    return np.where(tiny, zero if order.flushed_inputs == "positive" else np.copysign(zero, x), x)


@cache
def _spec(order: Tree, formats: Formats) -> NDArray[np.int64]:
    """The order as the kernel's array."""
    lowest, digits = digits_of(formats, order.result, order.leaf)
    mode, _ = kernel_mode(order.accumulate)
    return np.array(
        [
            order.group, order.leaf, mode, order.flush, order.tininess == "before",
            order.overflow == "infinity", lowest, digits, *grids.pack(order.result.grid),
        ],
        np.int64,
    )  # fmt: skip
