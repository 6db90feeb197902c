"""What the rows of all accumulation orders have: the accumulator, and how it rounds."""

from functools import cached_property

from pydantic import Field, field_validator, model_validator

from ...formats import FloatFormat, Rounding, Stochastic, get_format
from ...formats.errors import InputError
from ...formats.rounding import get_rounding
from ..tables import Row

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

    def _refuse_wide(self) -> None:
        if self.result.precision > MAX_PRECISION:
            raise InputError(
                f"accumulator = {self.accumulator!r}: at most {MAX_PRECISION} significand bits"
            )

    def _refuse_random(self, what: str) -> None:
        if self.random_bits:
            raise InputError(f"{what} does not round stochastically; chain and fused orders do")

    @cached_property
    def accumulate(self) -> Rounding | Stochastic:
        """The rounding of each step."""
        return Stochastic(self.random_bits) if self.random_bits else get_rounding(self.rounding)
