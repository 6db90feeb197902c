"""Which formats hold an operand, exactly or after one rounding."""

from collections.abc import Callable

from ...formats.format import FloatFormat, GridFormat, IntegerFormat, fits
from ..recipe_rows import Operand

#: Significand bits that a dequantised float32 scale is rounded to, at least.
LEAST_PRECISION = 8


def holder(operand: Operand, dequantised: bool) -> Callable[[GridFormat], bool]:
    """Tells whether a unit's format holds the elements, or the dequantised values."""
    elements = operand.fmt.grid

    def holds(fmt: GridFormat) -> bool:
        if isinstance(fmt, IntegerFormat):
            inside = fmt.lowest <= elements.lowest and fmt.largest >= elements.largest
            return isinstance(operand.fmt, IntegerFormat) and not dequantised and inside
        if not isinstance(fmt, FloatFormat):
            return False
        if operand.blocks is None or not dequantised:
            return fits(operand.fmt, fmt)
        if operand.blocks.scale.exponent_bits >= 8:  # the values are float32's, not the product's
            reach = fmt.exponent_bits >= 8
        else:
            reach = fmt.largest >= _most(operand) and fmt.min_subnormal <= _least(operand)
        return reach and fmt.precision >= min(_precision(operand), LEAST_PRECISION)

    return holds


def _precision(operand: Operand) -> int:
    """Significand bits of an element times a scale."""
    assert operand.blocks is not None
    scale = operand.blocks.scale
    return operand.fmt.precision + (scale.precision if scale.fraction_bits else 0)


def _most(operand: Operand) -> float:
    assert operand.blocks is not None
    return operand.blocks.largest * operand.blocks.scale.largest


def _least(operand: Operand) -> float:
    assert operand.blocks is not None
    grid = operand.fmt.grid
    return float(2.0 ** (grid.min_exponent - grid.subnormal_fraction_bits)
                 * operand.blocks.scale.min_subnormal)  # fmt: skip


def is_exact(operand: Operand, fmt: GridFormat) -> bool:
    """Whether the format holds the significand of every dequantised value."""
    return operand.blocks is None or fmt.precision >= _precision(operand)
