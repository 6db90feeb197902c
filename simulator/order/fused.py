"""Fused orders: many products aligned to the largest exponent, truncated, summed exactly."""

from functools import cached_property
from typing import Literal

from pydantic import Field, field_validator, model_validator

from ...formats import FloatFormat, get_format
from ...formats.errors import InputError
from ..tables import Row
from .row import Rounded

#: Bits that float64 carries exactly, in which the aligned terms are summed.
SUM_BITS = 53


class Scale(Row):
    """The scales of block-scaled operands: one for `block` neighbours in k, of each operand.

    Attributes:
        format: of the scales; a sign is ignored (ue4m3 is float8_e4m3fn without it).
        block: elements that share a scale.
    """

    format: str
    block: int = Field(ge=4, multiple_of=4)

    @field_validator("format")
    @classmethod
    def _known(cls, name: str) -> str:
        return get_format(name).name

    @cached_property
    def fmt(self) -> FloatFormat:
        """The scales' format."""
        fmt = get_format(self.format)
        if not isinstance(fmt, FloatFormat) or fmt.precision > 8 or fmt.infinity:
            raise InputError(
                f"scale format = {self.format!r} is not a float of at most 8 significand bits "
                "without infinities, such as float8_e8m0fnu or float8_e4m3fn"
            )
        return fmt

    @model_validator(mode="after")
    def _usable(self) -> "Scale":
        self.fmt  # noqa: B018, as the check it is
        return self


class Fused(Rounded):
    """`block` products and c at once: aligned, truncated, summed exactly, rounded once.

    Each term is truncated toward zero to F bits below the largest exponent among the terms. The
    exponent of a product is that of its factors together, of the scales too, and its significand
    is not renormalised. Overflow is to infinity in every rounding, and a zero result is +0.

    Attributes:
        block: L, products in one sum; a longer K is a chain of blocks.
        fraction_bits: F, bits kept below the largest exponent.
        min_exponent: the alignment exponent never goes below this.
        scale: one factor for each run of elements of a and b; see `Scale`. Absent scales are 1.
        group: products that are summed exactly first and aligned as one term, whose exponent is
            that of its scales alone; it has no exponent if all its products or a scale are 0.
    """

    order: Literal["fused"]
    block: int = Field(ge=4, multiple_of=4)
    fraction_bits: int = Field(ge=1, le=40)
    min_exponent: int
    rounding: str = "toward_zero"
    scale: Scale | None = None
    group: int | None = Field(default=None, ge=4, le=32, multiple_of=4)

    @model_validator(mode="after")
    def _exact_in_float64(self) -> "Fused":
        self._refuse_wide()
        width = self.fraction_bits + 2 + (self.block + 1).bit_length()
        if self.scale is not None and self.scale.fmt.fraction_bits:
            width += 2  # four significands below 2, not two
        if width > SUM_BITS:
            raise InputError(
                f"fraction_bits = {self.fraction_bits} with block = {self.block}: the sum needs "
                f"{width} bits, more than the {SUM_BITS} it is computed in"
            )
        return self

    @model_validator(mode="after")
    def _whole_blocks(self) -> "Fused":
        if self.group is not None and self.scale is None:
            raise InputError("group goes with a scale, whose exponents align the groups")
        for what, part in (("group", self.group), ("scale block", self._scale_block())):
            if part and self.block % part and part % self.block:
                raise InputError(f"{what} = {part} and block = {self.block}: one must divide other")
        if self.group and (self.block % self.group or self._scale_block() % self.group):
            raise InputError(f"group = {self.group} must divide block and the scale's block")
        return self

    def _scale_block(self) -> int:
        return self.scale.block if self.scale else self.block

    def describe(self) -> str:
        """One line for a table."""
        what = f"{self.block} products"
        if self.group:
            what = f"{self.block // self.group} exact sums of {self.group} products"
        scale = f" scaled by {self.scale.format} per {self.scale.block}" if self.scale else ""
        return (
            f"fused sum of {what}{scale} and C, {self.fraction_bits} fraction bits, "
            f"truncated, then {self.accumulate} to {self.accumulator}"
        )


class TwoStage(Rounded):
    """Products fused first, truncating; then their sum and c, aligned anew, rounding down.

        ed = largest product exponent;  D = sum trunc(a_k b_k, 2^(ed - F))
        em = max(ed, e(c));  s = floor(D, 2^(em - guard_bits)) + floor(c, 2^(em - F))

    with trunc and floor to multiples of their second argument. With two lanes, even and odd k
    make a D each with its own ed; both are floored to 2^(ed - F) of the larger and added. s is
    floored once more to `sum_bits` below its own exponent (where given), then rounded. A product
    beyond the accumulator's exponent range is infinite.

    Attributes:
        block: L, products in one sum; a longer K is a chain of blocks.
        lanes: 1, or 2 for even and odd k apart.
        fraction_bits: F.
        guard_bits: fraction bits that the sum of products keeps when it meets c.
        sum_bits: fraction bits that the sum of both keeps before it is rounded; None: all.
        drop_c: c counts as 0 when e(c) < em - drop_c; None: never.
    """

    order: Literal["two_stage"]
    block: int = Field(ge=4, multiple_of=4)
    lanes: Literal[1, 2] = 1
    fraction_bits: int = Field(ge=1, le=40)
    guard_bits: int = Field(ge=1, le=44)
    sum_bits: int | None = Field(default=None, ge=1, le=44)
    drop_c: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _exact_in_float64(self) -> "TwoStage":
        self._refuse_wide()
        self._refuse_random("a two_stage order")
        if self.block % (4 * self.lanes):
            raise InputError(f"block = {self.block} is not a multiple of {4 * self.lanes}")
        width = max(self.fraction_bits, self.guard_bits) + 3 + self.block.bit_length()
        if width > SUM_BITS:
            raise InputError(
                f"fraction_bits = {self.fraction_bits} and guard_bits = {self.guard_bits} with "
                f"block = {self.block}: the sum needs {width} bits, more than the {SUM_BITS} it "
                "is computed in"
            )
        return self

    def describe(self) -> str:
        """One line for a table."""
        lanes = ", even and odd apart" if self.lanes == 2 else ""
        return (
            f"fused sum of {self.block} products{lanes}, {self.fraction_bits} fraction bits, "
            f"truncated, then C with {self.guard_bits} guard bits, rounded down, then "
            f"{self.accumulate} to {self.accumulator}"
        )
