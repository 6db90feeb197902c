"""The exact, slow twins of `kernels.py`: Python integers and fractions, one value at a time.

A hardware engineer reviews this file; the kernels are held bit-equal to it.
"""

import math
from fractions import Fraction

from .errors import InputError
from .format import ArithmeticFormat, FloatFormat, IntegerFormat
from .rounding import Overflow, Rounding, Stochastic


def floor_log2(x: Fraction) -> int:
    """The largest e with 2^e <= x, for x > 0."""
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if Fraction(2) ** e <= x else e - 1


def quantum(x: Fraction, fmt: ArithmeticFormat) -> Fraction:
    """The distance between neighbouring values of the format at magnitude x >= 0."""
    if isinstance(fmt, IntegerFormat):
        return Fraction(1)
    e = floor_log2(x) if x else fmt.min_exponent
    if e >= fmt.min_exponent:
        return Fraction(2) ** (e - fmt.fraction_bits)
    return Fraction(fmt.min_subnormal)


def round_exact(
    x: Fraction, step: Fraction, rounding: Rounding | Stochastic, random: int = 0
) -> Fraction:
    """|x| / step rounded to an integer, times step, with the sign of x."""
    negative, magnitude = x < 0, abs(x) / step
    low = math.floor(magnitude)
    up = _goes_up(low, magnitude - low, rounding, negative, random)
    value = (low + up) * step
    return -value if negative else value


def _goes_up(
    low: int, d: Fraction, rounding: Rounding | Stochastic, negative: bool, random: int
) -> bool:
    """Whether the magnitude low + d, 0 <= d < 1, becomes low + 1."""
    if isinstance(rounding, Stochastic):
        return _stochastic_up(d, rounding, random)
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


def _stochastic_up(d: Fraction, rounding: Stochastic, random: int) -> bool:
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
    fmt: ArithmeticFormat,
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
        saturates = overflow in (Overflow.SATURATE, Overflow.PROPAGATE)
        return grid.lowest if x > 0 or saturates else math.nan
    if not grid.has_zero and value < Fraction(grid.lowest):
        return grid.lowest
    if value > Fraction(grid.largest) or value < Fraction(grid.lowest):
        if overflow is Overflow.WRAP:
            codes = int(grid.largest) - int(grid.lowest) + 1
            return float((int(value) - int(grid.lowest)) % codes + int(grid.lowest))
        return _overflowed(x, fmt, rounding, overflow, infinite=False)
    if value == 0:
        return math.copysign(0.0, x) if grid.signed_zero else 0.0
    return float(value)


def _overflowed(
    x: float,
    fmt: ArithmeticFormat,
    rounding: Rounding | Stochastic,
    overflow: Overflow,
    infinite: bool,
) -> float:
    limit = fmt.grid.largest if x > 0 else fmt.grid.lowest
    if overflow is Overflow.SATURATE or (overflow is Overflow.PROPAGATE and not infinite):
        return limit
    if overflow is Overflow.NAN or not fmt.grid.has_infinity:
        return math.nan
    toward_zero = (
        rounding in (Rounding.TOWARD_ZERO, Rounding.TO_ODD)
        or (rounding is Rounding.UP and x < 0)
        or (rounding is Rounding.DOWN and x > 0)
    )
    if toward_zero and not infinite:
        return limit
    return math.inf if x > 0 else -math.inf if fmt.grid.lowest < 0 else math.nan


def decode_exact(code: int, fmt: ArithmeticFormat) -> float:
    """The value of a code."""
    if isinstance(fmt, IntegerFormat):
        return float(code - 2**fmt.bits if fmt.signed and code >> (fmt.bits - 1) else code)
    sign = -1.0 if fmt.signed and code >> (fmt.bits - 1) else 1.0
    body = code % 2 ** (fmt.bits - fmt.signed)
    exponent, fraction = divmod(body, 2**fmt.fraction_bits)
    top = exponent == 2**fmt.exponent_bits - 1
    if fmt.nan == "negative_zero" and sign < 0 and body == 0:
        return math.nan
    if fmt.nan == "all_ones" and body == 2 ** (fmt.bits - fmt.signed) - 1:
        return math.nan
    if fmt.nan == "ieee" and top:
        return math.nan if fraction or not fmt.infinity else sign * math.inf
    if exponent == 0 and fmt.zero:
        # Without subnormals every code of exponent field 0 reads as zero.
        return sign * fraction * fmt.min_subnormal if fmt.subnormals else sign * 0.0
    scale = Fraction(2) ** (exponent - (1 if fmt.zero else 0) + fmt.min_exponent)
    return sign * float((1 + Fraction(fraction, 2**fmt.fraction_bits)) * scale)


def encode_exact(value: float, fmt: ArithmeticFormat) -> int:
    """The code of a value of the format; NaN becomes the canonical quiet NaN.

    Raises:
        InputError: `value` is NaN or infinite and the format has no code for it.
    """
    if isinstance(fmt, IntegerFormat):
        return int(value) % (1 << fmt.bits)
    if math.isnan(value):
        return nan_code(fmt)
    sign = int(math.copysign(1.0, value) < 0) << (fmt.bits - 1) if fmt.signed else 0
    if math.isinf(value):
        return sign | ((1 << fmt.exponent_bits) - 1) << fmt.fraction_bits
    x = abs(Fraction(value))
    if x < Fraction(fmt.min_normal):
        return sign | int(x / Fraction(fmt.min_subnormal))
    e = floor_log2(x)
    field = e - fmt.min_exponent + (1 if fmt.zero else 0)
    fraction = int((x / Fraction(2) ** e - 1) * 2**fmt.fraction_bits)
    return sign | field << fmt.fraction_bits | fraction


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
            top = ((1 << fmt.exponent_bits) - 1) << fmt.fraction_bits
            return top | 1 << (fmt.fraction_bits - 1)
    raise InputError(f"{fmt.name} has no code for NaN; remove NaN from the input")
