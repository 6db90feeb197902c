"""What a pattern of test operands is drawn in: formats and a length, never a unit's widths.

Nothing here reads the accumulation order: operands that were chosen by the fraction bits or the
block of a profile would look hardest where a wrong profile already looks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...formats.format import ArithmeticFormat, IntegerFormat

Values = NDArray[np.float64]
Whole = NDArray[np.int64]
Rng = np.random.Generator

#: An exponent that stands for a product of zero.
NONE = -100_000
#: How a significand in [1, 2) is filled: 1 alone, at random, all ones, 1 and the last bit.
ONE, RANDOM, FULL, EDGE = range(4)


class Drawn(NamedTuple):
    """Operands (n, K) and addends (n,) as values, on the grids of their formats."""

    a: Values
    b: Values
    c: Values


Pattern = Callable[["Space", Rng, int], Drawn]


def exponent_range(fmt: ArithmeticFormat) -> tuple[int, int]:
    """Exponents of the smallest nonzero and of the largest magnitude."""
    if isinstance(fmt, IntegerFormat):
        return 0, fmt.bits - fmt.signed - 1
    return int(np.floor(np.log2(fmt.min_subnormal))), fmt.max_exponent


def magnitudes(rng: Rng, exponents: Whole, style: Any, fmt: ArithmeticFormat) -> Values:
    """Values of `fmt` in [2^e, 2^(e+1)), cut toward zero; e outside of the format is clipped."""
    low, high = exponent_range(fmt)
    digits = fmt.bits if isinstance(fmt, IntegerFormat) else fmt.fraction_bits
    last = 2.0 ** -float(digits)
    kinds = np.broadcast_to(np.asarray(style), exponents.shape)
    filled = np.choose(
        kinds, [np.float64(1.0), 1.0 + rng.random(exponents.shape), 2.0 - last, 1.0 + last]
    )
    x = np.ldexp(filled, np.clip(exponents, low, high).astype(np.int32))
    return np.where(exponents == NONE, 0.0, on_grid(x, fmt))


def on_grid(x: Values, fmt: ArithmeticFormat) -> Values:
    """Toward zero onto the grid, at most the largest value: x / step cut, step a power of two.

    In numpy alone: patterns call this for many small arrays, where threads cost more than they
    save. NaN stays; formats without a zero have no value below their smallest.
    """
    grid = fmt.grid
    exponent = np.frexp(x)[1] - 1
    normal = exponent >= grid.min_exponent
    step = np.where(
        normal, exponent - grid.fraction_bits, grid.min_exponent - grid.subnormal_fraction_bits
    ).astype(np.int32)
    cut = np.ldexp(np.trunc(np.ldexp(x, -step)), step)
    return np.asarray(np.clip(cut, grid.lowest, grid.largest))


@dataclass(frozen=True)
class Space:
    """Formats of the operands and of the accumulator, and the number of products."""

    a: ArithmeticFormat
    b: ArithmeticFormat
    c: ArithmeticFormat
    k: int

    @cached_property
    def low(self) -> int:
        """Exponent of the smallest nonzero product."""
        return exponent_range(self.a)[0] + exponent_range(self.b)[0]

    @cached_property
    def high(self) -> int:
        """Exponent of the largest product, its significand below 2 each."""
        return exponent_range(self.a)[1] + exponent_range(self.b)[1]

    @property
    def integer(self) -> bool:
        """Whether the operands are integers."""
        return isinstance(self.a, IntegerFormat)

    def products(
        self, rng: Rng, exponents: Whole, signs: Values, style: Any = RANDOM
    ) -> tuple[Values, Values]:
        """Operands whose products have these exponents and signs, as far as the formats go.

        The exponent is split at random between the two; unsigned operands take no sign.
        """
        (low_a, high_a), (low_b, high_b) = exponent_range(self.a), exponent_range(self.b)
        wanted = np.where(exponents == NONE, self.low, np.clip(exponents, self.low, self.high))
        least = np.maximum(low_a, wanted - high_b)
        most = np.minimum(high_a, wanted - low_b)
        e = least + np.floor(rng.random(wanted.shape) * (most - least + 1)).astype(np.int64)
        a = magnitudes(rng, e, style, self.a)
        b = magnitudes(rng, wanted - e, style, self.b)
        turned = rng.random(wanted.shape) < 0.5
        a, b = self._signed(a, b, np.where(turned, signs, 1.0), np.where(turned, 1.0, signs))
        nothing = exponents == NONE
        which = rng.integers(0, 3, wanted.shape)
        a = np.where(nothing & (which != 1), 0.0 * np.where(signs < 0, -1.0, 1.0), a)
        return a, np.where(nothing & (which != 0), 0.0, b)

    def _signed(self, a: Values, b: Values, on_a: Values, on_b: Values) -> tuple[Values, Values]:
        """Signs on operands that have one; one without gives its own to the other."""
        if self.a.grid.lowest >= 0:
            on_a, on_b = np.ones_like(on_a), on_a * on_b
        if self.b.grid.lowest >= 0:
            on_a, on_b = on_a * (on_b if self.a.grid.lowest < 0 else 1.0), np.ones_like(on_b)
        return a * on_a, b * on_b

    def addends(self, rng: Rng, exponents: Whole, signs: Values, style: Any = RANDOM) -> Values:
        """Values of the accumulator's format with these exponents and signs."""
        return np.asarray(magnitudes(rng, exponents, style, self.c) * signs)

    def nothing(self, n: int) -> Drawn:
        """n cases of zeros, to be written into."""
        return Drawn(np.zeros((n, self.k)), np.zeros((n, self.k)), np.zeros(n))


def signs(rng: Rng, shape: Any) -> Values:
    """+1 or -1, evenly."""
    return np.asarray(1.0 - 2.0 * rng.integers(0, 2, shape))


def between(rng: Rng, low: Any, high: Any, shape: Any) -> Whole:
    """Integers from low to high, both included; low where the range is empty."""
    return np.asarray(rng.integers(low, np.maximum(low, high) + 1, shape))


def positions(rng: Rng, n: int, k: int) -> Whole:
    """(n, k): a permutation of the positions in each row."""
    return np.argsort(rng.random((n, k)), axis=1)


def windows(rng: Rng, n: int, k: int) -> Whole:
    """(n, k): positions in ascending order from 0 in one half, from anywhere in the other.

    Terms at the first of these are neighbours, so that a unit sums most of them at once.
    """
    start = np.where(rng.random(n) < 0.5, 0, rng.integers(0, k, n))
    return np.asarray((start[:, None] + np.arange(k)) % k)
