"""Block formats: elements of a narrow format that share a scale, itself a number of some format."""

import math
from dataclasses import dataclass

from ..errors import InputError
from ..format import FixedFormat, FloatFormat, Format, IntegerFormat
from ..reference import quantize_exact
from ..rounding import Overflow, Rounding, get_rounding, kernel_mode
from ..tables.codebook import CodebookFormat
from .rules import ScaleRule, get_rule
from .scales import Scaling

ElementFormat = FloatFormat | IntegerFormat | FixedFormat | CodebookFormat


@dataclass(frozen=True)
class BlockFormat:
    """Elements with a shared scale: a value is element times scale (times the tensor's scale).

    `dataclasses.replace` makes a variant: another block, axis, rule or scale format.

    Attributes:
        element: the format of the elements; a codebook is scaled into [-1, 1].
        scale: the format of the scales.
        block: (n,) elements along `axis`, or a tile (m, n), n along `axis` and m along the axis
            before it; None stands for the whole of an axis, () for the whole tensor. The last
            block of an axis is as short as the array leaves it.
        rule: a name of `rules.RULES`, where its equation stands.
        axis: the axis that blocks lie along.
        tensor_scale: the format of the scale above all blocks, for rules of two levels.
        scale_rounding: how scales are rounded into `scale`; powers of two need no rounding.
        least_scale: scales below are stored as this, one of the values of `scale`.
    """

    name: str
    element: ElementFormat
    scale: FloatFormat
    block: tuple[int | None, ...] = (32,)
    rule: str = "floor"
    axis: int = -1
    tensor_scale: FloatFormat | None = None
    scale_rounding: str | Rounding = Rounding.NEAREST_EVEN
    least_scale: float = 0.0
    source: str = ""

    def __post_init__(self) -> None:
        rule = get_rule(self.rule, f"block format {self.name}")
        for fault, remedy in (*self._shape_faults(rule), *self._number_faults(rule)):
            if fault:
                raise InputError(f"block format {self.name}: {remedy}")

    def _shape_faults(self, rule: ScaleRule) -> list[tuple[bool, str]]:
        sizes = [n for n in self.block if n is not None]
        second = self.tensor_scale is not None
        return [
            (len(self.block) > 2, f"block = {self.block} has more than two lengths; use 0 to 2"),
            (any(n < 1 for n in sizes), f"block = {self.block}: lengths are at least 1, or None"),
            (
                rule.two_level != second,
                f'rule = "{self.rule}" {"needs" if rule.two_level else "has no"} tensor_scale; '
                f"{'give its format' if rule.two_level else 'use a rule of two levels'}",
            ),
        ]

    def _number_faults(self, rule: ScaleRule) -> list[tuple[bool, str]]:
        book = isinstance(self.element, CodebookFormat)
        integer = isinstance(self.element, IntegerFormat)
        grid = None if isinstance(self.element, CodebookFormat) else self.element.grid
        fine = grid is None or grid.min_exponent - grid.subnormal_fraction_bits >= -900
        rounding = get_rounding(self.scale_rounding, f"block format {self.name}")
        least, nearest = self.least_scale, Rounding.NEAREST_EVEN
        on_grid = least == 0 or quantize_exact(least, self.scale, nearest, Overflow.NAN) == least
        return [
            (grid is not None and not grid.has_zero, f"elements {self.element.name} lack a zero"),
            (not fine, f"elements {self.element.name} reach below 2^-900; use a narrower format"),
            (book and self.rule == "even", 'rule = "even" needs elements with a significand'),
            (rule.zero_point and not integer, f'rule = "{self.rule}" needs integer elements'),
            (not isinstance(rounding, Rounding), "scale_rounding = stochastic is not supported"),
            (not (least >= 0 and on_grid), f"least_scale = {least} is no value of the scale"),
            (self.scale.exponent_bits > 10, f"scale {self.scale.name} is wider than float32"),
        ]

    @property
    def scale_rule(self) -> ScaleRule:
        """The row of `rule`."""
        return get_rule(self.rule)

    @property
    def bits(self) -> int:
        """Width of an element's code in bits; the scales come on top."""
        return self.element.bits

    @property
    def largest(self) -> float:
        """The largest element."""
        return 1.0 if isinstance(self.element, CodebookFormat) else self.element.grid.largest

    @property
    def emax(self) -> int:
        """Exponent of the largest power of two among the elements."""
        return math.frexp(self.largest)[1] - 1

    @property
    def significand_bits(self) -> int:
        """Fraction bits of the largest element's significand; 0 for codebooks."""
        if isinstance(self.element, FloatFormat):
            return self.element.fraction_bits
        if isinstance(self.element, CodebookFormat):
            return 0
        return self.element.bits - (2 if self.element.grid.lowest < 0 else 1)

    @property
    def scale_exponents(self) -> tuple[int, int]:
        """Exponents of the least and the largest power of two among the scales."""
        return math.frexp(self.scale.min_subnormal)[1] - 1, self.scale.max_exponent

    def scaling(self, narrow: bool, encode: float = 1.0, decode: float = 1.0) -> Scaling:
        """The rule as the kernels see it; `encode`, `decode`: the tensor's scale."""
        least, most = self.scale_exponents
        return Scaling(
            self.scale_rule.code, self.emax, self.significand_bits, least, most, self.largest,
            kernel_mode(get_rounding(self.scale_rounding))[0], self.least_scale, encode, decode,
            narrow,
        )  # fmt: skip


#: What a name may stand for: numbers one by one, or in blocks.
AnyFormat = Format | BlockFormat
