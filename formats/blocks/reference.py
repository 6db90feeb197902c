"""The exact, slow twin of block conversion: fractions, one block and one element at a time.

A hardware engineer reviews this file; the kernels are held bit-equal to it. fl(.) is `nearest`
into the container, float32 or float64; the equations are those of `rules.RULES`.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..format import FLOAT32, FloatFormat
from ..reference import encode_exact, floor_log2, quantize_exact, quantum, round_exact
from ..rounding import Overflow, Rounding, Stochastic, get_rounding
from ..tables.codebook import CodebookFormat
from .block import BlockFormat

FLOAT64 = FloatFormat("float64", 11, 52)
Index = tuple[int, ...]


class ExactScale(NamedTuple):
    """A block's scale: as stored, how elements are scaled by it, and what restores them.

    `factor` multiplies, or divides under rules that divide; `zero` is the zero point.
    """

    stored: float
    factor: float
    total: float
    zero: int = 0


@dataclass(frozen=True)
class ExactBlocks:
    """The outcome, by index of the element or of the block."""

    values: NDArray[Any]
    codes: NDArray[Any]
    scales: dict[Index, ExactScale]
    tensor_scale: float


def nearest(value: Fraction, container: FloatFormat) -> float:
    """fl(value): to nearest, ties to even; infinity beyond the largest value."""
    rounded = round_exact(value, quantum(abs(value), container), Rounding.NEAREST_EVEN)
    if abs(rounded) > Fraction(container.largest):
        return math.inf if value > 0 else -math.inf
    return float(rounded)


def multiply(a: float, b: float, container: FloatFormat) -> float:
    """fl(a b), with the specials of IEEE 754."""
    if not (math.isfinite(a) and math.isfinite(b)) or a == 0 or b == 0:
        return a * b
    value = nearest(Fraction(a) * Fraction(b), container)
    return math.copysign(value, math.copysign(1.0, a) * math.copysign(1.0, b))


def divide(a: float, b: float, container: FloatFormat) -> float:
    """fl(a / b), with the specials of IEEE 754."""
    sign = math.copysign(1.0, a) * math.copysign(1.0, b)
    if math.isnan(a) or math.isnan(b) or (a == 0 and b == 0) or (math.isinf(a) and math.isinf(b)):
        return math.nan
    if math.isinf(a) or b == 0:
        return math.copysign(math.inf, sign)
    if math.isinf(b) or a == 0:
        return math.copysign(0.0, sign)
    return math.copysign(nearest(Fraction(a) / Fraction(b), container), sign)


def ceil_log2(x: Fraction) -> int:
    """The least e with x <= 2^e, for x > 0."""
    e = floor_log2(x)
    return e if x == Fraction(2) ** e else e + 1


def scale_exponent(amax: float, fmt: BlockFormat, container: FloatFormat) -> int:
    """E of a power-of-two scale, amax not NaN."""
    least, most = fmt.scale_exponents
    rule = fmt.scale_rule.name
    a = divide(amax, fmt.largest, container) if rule == "ratio" else amax
    if a == 0:
        return least
    if math.isinf(a):
        return most if rule == "ratio" else min(container.max_exponent + 1 - fmt.emax, most)
    exact = Fraction(a)
    match rule:
        case "ratio":
            e = ceil_log2(exact)
        case "ceil":
            e = ceil_log2(exact) - fmt.emax
        case "even":
            step = Fraction(2) ** (floor_log2(exact) - fmt.significand_bits)
            e = floor_log2(round_exact(exact, step, Rounding.NEAREST_EVEN)) - fmt.emax
        case _:
            e = floor_log2(exact) - fmt.emax
    return max(least, min(e, most))


def store(value: float, fmt: BlockFormat) -> float:
    """S(value), not below the least scale that is stored."""
    rounding = get_rounding(fmt.scale_rounding)
    return max(quantize_exact(value, fmt.scale, rounding, Overflow.SATURATE), fmt.least_scale)


def tensor_scale(amax: float, fmt: BlockFormat, container: FloatFormat) -> tuple[float, float]:
    """(e, g) of the rules of two levels: what block scales and values are multiplied with.

    For nvfp4_torchao the first is g too, because block scales are divided by it.
    """
    assert fmt.tensor_scale is not None
    span = nearest(Fraction(fmt.scale.largest) * Fraction(fmt.largest), container)
    even, saturate = Rounding.NEAREST_EVEN, Overflow.SATURATE
    if fmt.rule == "nvfp4_torchao":
        g = quantize_exact(divide(amax, span, container), fmt.tensor_scale, even, saturate)
        return g, g
    if math.isnan(amax):
        return math.nan, math.nan
    e = min(divide(span, amax, container), container.largest)
    if amax == 0 or e == 0:
        return 1.0, 1.0
    return e, quantize_exact(divide(1.0, e, container), fmt.tensor_scale, even, saturate)


def block_scale(
    amax: float, fmt: BlockFormat, container: FloatFormat, tensor: tuple[float, float]
) -> ExactScale:
    """The scale of a block from its largest magnitude."""
    if math.isnan(amax) or math.isnan(tensor[1]):
        return ExactScale(math.nan, math.nan, math.nan)
    if fmt.scale_rule.power_of_two:
        scale = 2.0 ** scale_exponent(amax, fmt, container)
        return ExactScale(scale, scale, scale)
    share, top = divide(amax, fmt.largest, container), container.largest
    match fmt.scale_rule.name:
        case "nvfp4":
            scale = store(multiply(share, tensor[0], container), fmt)
            total = multiply(scale, tensor[1], container)
            return ExactScale(scale, min(divide(1.0, total, container), top), total)
        case "nvfp4_torchao":
            scale = store(0.0 if amax == 0 else divide(share, tensor[0], container), fmt)
            inverse = divide(1.0, tensor[0], container)
            total = multiply(scale, tensor[1], container)
            return ExactScale(scale, min(divide(inverse, scale, container), top), total)
        case "absmax_reciprocal":
            scale = store(share, fmt)
            factor = 0.0 if scale == 0 else min(divide(1.0, scale, container), top)
            return ExactScale(scale, factor, scale)
    scale = store(share, fmt)
    return ExactScale(scale, math.inf if scale == 0 else scale, scale)


def affine_scale(block: list[float], fmt: BlockFormat, container: FloatFormat) -> ExactScale:
    """Scale and zero point of the rule minmax."""
    if any(math.isnan(v) for v in block):
        return ExactScale(math.nan, math.nan, math.nan)
    low, high = min(0.0, *block), max(0.0, *block)
    lowest, highest = _ends(fmt)
    infinite = math.isinf(low) or math.isinf(high)
    span = math.inf if infinite else nearest(Fraction(high) - Fraction(low), container)
    scale = store(divide(span, highest - lowest, container), fmt)
    shift = divide(low, scale, container) if scale > 0 else 0.0
    moved = (
        math.inf if math.isinf(shift) else nearest(Fraction(lowest) - Fraction(shift), container)
    )
    whole = moved if math.isinf(moved) else float(round(Fraction(moved)))
    zero = int(min(max(whole, lowest), highest))
    return ExactScale(scale, math.inf if scale == 0 else scale, scale, zero)


def scaled(x: float, scale: ExactScale, fmt: BlockFormat, container: FloatFormat) -> Any:
    """y as a Fraction, or as a float that says more: an infinity, NaN, or a zero with its sign."""
    if math.isnan(scale.factor):
        return math.nan
    if fmt.scale_rule.power_of_two:
        return x if math.isinf(x) or x == 0 else Fraction(x) / Fraction(scale.factor)
    operation = divide if fmt.scale_rule.divides else multiply
    y = operation(x, scale.factor, container)
    return Fraction(y) if math.isfinite(y) and y != 0 else y


def round_element(
    y: Any, fmt: BlockFormat, rounding: Rounding | Stochastic, overflow: Overflow, random: int
) -> float:
    """The value of the element format that y becomes."""
    assert not isinstance(fmt.element, CodebookFormat)
    grid, negative = fmt.element.grid, math.copysign(1.0, y) < 0
    zero = -0.0 if negative and grid.signed_zero else 0.0
    if isinstance(y, float) and (math.isnan(y) or y == 0):
        return math.nan if math.isnan(y) else zero
    if not isinstance(y, float):
        e = floor_log2(abs(y))
        below = e < grid.min_exponent
        power = (
            grid.min_exponent - grid.subnormal_fraction_bits if below else e - grid.fraction_bits
        )
        value = round_exact(y, Fraction(2) ** power, rounding, random)
        if Fraction(grid.lowest) <= value <= Fraction(grid.largest):
            return float(value) if value else zero
    limit = grid.lowest if negative else grid.largest
    if overflow is Overflow.SATURATE:
        return limit
    if overflow is Overflow.NAN or not grid.has_infinity:
        return math.nan
    stops = rounding in (Rounding.TOWARD_ZERO, Rounding.TO_ODD)
    stops = stops or rounding is (Rounding.UP if negative else Rounding.DOWN)
    return limit if stops and not isinstance(y, float) else math.copysign(math.inf, y)


def nearest_codeword(y: Any, book: CodebookFormat) -> int:
    """The code nearest to y, a tie to the even code; 0's nearest for NaN."""
    if isinstance(y, float) and math.isinf(y):
        return 0 if y < 0 else len(book.values) - 1
    exact = Fraction(0) if isinstance(y, float) else y
    gaps = [abs(exact - value) for value in book.values]
    codes = [code for code, gap in enumerate(gaps) if gap == min(gaps)]
    return codes[0] if len(codes) == 1 else next(code for code in codes if code % 2 == 0)


def round_affine(
    y: Any, zero: int, fmt: BlockFormat, rounding: Rounding | Stochastic, random: int
) -> float:
    """q = clamp(round(y) + z)."""
    if isinstance(y, float) and math.isnan(y):
        return math.nan
    lowest, highest = _ends(fmt)
    whole: Any = y if isinstance(y, float) else round_exact(y, Fraction(1), rounding, random)
    return float(min(max(whole + zero, lowest), highest))


def block_of(index: Index, fmt: BlockFormat, axis: int) -> Index:
    """The index of the block that an element lies in."""
    if not fmt.block or not index:
        return ()
    at, key = axis % len(index), list(index)
    lengths = dict(zip((at, at - 1), reversed(fmt.block), strict=False))
    for place, length in lengths.items():
        if place >= 0:
            key[place] = key[place] // length if length else 0
    return tuple(key)


def quantize_blocks_exact(
    x: NDArray[Any],
    fmt: BlockFormat,
    axis: int,
    rounding: Rounding | Stochastic = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
    random: NDArray[Any] | None = None,
) -> ExactBlocks:
    """What `quantize_blocks` and `encode_blocks` make of x; `random` as their random_bits."""
    container = FLOAT32 if x.dtype == np.float32 else FLOAT64
    members: dict[Index, list[Index]] = {}
    for index in np.ndindex(x.shape):
        members.setdefault(block_of(index, fmt, axis), []).append(index)
    tensor = (1.0, 1.0)
    if fmt.scale_rule.two_level:
        tensor = tensor_scale(_largest([float(v) for v in x.flat]), fmt, container)
    values, codes, scales = np.empty_like(x), np.empty(x.shape, np.int64), {}
    for block, indices in members.items():
        inside = [float(x[index]) for index in indices]
        if fmt.scale_rule.zero_point:
            scale = affine_scale(inside, fmt, container)
        else:
            scale = block_scale(_largest(inside), fmt, container, tensor)
        scales[block] = scale
        for index, v in zip(indices, inside, strict=True):
            r = 0 if random is None else int(random[index])
            y = scaled(v, scale, fmt, container)
            element, codes[index] = _element(y, scale.zero, fmt, container, rounding, overflow, r)
            values[index] = multiply(element, scale.total, container)
    return ExactBlocks(values, codes, scales, tensor[1])


def _element(
    y: Any,
    zero: int,
    fmt: BlockFormat,
    container: FloatFormat,
    rounding: Rounding | Stochastic,
    overflow: Overflow,
    random: int,
) -> tuple[float, int]:
    """The element without its scale, and its code."""
    nan = isinstance(y, float) and math.isnan(y)
    if isinstance(fmt.element, CodebookFormat):
        code = nearest_codeword(y, fmt.element)
        return nearest(fmt.element.values[code], container), code
    if fmt.scale_rule.zero_point:
        q = round_affine(y, zero, fmt, rounding, random)
        return q - zero, 0 if nan else int(q) % 2**fmt.bits
    q = round_element(y, fmt, rounding, overflow, random)
    if math.isnan(q) and not fmt.element.grid.has_nan:
        return q, 0
    return q, encode_exact(q, fmt.element)


def _largest(values: list[float]) -> float:
    if any(math.isnan(v) for v in values):
        return math.nan
    return max((abs(v) for v in values), default=0.0)


def _ends(fmt: BlockFormat) -> tuple[float, float]:
    assert not isinstance(fmt.element, CodebookFormat)
    return fmt.element.grid.lowest, fmt.element.grid.largest
