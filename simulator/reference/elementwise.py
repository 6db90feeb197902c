"""The exact, slow twins of the vector unit's kernels: one number at a time, in fractions."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from ...formats.format import FloatFormat
from ...formats.reference import quantum, round_exact
from ...formats.rounding import Rounding, Stochastic
from .rounded import flushed, rounded

#: Bits of a square root that are more than any format here looks at; one more says "inexact".
_ROOT_BITS = 400
#: The next random integer of stochastic rounding.
Draw = Callable[[], int]


@dataclass(frozen=True)
class Result:
    """How a vector unit stores a result: its format, rounding, and whether subnormals are zeros."""

    fmt: FloatFormat
    rounding: Rounding | Stochastic
    flush_inputs: bool = False
    flush_outputs: bool = False

    def read(self, x: float) -> float:
        """An operand."""
        return flushed(x, self.fmt.min_normal) if self.flush_inputs else x

    def store(self, x: Fraction, random: int = 0) -> float:
        """A nonzero exact result."""
        value = rounded(x, self.fmt, self.rounding, random)
        exact = round_exact(x, quantum(abs(x), self.fmt), self.rounding, random)
        if abs(exact) > Fraction(self.fmt.largest) and not self.fmt.infinity:
            return math.nan
        if value == 0 and not self.fmt.grid.signed_zero:
            return 0.0
        return flushed(value, self.fmt.min_normal) if self.flush_outputs else value

    def zero(self, sign: float) -> float:
        """An exact zero."""
        return math.copysign(0.0, sign) if self.fmt.grid.signed_zero else 0.0

    def special(self, x: float) -> float:
        """NaN or infinity."""
        return x if self.fmt.infinity else math.nan


def add(x: float, y: float, how: Result, random: int = 0) -> float:
    """x + y rounded once; an exact zero is -0 toward -infinity unless both terms are +0."""
    x, y = how.read(x), how.read(y)
    if not (math.isfinite(x) and math.isfinite(y)):
        return how.special(x + y)
    return _sum(Fraction(x) + Fraction(y), x, y, how, random)


def _sum(total: Fraction, x: float, y: float, how: Result, random: int) -> float:
    if total:
        return how.store(total, random)
    signs = math.copysign(1, x), math.copysign(1, y)
    if how.rounding is Rounding.DOWN:
        return how.zero(min(signs))
    return how.zero(max(signs))


def multiply(x: float, y: float, how: Result, random: int = 0) -> float:
    """x y rounded once."""
    x, y = how.read(x), how.read(y)
    if not (math.isfinite(x) and math.isfinite(y)):
        return how.special(x * y)
    product = Fraction(x) * Fraction(y)
    return how.store(product, random) if product else how.zero(x * y)


def divide(x: float, y: float, how: Result, random: int = 0) -> float:
    """x / y rounded once."""
    x, y = how.read(x), how.read(y)
    sign = math.copysign(1, x) * math.copysign(1, y)
    if math.isnan(x) or math.isnan(y) or (x == 0 and y == 0) or (math.isinf(x) and math.isinf(y)):
        return math.nan
    if math.isinf(x) or y == 0:
        return how.special(math.copysign(math.inf, sign))
    if math.isinf(y) or x == 0:
        return how.zero(sign)
    return how.store(Fraction(x) / Fraction(y), random)


def root(x: float, how: Result, random: int = 0) -> float:
    """sqrt x rounded once: floor(2^n sqrt x), and one bit more for a remainder."""
    x = how.read(x)
    if math.isnan(x) or x < 0:
        return math.nan
    if x == 0 or math.isinf(x):
        return how.special(x) if x else how.zero(x)
    exact = Fraction(x) * (1 << 2 * _ROOT_BITS)
    whole = math.isqrt(exact.numerator // exact.denominator)
    inexact = Fraction(whole * whole) != exact
    return how.store(Fraction(2 * whole + inexact, 2 << _ROOT_BITS), random)


def fused(x: float, y: float, z: float, how: Result, random: int = 0) -> float:
    """x y + z rounded once."""
    x, y, z = how.read(x), how.read(y), how.read(z)
    if not all(math.isfinite(v) for v in (x, y, z)):
        return how.special(x * y + z)
    return _sum(Fraction(x) * Fraction(y) + Fraction(z), x * y, z, how, random)


def reduce_column(
    values: Sequence[float], how: Result, tree: bool, product: bool, draw: Draw
) -> float:
    """The sum or product of one column, each step rounded; see `kernels.reduction`."""
    step = multiply if product else add
    left = list(values)
    if not tree:
        total = left[0]
        for x in left[1:]:
            total = step(total, x, how, draw())
        return total
    while len(left) > 1:
        half = 1 << ((len(left) - 1).bit_length() - 1)
        pairs = zip(left, left[half:], strict=False)
        left[: len(left) - half] = [step(x, y, how, draw()) for x, y in pairs]
        del left[half:]
    return left[0]
