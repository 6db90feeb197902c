"""quantize_blocks, encode_blocks and decode_blocks, for numpy arrays and CPU tensors."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from ..arrays import as_floats, plain
from ..conversion import decode, encode, quantize
from ..errors import InputError
from ..format import FLOAT32, FloatFormat, IntegerFormat, fits
from ..jit import start_threads
from ..lanes import make_plan
from ..random import random_dtype
from ..rounding import (
    AnyRounding,
    Overflow,
    Rounding,
    get_overflow,
    get_rounding,
    kernel_mode,
)
from ..tables.codebook import CodebookFormat
from .block import BlockFormat
from .codes import BlockCodes
from .kernels import Layout, round_any
from .lanes import get_lanes, get_route, round_lines, round_narrow
from .layout import Scales, find_scales, find_tensor, lay_out, spread_table

Array = NDArray[Any]
T = TypeVar("T", Array, torch.Tensor, float)
_FLOAT64 = FloatFormat("float64", 11, 52)
_INT32 = IntegerFormat("int32", 32)
#: Longer blocks are left to the kernels that spread one block over the threads.
_LONGEST_LINE = 65536


def quantize_blocks(
    x: T,
    fmt: BlockFormat,
    *,
    axis: int | None = None,
    rounding: AnyRounding = "nearest_even",
    overflow: str | Overflow = "saturate",
    seed: int = 0,
    stream: int = 0,
    random_bits: Array | None = None,
) -> T:
    """Each element of x rounded to a value of the block format: fl(round(x scaled) · scale).

    Args:
        x: float32 or float64 array or CPU tensor of any shape, or a number; not changed.
        fmt: the block format; the equation of its scales stands in `rules.RULES`.
        axis: the axis that blocks lie along; None stands for the format's own.
        rounding: how scaled elements are rounded; scales follow `fmt.scale_rounding`.
        overflow: what scaled magnitudes beyond the largest element become.
        seed, stream: select the Philox bits of stochastic rounding; element i in row-major order
            of x always gets the same bits, whatever the blocks.
        random_bits: integers in 0 .. 2^k - 1 of x's shape, used in place of Philox.

    Returns:
        Same kind, dtype and shape as x. A block with a NaN is NaN throughout.

    Raises:
        InputError: an axis that x does not have; a dtype that cannot hold the elements or the
            scales; a mode that the elements lack; NaN where the scale format has none.
    """
    array, rebuild, _ = as_floats(x)
    layout, _ = lay_out(array.shape, fmt, axis)
    mode = _Mode(fmt, rounding, overflow, seed, stream, random_bits)
    mode.check(array)
    if array.size == 0:
        return rebuild(array.copy())
    start_threads()
    lines = _round_lines(array, fmt, layout, mode)
    if lines is not None:
        return rebuild(lines)
    scales = find_scales(array.reshape(-1), fmt, layout)
    if scales.zero_points is not None:
        shifted = _round_affine(array, scales, layout, mode)
        zeros = spread_table(scales.zero_points, array, layout)
        return rebuild((shifted - zeros) * spread_table(scales.totals, array, layout))
    if isinstance(fmt.element, CodebookFormat):
        codes = _find_codewords(array, scales, fmt.element, layout, fmt)
        return rebuild(_restore(_codewords(codes, fmt.element, array.dtype), scales, layout))
    return rebuild(_round(array, scales, scales.totals, layout, mode))


def encode_blocks(
    x: T,
    fmt: BlockFormat,
    *,
    axis: int | None = None,
    rounding: AnyRounding = "nearest_even",
    overflow: str | Overflow = "saturate",
    seed: int = 0,
    stream: int = 0,
    random_bits: Array | None = None,
) -> BlockCodes:
    """The codes and scales of `quantize_blocks(x, ...)`; arguments and errors as there.

    Elements of a block with a NaN have the code of NaN, or 0 where the elements have none.
    """
    array, _, _ = as_floats(x)
    layout, shape = lay_out(array.shape, fmt, axis)
    mode = _Mode(fmt, rounding, overflow, seed, stream, random_bits)
    mode.check(array)
    start_threads()
    scales = find_scales(array.reshape(-1), fmt, layout)
    zeros = None
    if isinstance(fmt.element, CodebookFormat):
        codes = _find_codewords(array, scales, fmt.element, layout, fmt)
    elif scales.zero_points is not None:
        codes = _element_codes(_round_affine(array, scales, layout, mode), fmt)
        zeros = _element_codes(scales.zero_points.reshape(shape), fmt)
    else:
        ones = np.where(np.isnan(scales.totals), np.nan, 1.0)
        codes = _element_codes(_round(array, scales, ones, layout, mode), fmt)
    as_kind: Callable[[Array], Any] = np.asarray
    if isinstance(x, torch.Tensor):
        as_kind = torch.from_numpy
    return BlockCodes(
        codes=as_kind(codes),
        scales=as_kind(encode(scales.stored.reshape(shape), fmt.scale)),
        tensor_scale=scales.tensor if fmt.scale_rule.two_level else None,
        zero_points=None if zeros is None else as_kind(zeros),
        axis=fmt.axis if axis is None else axis,
        dtype=array.dtype.name,
        fmt=fmt,
    )


def decode_blocks(blocks: BlockCodes) -> Any:
    """The values of codes and scales, as `quantize_blocks` gave them: fl(element · scale).

    Returns:
        An array or tensor, as the codes are, in the dtype that was encoded.
    """
    codes, rebuild = blocks.codes, cast(Callable[[Array], Any], np.asarray)
    if isinstance(codes, torch.Tensor):
        codes, rebuild = codes.numpy(), torch.from_numpy
    fmt, dtype = blocks.fmt, np.dtype(blocks.dtype)
    layout, _ = lay_out(codes.shape, fmt, blocks.axis)
    start_threads()
    stored = decode(_as_codes(blocks.scales), fmt.scale).astype(dtype).reshape(-1)
    with np.errstate(all="ignore"):
        tensor = 1.0 if blocks.tensor_scale is None else blocks.tensor_scale
        totals = stored * dtype.type(tensor)
    scales = Scales(stored, stored, totals)
    if isinstance(fmt.element, CodebookFormat):
        return rebuild(_restore(_codewords(codes, fmt.element, dtype), scales, layout))
    values = _element_values(codes, fmt, dtype)
    if blocks.zero_points is not None:
        zeros = _element_values(_as_codes(blocks.zero_points), fmt, dtype).reshape(-1)
        values = values - spread_table(zeros, values, layout)
    return rebuild(_restore(values, scales, layout))


class _Mode:
    """How elements are rounded, checked against the format."""

    def __init__(
        self,
        fmt: BlockFormat,
        rounding: AnyRounding,
        overflow: str | Overflow,
        seed: int,
        stream: int,
        random_bits: Array | None,
    ) -> None:
        self.fmt, self.seed, self.stream = fmt, seed, stream
        self.rounding, self.policy = get_rounding(rounding), get_overflow(overflow)
        self.mode, self.bits = kernel_mode(self.rounding)
        self.random_bits = random_bits if self.bits else None

    def check(self, x: Array) -> None:
        """Refuse what the format cannot express."""
        fmt, element = self.fmt, self.fmt.element
        container = FLOAT32 if x.dtype == np.float32 else _FLOAT64
        book = isinstance(element, CodebookFormat)
        wide = not isinstance(element, CodebookFormat) and not fits(element, container)
        if wide or not fits(fmt.scale, container):
            raise InputError(
                f"{x.dtype} cannot hold every element and scale of {fmt.name}; pass a float64 array"
            )
        if book and (self.rounding is not Rounding.NEAREST_EVEN or self.policy != "saturate"):
            raise InputError(
                f"{fmt.name}: codewords are the nearest and saturate; rounding = "
                f'"{self.rounding}", overflow = "{self.policy}" are not for codebooks'
            )
        has_nan = not isinstance(element, CodebookFormat) and element.grid.has_nan
        if self.policy is Overflow.WRAP or (not has_nan and self.policy is not Overflow.SATURATE):
            raise InputError(
                f'overflow = "{self.policy}": elements of {fmt.name} '
                f"{'do not wrap' if has_nan else 'have neither infinity nor NaN'}; use saturate"
            )
        if not fmt.scale.grid.has_nan and bool(np.isnan(x).any()):
            raise InputError(f"NaN in the input: the scales of {fmt.name} have none; remove it")
        self._check_bits(x)

    def _check_bits(self, x: Array) -> None:
        if self.random_bits is None:
            return
        random = self.random_bits = plain(np.asarray(self.random_bits))
        if random.shape != x.shape or random.dtype.kind not in "iu":
            raise InputError(
                f"random_bits: {random.dtype} {random.shape} are not integers of shape {x.shape}"
            )
        if random.size and not 0 <= int(random.min()) <= int(random.max()) < 2**self.bits:
            raise InputError(
                f"random_bits: {random.min()} to {random.max()} is not within 0 to "
                f"{2**self.bits - 1}"
            )

    @property
    def plain(self) -> bool:
        """Nearest-even and saturation."""
        return self.rounding is Rounding.NEAREST_EVEN and self.policy is Overflow.SATURATE


def _as_codes(codes: Any) -> Array:
    return codes.numpy() if isinstance(codes, torch.Tensor) else np.asarray(codes)


def _round_lines(x: Array, fmt: BlockFormat, layout: Layout, mode: _Mode) -> Array | None:
    """The main case in one pass, or None where it is another: see `lanes.round_lines`."""
    length, element = min(layout.tile_columns, layout.columns), fmt.element
    if isinstance(element, CodebookFormat) or fmt.scale_rule.zero_point or not mode.plain:
        return None
    lanes = get_lanes(element.grid) if x.dtype == np.float32 else None
    whole = layout.inner == layout.tile_rows == 1 and layout.columns % length == 0
    if lanes is None or not whole or length > _LONGEST_LINE:
        return None
    flat, out = x.reshape(-1), np.empty_like(x)
    scaling = fmt.scaling(True, *find_tensor(flat, fmt))
    route, scale_lanes = get_route(scaling, fmt.scale.grid)
    round_lines(
        flat, flat.view(np.int32), out.reshape(-1), length, scaling, fmt.scale.grid,
        route, scale_lanes, lanes, fmt.scale_rule.divides,
    )  # fmt: skip
    return out


def _round(x: Array, scales: Scales, totals: Array, layout: Layout, mode: _Mode) -> Array:
    """fl(round(x scaled) · total) for arithmetic elements."""
    fmt, rule, out = mode.fmt, mode.fmt.scale_rule, np.empty_like(x)
    assert not isinstance(fmt.element, CodebookFormat)
    grid, narrow = fmt.element.grid, x.dtype == np.float32
    flat, target = x.reshape(-1), out.reshape(-1)
    lanes = get_lanes(grid) if narrow and mode.plain else None
    inside = not rule.power_of_two or fmt.scale_exponents[0] >= -127
    if lanes is not None and inside:
        with np.errstate(over="ignore"):
            tables = scales.factors.astype(np.float32), totals.astype(np.float32)
        round_narrow(flat, target, *tables, layout, rule.divides, lanes)
        return out
    given: Array = np.empty(0, random_dtype(mode.bits))
    if mode.random_bits is not None:
        given = mode.random_bits.reshape(-1).astype(given.dtype)
    round_any(
        flat, target, scales.factors, totals, layout, (rule.divides, rule.power_of_two, narrow),
        given, *make_plan(fmt.element, mode.mode, mode.bits, mode.policy, False),
        (np.uint64(mode.seed % 2**64), np.uint64(mode.stream % 2**64)),
    )  # fmt: skip
    return out


def _scaled(x: Array, scales: Scales, layout: Layout, fmt: BlockFormat) -> Array:
    """The scaled elements in x's dtype: fl(x m) or fl(x / s)."""
    factors = spread_table(scales.factors, x, layout)
    with np.errstate(all="ignore"):
        return x / factors if fmt.scale_rule.divides else x * factors


def _round_affine(x: Array, scales: Scales, layout: Layout, mode: _Mode) -> Array:
    """clamp(round(fl(x / s)) + z), in x's dtype; NaN in the blocks that have one."""
    assert scales.zero_points is not None and isinstance(mode.fmt.element, IntegerFormat)
    y = _scaled(x, scales, layout, mode.fmt).astype(np.float64)
    nan = np.isnan(y)
    whole = quantize(
        np.where(nan, 0.0, y), _INT32, rounding=mode.rounding, seed=mode.seed, stream=mode.stream,
        random_bits=mode.random_bits,
    )  # fmt: skip
    grid = mode.fmt.element.grid
    moved = np.clip(whole + spread_table(scales.zero_points, y, layout), grid.lowest, grid.largest)
    return np.where(nan, np.nan, moved).astype(x.dtype)


def _restore(values: Array, scales: Scales, layout: Layout) -> Array:
    with np.errstate(all="ignore"):
        return values * spread_table(scales.totals, values, layout)


def _find_codewords(
    x: Array, scales: Scales, book: CodebookFormat, layout: Layout, fmt: BlockFormat
) -> Array:
    y = _scaled(x, scales, layout, fmt)
    return book.encode(np.where(np.isnan(y), y.dtype.type(0), y))


def _codewords(codes: Array, book: CodebookFormat, dtype: np.dtype[Any]) -> Array:
    return np.array([float(v) for v in book.values], dtype)[codes]


def _element_codes(values: Array, fmt: BlockFormat) -> Array:
    """Codes of values of the element format."""
    element = fmt.element
    assert not isinstance(element, CodebookFormat)
    if not element.grid.has_nan:
        values = np.where(np.isnan(values), values.dtype.type(0), values)
    policy = "infinity" if element.grid.has_infinity else "saturate"
    return np.asarray(encode(values, element, overflow=policy))


def _element_values(codes: Array, fmt: BlockFormat, dtype: np.dtype[Any]) -> Array:
    element = fmt.element
    assert not isinstance(element, CodebookFormat)
    return np.asarray(decode(codes, element), dtype)
