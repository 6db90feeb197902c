"""Sums in an accumulator's format, infinities and NaN: what all references share."""

import math
from collections.abc import Sequence
from fractions import Fraction

from ...formats.format import ArithmeticFormat, FloatFormat
from ...formats.reference import floor_log2, quantum, round_exact
from ...formats.rounding import Rounding, Stochastic

Values = Sequence[float]


def rounded(
    x: Fraction, fmt: FloatFormat, rounding: Rounding | Stochastic, random: int = 0
) -> float:
    """An exact sum in an accumulator's format; overflow and the sign of zero as IEEE 754."""
    value = round_exact(x, quantum(abs(x), fmt), rounding, random)
    if abs(value) > Fraction(fmt.largest):
        stops = rounding in (Rounding.TOWARD_ZERO, Rounding.TO_ODD)
        stops = stops or rounding is (Rounding.UP if x < 0 else Rounding.DOWN)
        return math.copysign(fmt.largest if stops else math.inf, 1 if x > 0 else -1)
    return float(value) if value else math.copysign(0.0, x)


def special_sum(a: Values, b: Values, c: float) -> float | None:
    """NaN or infinity if a term is one, NaN for Inf * 0 and Inf - Inf; None if all are finite."""
    pairs = zip(a, b, strict=True)
    terms = [c, *(x * y for x, y in pairs if not (math.isfinite(x) and math.isfinite(y)))]
    if any(math.isnan(t) for t in terms):
        return math.nan
    infinite = {t for t in terms if math.isinf(t)}
    if not infinite:
        return None
    return infinite.pop() if len(infinite) == 1 else math.nan


def exponent(x: float, fmt: ArithmeticFormat) -> int:
    """floor(log2 |x|) for x != 0, subnormals at the smallest exponent."""
    e = floor_log2(abs(Fraction(x)))
    return max(e, fmt.min_exponent) if isinstance(fmt, FloatFormat) else e


def flushed_result(
    x: Fraction, fmt: FloatFormat, rounding: Rounding | Stochastic, before: bool = False
) -> float:
    """Rounded, then a subnormal becomes a signed zero.

    It is one if it is so rounded as if the exponent had no lower end, or `before` any rounding.
    """
    unbounded = Fraction(2) ** (floor_log2(abs(x)) - fmt.fraction_bits)
    tested = x if before else round_exact(x, unbounded, rounding)
    if abs(tested) < Fraction(fmt.min_normal):
        return math.copysign(0.0, x)
    return rounded(x, fmt, rounding)


def flushed(x: float, smallest: float = 2.0**-126) -> float:
    """A subnormal float32 as a zero of its sign."""
    return math.copysign(0.0, x) if abs(x) < smallest else x
