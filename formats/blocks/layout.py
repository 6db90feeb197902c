"""Where the blocks of an array lie, what is largest in each, and the scales that follow."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..conversion import quantize
from ..errors import InputError, whole_number
from ..tables.codebook import CodebookFormat
from .block import BlockFormat
from .kernels import Layout, find_largest, find_range, spread_blocks
from .scales import TWO_LEVEL, scale_blocks

Array = NDArray[Any]
_INTEGERS: dict[np.dtype[Any], tuple[np.dtype[Any], Any]] = {
    np.dtype(np.float32): (np.dtype(np.int32), np.int32(2**31 - 1)),
    np.dtype(np.float64): (np.dtype(np.int64), np.int64(2**63 - 1)),
}
_SPLIT = 4096


def lay_out(
    shape: tuple[int, ...], fmt: BlockFormat, axis: int | None
) -> tuple[Layout, tuple[int, ...]]:
    """The blocks of an array of that shape, and the shape of its scales.

    The scales have the array's shape with the blocked axes divided; those of a whole tensor have
    no axis, unless it is empty.
    """
    axis = fmt.axis if axis is None else whole_number(axis, "axis")
    if not shape or not fmt.block:
        n = prod(shape)
        return Layout(1, 1, n, 1, 1, max(n, 1)), () if n else (0,)
    if not -len(shape) <= axis < len(shape):
        raise InputError(
            f"axis = {axis} is not one of {-len(shape)} to {len(shape) - 1}, the axes of the array"
        )
    at = axis % len(shape)
    length = fmt.block[-1] or max(shape[at], 1)
    inner = prod(shape[at + 1 :])
    if len(fmt.block) == 1 or fmt.block[0] == 1 or len(shape) == 1:
        layout = Layout(prod(shape[:at]), 1, shape[at], inner, 1, length)
        return layout, (*shape[:at], -(-shape[at] // length), *shape[at + 1 :])
    if at == 0:
        raise InputError(
            f"block format {fmt.name}: a tile {fmt.block} lies along an axis and the one before "
            f"it; axis = {axis} is the first: name a later axis"
        )
    height = fmt.block[0] or max(shape[at - 1], 1)
    layout = Layout(prod(shape[: at - 1]), shape[at - 1], shape[at], inner, height, length)
    counts = -(-shape[at - 1] // height), -(-shape[at] // length)
    return layout, (*shape[: at - 1], *counts, *shape[at + 1 :])


def count_blocks(layout: Layout) -> int:
    """Entries in a table of scales."""
    down, across = -(-layout.rows // layout.tile_rows), -(-layout.columns // layout.tile_columns)
    return layout.outer * down * across * layout.inner


def find_amax(x: Array, layout: Layout) -> Array:
    """The largest magnitude of each block of the flat x, in its dtype; 0 for an empty one."""
    kind, mask = _INTEGERS[x.dtype]
    whole = count_blocks(layout) == 1
    if whole and x.size > _SPLIT:
        parts = find_amax(x, Layout(1, 1, x.size, 1, 1, _SPLIT)).view(kind)
        return np.array([parts.max()], kind).view(x.dtype)
    amax = np.zeros(count_blocks(layout), kind)
    if x.size:
        find_largest(x.view(kind), amax, layout, mask)
    return amax.view(x.dtype)


@dataclass(frozen=True)
class Scales:
    """Flat float64 tables with an entry for each block.

    Attributes:
        stored: the scales as values of the scale format.
        factors: what elements are multiplied with, or divided by, before they are rounded.
        totals: what restored values are multiplied with: fl(scale · scale of the tensor).
        zero_points: for rules that have them.
        tensor: the scale of the tensor, 1 without one.
    """

    stored: Array
    factors: Array
    totals: Array
    zero_points: Array | None = None
    tensor: float = 1.0


def tensor_factors(amax: Any, fmt: BlockFormat) -> tuple[float, float]:
    """(encode, decode) of a rule of two levels, from the largest magnitude of the tensor.

    `encode` multiplies the block scales (nvfp4) or divides them (nvfp4_torchao); `decode` is the
    tensor's scale, rounded into its format, which saturates. All fl(.) in amax's dtype. As in
    Transformer Engine, amax = 0 and amax = inf give 1 for nvfp4.
    """
    assert fmt.tensor_scale is not None
    dtype = np.asarray(amax).dtype.type
    huge = np.finfo(dtype).max
    with np.errstate(all="ignore"):
        span = dtype(fmt.scale.largest * fmt.largest)
        if fmt.scale_rule.code != TWO_LEVEL:
            scale = quantize(float(dtype(amax) / span), fmt.tensor_scale)
            return scale, scale
        encode = np.minimum(span / dtype(amax), huge)
        if amax == 0 or encode == 0:
            return 1.0, 1.0
        return float(encode), quantize(float(dtype(1) / encode), fmt.tensor_scale)


def find_tensor(x: Array, fmt: BlockFormat) -> tuple[float, float]:
    """`tensor_factors` of a flat array; 1 for formats without a scale of the tensor."""
    if not fmt.scale_rule.two_level:
        return 1.0, 1.0
    amax = find_amax(x, Layout(1, 1, x.size, 1, 1, x.size)) if x.size else np.zeros(1, x.dtype)
    return tensor_factors(amax[0], fmt)


def find_scales(x: Array, fmt: BlockFormat, layout: Layout) -> Scales:
    """The scales of the blocks of the flat x."""
    if fmt.scale_rule.zero_point:
        return _find_affine(x, fmt, layout)
    encode, decode = find_tensor(x, fmt)
    amax = find_amax(x, layout)
    stored, factors, totals = (np.empty(amax.size) for _ in range(3))
    scaling = fmt.scaling(x.dtype == np.float32, encode, decode)
    scale_blocks(amax, stored, factors, totals, scaling, fmt.scale.grid)
    return Scales(stored, factors, totals, tensor=decode)


def _find_affine(x: Array, fmt: BlockFormat, layout: Layout) -> Scales:
    """Scales and zero points of the rule minmax."""
    lowest, highest = (np.zeros(count_blocks(layout), x.dtype) for _ in range(2))
    if x.size:
        find_range(x, lowest, highest, layout)
    low, high = (x.dtype.type(end) for end in _ends(fmt))
    with np.errstate(all="ignore"):
        wanted = ((highest - lowest) / (high - low)).astype(np.float64)
        rounding = fmt.scale_rounding
        stored = quantize(wanted, fmt.scale, rounding=rounding, overflow="saturate")
        stored = np.where(stored < fmt.least_scale, fmt.least_scale, stored)
        shift = np.where(stored > 0, lowest / stored.astype(x.dtype), 0).astype(x.dtype)
        zero_points = np.clip(np.rint(low - shift), low, high)
    factors = np.where(stored == 0, np.inf, stored)
    zero_points = np.where(np.isnan(stored), 0.0, zero_points.astype(np.float64))
    return Scales(stored, factors, stored, zero_points)


def _ends(fmt: BlockFormat) -> tuple[float, float]:
    assert not isinstance(fmt.element, CodebookFormat)
    return fmt.element.grid.lowest, fmt.element.grid.largest


def spread_table(table: Array, x: Array, layout: Layout) -> Array:
    """The entry of each element of x, in x's dtype and shape."""
    out = np.empty(x.size, x.dtype)
    spread_blocks(np.ascontiguousarray(table.astype(x.dtype)), out, layout)
    return out.reshape(x.shape)
