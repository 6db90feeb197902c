"""The exact, slow twins of the dot kernels: fractions, one dot product at a time.

These functions read like the specification of the unit; a hardware engineer reviews them. Values
are Python floats, sums are `Fraction`; nothing is rounded but where `rounded` is called.
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from ..formats.format import ArithmeticFormat, FloatFormat
from ..formats.reference import floor_log2, quantize_exact, quantum, round_exact
from ..formats.rounding import Overflow, Rounding, Stochastic
from .order import Chain, Exact, Fused, Integer

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


def fused_block(
    a: Values, b: Values, c: float, order: Fused, inputs: tuple[ArithmeticFormat, ArithmeticFormat]
) -> float:
    """One block: align to the largest exponent, truncate each term, sum exactly, round once."""
    special = special_sum(a, b, c)
    if special is not None:
        return special
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x != 0 and y != 0]
    exponents = [exponent(x, inputs[0]) + exponent(y, inputs[1]) for x, y in pairs]
    if c != 0:
        exponents.append(exponent(c, order.result))
    emax = max([order.min_exponent, *exponents])
    unit = Fraction(2) ** (emax - order.fraction_bits)
    terms = [Fraction(x) * Fraction(y) for x, y in pairs] + [Fraction(c)]
    total = sum((round_exact(t, unit, Rounding.TOWARD_ZERO) for t in terms), Fraction(0))
    value = round_exact(total, quantum(abs(total), order.result), Rounding(order.rounding))
    if abs(value) > Fraction(order.result.largest):
        return math.copysign(math.inf, value)
    return float(value) if value else 0.0


def fused(
    a: Values, b: Values, c: float, order: Fused, inputs: tuple[ArithmeticFormat, ArithmeticFormat]
) -> float:
    """Blocks of `order.block` products in k order; the result of one is the c of the next."""
    for k in range(0, len(a), order.block):
        c = fused_block(a[k : k + order.block], b[k : k + order.block], c, order, inputs)
    return c


def chain_step(
    c: float, x: float, y: float, order: Chain, rounding: Rounding | Stochastic, random: int
) -> float:
    """round(c + x y), the product rounded first unless the unit fuses."""
    if order.flush:
        x, y, c = flushed(x), flushed(y), flushed(c)
    if not order.fused and math.isfinite(x) and math.isfinite(y) and x * y:
        x, y = rounded(Fraction(x) * Fraction(y), order.result, Rounding.NEAREST_EVEN), 1.0
    special = special_sum([x], [y], c)
    if special is not None:
        return special
    total = Fraction(c) + Fraction(x) * Fraction(y)
    if not total:
        return c + x * y  # IEEE's sign of an exact zero
    if order.flush:
        return _flushed_result(total, order.result, rounding)
    return rounded(total, order.result, rounding, random)


def _flushed_result(x: Fraction, fmt: FloatFormat, rounding: Rounding | Stochastic) -> float:
    """Rounded as if the exponent had no lower end, then a subnormal becomes a signed zero."""
    unbounded = Fraction(2) ** (floor_log2(abs(x)) - fmt.fraction_bits)
    if abs(round_exact(x, unbounded, rounding)) < Fraction(fmt.min_normal):
        return math.copysign(0.0, x)
    return rounded(x, fmt, rounding)


def flushed(x: float, smallest: float = 2.0**-126) -> float:
    """A subnormal float32 as a zero of its sign."""
    return math.copysign(0.0, x) if abs(x) < smallest else x


def chain(a: Values, b: Values, c: float, order: Chain, draw: Callable[[int, int], int]) -> float:
    """`order.lanes` interleaved chains; lane 0 starts from c if it is the only one.

    Several lanes start from +0 and are added in ascending order, then to c. `draw(k, bits)` is the
    random integer of step k.
    """
    rounding = order.accumulate
    lanes = [c] if order.lanes == 1 else [0.0] * order.lanes
    for k, (x, y) in enumerate(zip(a, b, strict=True)):
        random = 0
        if isinstance(rounding, Stochastic):
            random = draw(k, rounding.bits)
        lane = k % order.lanes
        lanes[lane] = chain_step(lanes[lane], x, y, order, rounding, random)
    total = lanes[0]
    for other in lanes[1:]:
        total = add(total, other, order.result, rounding, order.flush)
    return total if order.lanes == 1 else add(c, total, order.result, rounding, order.flush)


def add(
    x: float, y: float, fmt: FloatFormat, rounding: Rounding | Stochastic, flush: bool
) -> float:
    """round(x + y), one addition of an accumulator."""
    if flush:
        x, y = flushed(x), flushed(y)
    special = special_sum([x], [1.0], y)
    if special is not None:
        return special
    total = Fraction(x) + Fraction(y)
    if not total:
        return x + y
    if flush:
        return _flushed_result(total, fmt, rounding)
    return rounded(total, fmt, rounding)


def exact(a: Values, b: Values, c: float, order: Exact) -> float:
    """Each block of products and c summed exactly and rounded once."""
    block = order.block or max(len(a), 1)
    for k in range(0, max(len(a), 1), block):
        pairs = list(zip(a[k : k + block], b[k : k + block], strict=True))
        special = special_sum(a[k : k + block], b[k : k + block], c)
        if special is not None:
            c = special
            continue
        total = sum((Fraction(x) * Fraction(y) for x, y in pairs), Fraction(c))
        c = rounded(total, order.result, order.accumulate)
    return c


def integer(a: Values, b: Values, c: float, order: Integer) -> float:
    """The exact sum; wraps modulo 2^bits, or saturates after each block."""
    total, fmt = int(c), order.result
    block = order.block or max(len(a), 1)
    for k in range(0, len(a), block):
        total += sum(
            int(x) * int(y) for x, y in zip(a[k : k + block], b[k : k + block], strict=True)
        )
        total = int(
            quantize_exact(
                float(total) if abs(total) < 2**53 else math.copysign(2.0**60, total),
                fmt, Rounding.NEAREST_EVEN, Overflow(order.overflow),
            )
        )  # fmt: skip
    return float(total)
