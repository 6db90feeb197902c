"""The exact, slow twins of `kernels.py`: Python integers and fractions, one value at a time.

A hardware engineer reviews this file; the kernels are held bit-equal to it.
"""

import math
from fractions import Fraction

from .errors import InputError
from .format import FixedFormat, FloatFormat, GridFormat, IntegerFormat
from .rounding import Overflow, Rounding, Stochastic


def floor_log2(x: Fraction) -> int:
    """The largest e with 2^e <= x, for x > 0."""
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if Fraction(2) ** e <= x else e - 1


def quantum(x: Fraction, fmt: GridFormat) -> Fraction:
    """The distance between neighbouring values of the format at magnitude x >= 0."""
    if not isinstance(fmt, FloatFormat):
        return _step(fmt)
    e = floor_log2(x) if x else fmt.min_exponent
    if e >= fmt.min_exponent:
        return Fraction(2) ** (e - fmt.fraction_bits)
    return Fraction(fmt.min_subnormal)


def _step(fmt: IntegerFormat | FixedFormat) -> Fraction:
    return Fraction(1, 1 << fmt.fraction_bits) if isinstance(fmt, FixedFormat) else Fraction(1)


def round_exact(
    x: Fraction, step: Fraction, rounding: Rounding | Stochastic, random: int = 0
) -> Fraction:
    """|x| / step rounded to an integer, times step, with the sign of x."""
    negative, magnitude = x < 0, abs(x) / step
    low = math.floor(magnitude)
    up = goes_up(low, magnitude - low, rounding, negative, random)
    value = (low + up) * step
    return -value if negative else value


def goes_up(
    low: int, d: Fraction, rounding: Rounding | Stochastic, negative: bool, random: int
) -> bool:
    """Whether the magnitude low + d, 0 <= d < 1, becomes low + 1."""
    if isinstance(rounding, Stochastic):
        return stochastic_up(d, rounding, random)
    match rounding:
        case Rounding.NEAREST_EVEN:
            return d > Fraction(1, 2) or (d == Fraction(1, 2) and low % 2 == 1)
        case Rounding.NEAREST_AWAY:
            return d >= Fraction(1, 2)
        case Rounding.TOWARD_ZERO:
            return False
        case Rounding.UP:
            return d > 0 and not negative
        case Rounding.DOWN:
            return d > 0 and negative
        case Rounding.TO_ODD:
            return d > 0 and low % 2 == 0
    raise InputError(f"{rounding} has no reference")


def stochastic_up(d: Fraction, rounding: Stochastic, random: int) -> bool:
    """Whether a magnitude with the discarded fraction 0 <= d < 1 goes up."""
    span = 1 << rounding.bits
    match rounding.rule:
        case "srff":
            return math.floor(d * span) + random >= span
        case "srf":
            return d + (random + Fraction(1, 2)) / span >= 1
        case _:
            return round(d * span) + random >= span  # round() of a Fraction ties to even


def quantize_exact(
    x: float,
    fmt: GridFormat,
    rounding: Rounding | Stochastic,
    overflow: Overflow = Overflow.SATURATE,
    random: int = 0,
) -> float:
    """The value of the format that x becomes; `random` is the integer r of stochastic rounding."""
    grid = fmt.grid
    if math.isnan(x):
        return math.nan
    if math.isinf(x):
        return _overflowed(x, fmt, rounding, overflow, infinite=True)
    exact = Fraction(x)
    value = round_exact(exact, quantum(abs(exact), fmt), rounding, random)
    if not grid.has_zero and value <= 0:
        return grid.lowest if x > 0 or overflow is Overflow.SATURATE else math.nan
    if not grid.has_zero and value < Fraction(grid.lowest):
        return grid.lowest
    if value > Fraction(grid.largest) or value < Fraction(grid.lowest):
        if overflow is Overflow.WRAP:
            lowest = Fraction(grid.lowest)
            codes = Fraction(grid.largest) - lowest + quantum(Fraction(0), fmt)
            return float((value - lowest) % codes + lowest)
        return _overflowed(x, fmt, rounding, overflow, infinite=False)
    if value == 0:
        return math.copysign(0.0, x) if grid.signed_zero else 0.0
    return float(value)


def _overflowed(
    x: float,
    fmt: GridFormat,
    rounding: Rounding | Stochastic,
    overflow: Overflow,
    infinite: bool,
) -> float:
    limit = fmt.grid.largest if x > 0 else fmt.grid.lowest
    if overflow is Overflow.SATURATE:
        return limit
    if overflow is not Overflow.INFINITY or not fmt.grid.has_infinity:
        return math.nan
    no_negative = isinstance(fmt, FloatFormat) and not fmt.signed
    toward_zero = (
        rounding in (Rounding.TOWARD_ZERO, Rounding.TO_ODD)
        or (rounding is Rounding.UP and x < 0)
        or (rounding is Rounding.DOWN and x > 0)
    )
    if toward_zero and not infinite:
        return limit
    return math.nan if x < 0 and no_negative else math.copysign(math.inf, x)


def decode_exact(code: int, fmt: GridFormat) -> float:
    """The value of a code."""
    if not isinstance(fmt, FloatFormat):
        whole = code - 2**fmt.bits if fmt.signed and code >> (fmt.bits - 1) else code
        return float(whole * _step(fmt))
    negative = fmt.signed and bool(code >> (fmt.bits - 1))
    body = code % 2 ** (fmt.bits - fmt.signed)
    if fmt.nan == "negative_zero" and negative and body == 0:
        return math.nan
    if body <= fmt.top_body:
        value = float(_finite(body, fmt))
    else:
        value = math.inf if fmt.infinity and body == fmt.infinity_body else math.nan
    return -value if negative else value


def _finite(body: int, fmt: FloatFormat) -> Fraction:
    """The magnitude of a body below the special ones, from its fields."""
    field, fraction = divmod(body, 2**fmt.fraction_bits)
    share = Fraction(fraction, 2**fmt.fraction_bits)
    if field or not fmt.zero or (fmt.normal_zero_field and fraction):
        return (1 + share) * _power_of_two(field - fmt.exponent_bias)
    # Without subnormals every other code of exponent field 0 reads as zero.
    return share * _power_of_two(1 - fmt.exponent_bias) if fmt.subnormals else Fraction(0)


def _power_of_two(e: int) -> Fraction:
    return Fraction(1 << max(e, 0), 1 << max(-e, 0))


def encode_exact(value: float, fmt: GridFormat) -> int:
    """The code of a value of the format; NaN becomes the canonical quiet NaN.

    Raises:
        InputError: `value` is NaN or infinite and the format has no code for it.
    """
    if not isinstance(fmt, FloatFormat):
        return int(Fraction(value) / _step(fmt)) % (1 << fmt.bits)
    if math.isnan(value) or (math.isinf(value) and not fmt.infinity):
        return nan_code(fmt)
    negative = fmt.signed and math.copysign(1.0, value) < 0
    sign = int(negative and fmt.grid.signed_zero | (value != 0)) << (fmt.bits - 1)
    if math.isinf(value):
        return sign | fmt.infinity_body
    x = abs(Fraction(value))
    if x < Fraction(2) ** fmt.min_exponent:
        return sign | int(x / Fraction(fmt.min_subnormal))
    e = floor_log2(x)
    fraction = int((x / Fraction(2) ** e - 1) * 2**fmt.fraction_bits)
    return sign | (e + fmt.exponent_bias) << fmt.fraction_bits | fraction


def nan_code(fmt: FloatFormat) -> int:
    """The canonical NaN: the only one, or the positive quiet one.

    Raises:
        InputError: the format has no NaN.
    """
    ones = (1 << (fmt.bits - fmt.signed)) - 1
    match fmt.nan:
        case "all_ones":
            return ones
        case "negative_zero":
            return 1 << (fmt.bits - 1)
        case "ieee":
            return (fmt.top_body + 1) | 1 << (fmt.fraction_bits - 1)
    raise InputError(f"{fmt.name} has no code for NaN; remove NaN from the input")
