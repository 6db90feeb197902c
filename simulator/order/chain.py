"""The chain: one product a step."""

from typing import Literal

from pydantic import Field, model_validator

from ...formats.errors import InputError
from .row import MAX_PRECISION, Rounded


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
