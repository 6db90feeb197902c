"""Trees: flushed inputs, and float32's own arithmetic where it is the unit's."""

import numpy as np
from numpy.typing import NDArray

from ...formats.format import ArithmeticFormat, FloatFormat
from ...formats.rounding import kernel_mode
from ..kernels import grid as grids
from ..kernels import tree as kernels
from ..order import Tree
from .layout import (
    Formats,
    Matrix,
    Place,
    Sums,
    digits_of,
    padded,
    plain,
    products_in_float32,
    surveyed,
)


def run_tree(
    order: Tree, a: Matrix, b: Matrix, start: Sums, formats: Formats, place: Place
) -> Sums:
    """Groups of products in pairs; zero products fill the last group."""
    a, b = (_flushed(x, f, order) for x, f in zip((a, b), formats, strict=True))
    start = _flushed(start, order.result, order)
    a = padded(plain(a, formats), 2, order.group)
    b = padded(plain(b, formats), 1, order.group)
    if _is_native(order, a, b, formats):
        out = start.astype(np.float32)
        tiny = np.float32(order.result.min_normal if order.flush else 0.0)
        tiny_product = tiny if order.leaf == 1 else np.float32(0.0)
        odd = order.rounding == "to_odd"
        kernels.matmul_native(a, b, out, order.group, odd, tiny, tiny_product)
        return out
    kernels.matmul(a, b, start, _spec(order, formats))
    return start


def _is_native(order: Tree, a: Matrix, b: Matrix, formats: Formats) -> bool:
    """Whether float32 arithmetic is the unit's; the kernel's file says why."""
    nearest = order.rounding == "nearest_even"
    odd = order.rounding == "to_odd" and order.overflow == "infinity"
    if order.accumulator != "float32" or order.leaf > 2 or a.dtype != np.float32:
        return False
    if not (nearest or odd):
        return False
    short = sum(f.precision for f in formats) <= 23
    if order.leaf == 1 and (short if order.flush else nearest):
        return True
    return products_in_float32(surveyed(a, formats[0]), surveyed(b, formats[1]), formats)


def _flushed(x: Matrix, fmt: ArithmeticFormat, order: Tree) -> Matrix:
    """Subnormals of the operand's own format as zeros."""
    if not order.flush or not isinstance(fmt, FloatFormat):
        return x
    tiny = np.abs(x) < fmt.min_normal
    zero = x.dtype.type(0)
    return np.where(tiny, zero if order.flushed_inputs == "positive" else np.copysign(zero, x), x)


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
