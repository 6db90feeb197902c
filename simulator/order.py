"""Accumulation orders: what a dot-product unit does with its products, as frozen rows.

A row has every width and every rounding; the equations are in `reference.py`, the kernels in
`kernels/`. All are read from the TOML of a chip.
"""

from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ..formats import FloatFormat, IntegerFormat, Rounding, Stochastic, get_format
from ..formats.errors import InputError, choice
from ..formats.rounding import get_rounding
from .tables import Row

#: Operands and accumulators within these have exact products and sums to odd in float64.
MAX_PRECISION = 26
MAX_EXPONENT_BITS = 8


class Order(Row):
    """What all orders have: the accumulator's format."""

    accumulator: str

    @field_validator("accumulator")
    @classmethod
    def _known(cls, name: str) -> str:
        return get_format(name).name

    @cached_property
    def result(self) -> FloatFormat:
        """The accumulator's format."""
        fmt = get_format(self.accumulator)
        if not isinstance(fmt, FloatFormat):
            raise InputError(f"accumulator = {self.accumulator!r} is not a floating-point format")
        if not fmt.infinity:
            raise InputError(
                f"accumulator = {self.accumulator!r} has no infinity to overflow to; use an "
                "IEEE-like eXmY of the same widths"
            )
        if fmt.exponent_bits > MAX_EXPONENT_BITS and fmt.name != "float64":
            raise InputError(
                f"accumulator = {self.accumulator!r}: at most {MAX_EXPONENT_BITS} exponent bits, "
                "or float64 as it is"
            )
        return fmt


class Rounded(Order):
    """An order that rounds to a floating-point accumulator."""

    rounding: str = "nearest_even"
    random_bits: int | None = Field(default=None, ge=1, le=32)

    @model_validator(mode="after")
    def _consistent(self) -> "Rounded":
        rounding = get_rounding(self.rounding)
        if isinstance(rounding, Stochastic) != (self.random_bits is not None):
            raise InputError('random_bits goes with rounding = "stochastic", and only with it')
        room = 51 - self.result.precision
        if self.random_bits is not None and self.random_bits > room:
            raise InputError(
                f"random_bits = {self.random_bits} is not one of 1 to {room} for an accumulator "
                f"of {self.result.precision} bits"
            )
        return self

    @cached_property
    def accumulate(self) -> Rounding | Stochastic:
        """The rounding of each step."""
        return Stochastic(self.random_bits) if self.random_bits else get_rounding(self.rounding)


class Chain(Rounded):
    """One product a step: c <- round(c + a_k b_k).

    Attributes:
        fused: False rounds each product to the accumulator's format first (nearest-even).
        lanes: interleaved chains (k mod lanes), summed in ascending order at the end, then to c.
        flush: subnormal inputs, sums and results become zeros of their sign; a result is
            subnormal if it is so after rounding with an unbounded exponent.
    """

    order: Literal["chain"]
    fused: bool = True
    lanes: int = Field(default=1, ge=1)
    flush: bool = False

    @model_validator(mode="after")
    def _supported(self) -> "Chain":
        if self.flush and (self.accumulator != "float32" or self.random_bits):
            raise InputError("flush = true goes with a float32 accumulator, not stochastic")
        if self.result.precision > MAX_PRECISION and (
            self.accumulator != "float64" or self.rounding != "nearest_even" or not self.fused
        ):
            raise InputError(
                f"accumulator = {self.accumulator!r}: beyond {MAX_PRECISION} significand bits only "
                "float64 with nearest_even and fused = true"
            )
        return self

    def describe(self) -> str:
        """One line for a table."""
        step = "fused multiply-add" if self.fused else "rounded product, then add"
        lanes = f", {self.lanes} interleaved lanes" if self.lanes > 1 else ""
        flush = ", subnormals flushed" if self.flush else ""
        return f"chain of {step}s in {self.accumulator}, {self.accumulate}{lanes}{flush}"


class Fused(Rounded):
    """`block` products and c at once: aligned, truncated, summed exactly, rounded once.

    Attributes:
        block: L, products in one sum; a longer K is a chain of blocks.
        fraction_bits: F, bits kept below the largest exponent.
        min_exponent: the alignment exponent never goes below this.
    """

    order: Literal["fused"]
    block: int = Field(ge=4, multiple_of=4)
    fraction_bits: int = Field(ge=1, le=40)
    min_exponent: int
    rounding: str = "toward_zero"

    @field_validator("rounding")
    @classmethod
    def _offered(cls, name: str) -> str:
        return choice(name, ("toward_zero", "nearest_even"), "rounding")

    @model_validator(mode="after")
    def _exact_in_float64(self) -> "Fused":
        width = self.fraction_bits + 2 + (self.block + 1).bit_length()
        if self.result.precision > MAX_PRECISION:
            raise InputError(
                f"accumulator = {self.accumulator!r}: at most {MAX_PRECISION} significand bits"
            )
        if width > 53:
            raise InputError(
                f"fraction_bits = {self.fraction_bits} with block = {self.block}: the sum needs "
                f"{width} bits, more than the 53 it is computed in"
            )
        return self

    def describe(self) -> str:
        """One line for a table."""
        return (
            f"fused sum of {self.block} products and C, {self.fraction_bits} fraction bits, "
            f"truncated, then {self.rounding} to {self.accumulator}"
        )


class Exact(Rounded):
    """All products of a block and c summed exactly, rounded once; no block: all of K."""

    order: Literal["exact"]
    block: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _deterministic(self) -> "Exact":
        if self.random_bits or self.result.precision > MAX_PRECISION:
            raise InputError(
                f"an exact order rounds once, to at most {MAX_PRECISION} bits, not stochastically"
            )
        return self

    def describe(self) -> str:
        """One line for a table."""
        scope = f"of {self.block} products and C" if self.block else "of all products and C"
        return f"exact sum {scope}, then {self.rounding} to {self.accumulator}"


class Integer(Row):
    """The exact integer sum, wrapped at the end or saturated after each block."""

    order: Literal["integer"]
    accumulator: str = "int32"
    overflow: Literal["wrap", "saturate"] = "wrap"
    block: int | None = Field(default=None, ge=1)

    @cached_property
    def result(self) -> IntegerFormat:
        """The accumulator's format."""
        fmt = get_format(self.accumulator)
        if not isinstance(fmt, IntegerFormat):
            raise InputError(f"accumulator = {self.accumulator!r} is not an integer format")
        return fmt

    def describe(self) -> str:
        """One line for a table."""
        return f"exact integer sum in {self.accumulator}, {self.overflow}"


AnyOrder = Annotated[Chain | Fused | Exact | Integer, Field(discriminator="order")]
