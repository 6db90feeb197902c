"""The exact twin of `conversion.py`: integers, fractions and bit strings, one number at a time.

It knows nothing of edges or arrays: values come from the rows' definitions, and every comparison
with a power of two that is no rational is one of integers.
"""

import math
from bisect import bisect_right
from decimal import Decimal, localcontext
from fractions import Fraction

from ..errors import InputError
from ..format import FloatFormat, TableFormat
from ..reference import decode_exact, goes_up, stochastic_up
from ..rounding import Overflow, Rounding, Stochastic
from .codebook import CodebookFormat
from .logarithmic import LogFormat
from .posit import PositFormat

Row = TableFormat | FloatFormat
_NEAREST = (Rounding.NEAREST_EVEN, Rounding.NEAREST_AWAY)
_HALF = Fraction(1, 2)


def table_code_exact(
    x: float,
    row: Row,
    rounding: Rounding | Stochastic = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.SATURATE,
    random: int = 0,
) -> int:
    """The code that x becomes; `random` is the integer r of stochastic rounding.

    Raises:
        InputError: x is NaN, or overflows to what the format has no code for.
    """
    if math.isnan(x) or (math.isinf(x) and isinstance(row, PositFormat)):
        return _nan(row)
    negative = math.copysign(1.0, x) < 0
    last = _count(row) - 1
    if math.isinf(x):
        return _past_the_end(row, negative, rounding, overflow, infinite=True)
    mirrored = not isinstance(row, CodebookFormat)
    exact = abs(Fraction(x)) if mirrored else Fraction(x)
    rung = _rung(exact, row, rounding, negative, random)
    if isinstance(row, FloatFormat) and (rung > last or (negative and rung and not row.signed)):
        return _past_the_end(row, negative, rounding, overflow, infinite=False)
    return _signed(min(max(rung, 0), last), negative, row)


def table_value_exact(code: int, row: Row) -> float:
    """The value of a code, rounded once to float64 where it is none."""
    if isinstance(row, FloatFormat):
        return decode_exact(code, row)
    if isinstance(row, CodebookFormat):
        return float(row.values[code])
    if isinstance(row, PositFormat):
        value = posit_exact(code, row.bits, row.es)
        return math.nan if value is None else float(value)
    sign = -1.0 if code >> (row.bits - 1) else 1.0
    k = code % (1 << (row.bits - 1))
    if row.zero and k == 0:
        return sign * 0.0
    whole, part = divmod(k - row.offset, row.gamma)
    return sign * math.ldexp(_root_of_two(part, row.gamma), whole)


def posit_exact(code: int, bits: int, es: int) -> Fraction | None:
    """The value of a posit as the standard reads its bits; None for NaR."""
    if code == 0:
        return Fraction(0)
    if code == 1 << (bits - 1):
        return None
    if code >> (bits - 1):
        value = posit_exact((1 << bits) - code, bits, es)
        return None if value is None else -value
    text = format(code, f"0{bits}b")[1:]
    run = len(text) - len(text.lstrip(text[0]))
    regime = run - 1 if text[0] == "1" else -run
    rest = text[run + 1 :]
    exponent = int(rest[:es].ljust(es, "0") or "0", 2)
    fraction = rest[es:]
    significand = 1 + (Fraction(int(fraction, 2), 1 << len(fraction)) if fraction else 0)
    power = (regime << es) + exponent
    return significand * Fraction(1 << max(power, 0), 1 << max(-power, 0))


def compare_with_power(x: Fraction, exponent: Fraction) -> int:
    """The sign of x - 2^exponent, for x > 0: x^q against 2^p in integers."""
    p, q = exponent.numerator, exponent.denominator
    left: int = x.numerator**q
    right: int = x.denominator**q
    if p >= 0:
        right <<= p
    else:
        left <<= -p
    return (left > right) - (left < right)


def _count(row: Row) -> int:
    """How many rungs there are: magnitudes, or codewords of both signs."""
    if isinstance(row, FloatFormat):
        return row.top_body + 1
    return len(row.values) if isinstance(row, CodebookFormat) else 1 << (row.bits - 1)


def _value(i: int, row: Row) -> Fraction:
    """A rung of a format of rationals; for floats also the one after the last."""
    if isinstance(row, FloatFormat):
        return Fraction(row.magnitude(i))
    if isinstance(row, CodebookFormat):
        return row.values[i]
    assert isinstance(row, PositFormat)
    value = posit_exact(i, row.bits, row.es)
    assert value is not None
    return value


def _against(x: Fraction, i: int, share: Fraction, row: Row) -> int:
    """The sign of x - T, T the point `share` of the way up the gap above rung i."""
    if not isinstance(row, LogFormat):
        start, end = _start(i, row), _value(i + 1, row)
        point = start + share * (end - start)
        return (x > point) - (x < point)
    step = i - row.offset
    if x == 0:
        return 0 if row.zero and i == 0 and not share else -1
    if row.zero and i == 0:
        if not share or row.underflow == "never":
            return 1
        if row.underflow == "half":
            return compare_with_power(x / share, Fraction(step + 1, row.gamma))
    if row.domain == "log" or not share:
        return compare_with_power(x, (step + share) / row.gamma)
    if row.gamma == 1:
        return _sign(x - Fraction(2) ** step * (1 + share))
    return _against_mean(x, Fraction(step, row.gamma), Fraction(step + 1, row.gamma), share)


def _start(i: int, row: Row) -> Fraction:
    """Where the gap above rung i begins: see `floats.float_table` for the one exception."""
    if i == 0 and isinstance(row, FloatFormat) and row.normal_zero_field:
        return Fraction(2) ** row.min_exponent
    return _value(i, row)


def _against_mean(x: Fraction, low: Fraction, high: Fraction, share: Fraction) -> int:
    """The sign of x - ((1 - share) 2^low + share 2^high), irrational: 120 decimal digits tell."""
    with localcontext() as context:
        context.prec = 120

        def number(y: Fraction) -> Decimal:
            return Decimal(y.numerator) / Decimal(y.denominator)

        mean = (1 - number(share)) * 2 ** number(low) + number(share) * 2 ** number(high)
        gap = number(x) - mean
        if abs(gap) < mean * Decimal(10) ** -90:
            raise ArithmeticError(f"120 digits do not tell {x} from a mean of two powers")
        return 1 if gap > 0 else -1


def _sign(x: Fraction) -> int:
    return (x > 0) - (x < 0)


def _rung(
    x: Fraction, row: Row, rounding: Rounding | Stochastic, negative: bool, random: int
) -> int:
    """The rung that x goes to; -1 or the count where it is past the ends."""
    rungs = _count(row) + isinstance(row, FloatFormat)
    low = bisect_right(range(rungs), False, key=lambda i: not _at_least(x, i, row)) - 1
    if low < 0 or low == rungs - 1 or _is_rung(x, low, row):
        return low
    mirrored = not isinstance(row, CodebookFormat)
    if rounding in _NEAREST:
        side = _nearest_side(x, low, row)
        if side:
            return low + (side > 0)
        if rounding is Rounding.NEAREST_AWAY:
            return low + (mirrored or x > 0)
        return low + low % 2
    if isinstance(rounding, Stochastic):
        down = negative and not mirrored  # magnitudes go down the list there
        return low + (_drawn(x, low, row, rounding, random, down) != down)
    if not mirrored and rounding is Rounding.TOWARD_ZERO:
        return low + negative
    return low + goes_up(low, _HALF, rounding, negative and mirrored, random)


def _at_least(x: Fraction, i: int, row: Row) -> bool:
    """Whether rung i is at most x."""
    if isinstance(row, LogFormat):
        return (row.zero and i == 0) or _against(x, i, Fraction(0), row) >= 0
    return x >= _value(i, row)


def _is_rung(x: Fraction, i: int, row: Row) -> bool:
    if isinstance(row, LogFormat):
        return x == 0 if row.zero and i == 0 else _against(x, i, Fraction(0), row) == 0
    return x == _value(i, row)


def _nearest_side(x: Fraction, i: int, row: Row) -> int:
    """Above (1), below (-1) or on (0) the threshold of rounding to nearest."""
    if not isinstance(row, PositFormat):
        return _against(x, i, _HALF, row)
    between = posit_exact(2 * i + 1, row.bits + 1, row.es)
    assert between is not None
    return 1 if i == 0 else _sign(x - between)


def _drawn(
    x: Fraction, i: int, row: Row, rounding: Stochastic, random: int, from_above: bool
) -> bool:
    """Whether a magnitude goes up; `from_above` where the gap is entered at its upper end."""
    if not isinstance(row, LogFormat):
        start, end = _start(i, row), _value(i + 1, row)
        share = max((x - start) / (end - start), Fraction(0))
        return stochastic_up(1 - share if from_above else share, rounding, random)
    if row.zero and i == 0 and row.underflow == "never":
        return True
    # The share is no rational: all that the rules ask of it is its floor in steps of 2^-(k + 1),
    # and a share that is a step exactly does not occur but for gamma = 1.
    span = 2 << rounding.bits
    steps = bisect_right(
        range(1, span), False, key=lambda t: _against(x, i, Fraction(t, span), row) < 0
    )
    on_step = steps > 0 and _against(x, i, Fraction(steps, span), row) == 0
    share = Fraction(2 * steps + (not on_step), 2 * span)
    return stochastic_up(share, rounding, random)


def _signed(rung: int, negative: bool, row: Row) -> int:
    """The code of a rung and a sign."""
    if isinstance(row, CodebookFormat) or not negative:
        return rung
    if isinstance(row, PositFormat):
        return -rung % (1 << row.bits)
    if isinstance(row, FloatFormat):
        signed = row.grid.signed_zero or (rung > 0 and row.signed)
    else:
        signed = True
    return rung | signed << (row.bits - 1)


def _past_the_end(
    row: Row, negative: bool, rounding: Rounding | Stochastic, overflow: Overflow, infinite: bool
) -> int:
    """The code of what is beyond the largest value, or below the least of unsigned formats."""
    unsigned = isinstance(row, FloatFormat) and not row.signed
    lowest = 0 if unsigned or isinstance(row, CodebookFormat) else _count(row) - 1
    limit = _signed(lowest, True, row) if negative else _count(row) - 1
    if overflow is Overflow.SATURATE or (overflow is Overflow.PROPAGATE and not infinite):
        return limit
    if not isinstance(row, FloatFormat) or overflow is Overflow.NAN or not row.infinity:
        return _nan(row)
    stops = rounding in (Rounding.TOWARD_ZERO, Rounding.TO_ODD)
    stops |= rounding is (Rounding.UP if negative else Rounding.DOWN)
    if stops and not infinite:
        return limit
    if negative and unsigned:
        return _nan(row)
    return row.infinity_body | (negative << (row.bits - 1))


def _nan(row: Row) -> int:
    if isinstance(row, PositFormat) or (isinstance(row, FloatFormat) and row.nan != "all_ones"):
        return 1 << (row.bits - 1)
    if isinstance(row, FloatFormat):
        return (1 << (row.bits - row.signed)) - 1
    raise InputError(f"{row.name} has no code for NaN; remove NaN from the input")


def _root_of_two(part: int, parts: int) -> float:
    """2^(part/parts), rounded once to float64, from the integer root of 2^(part + 90 parts)."""
    if part == 0:
        return 1.0
    root = 1 << (part + 90 * parts)
    low = 1 << 90
    high = low << 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**parts <= root else (low, middle)
    return float(Fraction(low, 1 << 90))
