"""Operands that hold chosen products, and the masks: M, -M and units that M swallows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...formats import InputError
from ...formats.format import ArithmeticFormat, FloatFormat
from .node import C
from .target import Target, Values

Places = NDArray[np.int64]
#: Dot products of one call.
BATCH = 8192
#: Exponents of (M, unit) are taken inside these, the widest that behave first.
WINDOWS = ((900, -900), (100, -100), (40, -60), (14, -14), (9, -9), (7, -9))

#: Below this ratio of M and a normal unit, in bits, subnormal units are tried first.
NARROW = 64


def float_format(fmt: ArithmeticFormat, what: str) -> FloatFormat:
    """The format, if it is a float.

    Raises:
        InputError: it is an integer: sums of integers are exact, and show no order.
    """
    if not isinstance(fmt, FloatFormat):
        raise InputError(f"{what} {fmt.name} is an integer: exact sums show no order")
    return fmt


def factors(values: Values, fmt_a: FloatFormat, fmt_b: FloatFormat) -> tuple[Values, Values]:
    """a and b with a b = values, each 0 or +-{1, 1.5, 1.125} 2^e: 2.25 is 1.5 by 1.5.

    Exponents are shared half and half, as far as each format reaches, subnormals included.
    """
    significand, e = np.frexp(np.abs(values))
    e = e - 1
    squared, single = significand == 0.5625, significand == 0.75
    e = e - squared
    if not np.isin(significand[values != 0], (0.5, 0.75, 0.5625)).all():
        raise InputError("a product's significand is not one of 1, 1.5 and 1.125")
    low, high = lowest(fmt_a), fmt_a.max_exponent
    ea = np.clip(
        e // 2, np.maximum(low, e - fmt_b.max_exponent), np.minimum(high, e - lowest(fmt_b))
    )
    a = np.sign(values) * np.ldexp(np.where(single | squared, 1.5, 1.0), ea)
    b = np.ldexp(np.where(squared, 1.5, 1.0), e - ea)
    return np.where(values == 0, 0.0, a), np.where(values == 0, 0.0, b)


def lowest(fmt: FloatFormat) -> int:
    """Exponent of the smallest power of two, subnormals included."""
    return int(np.frexp(fmt.min_subnormal)[1]) - 1


@dataclass(frozen=True)
class Bench:
    """A target at one K, whose products and C are set by value.

    Attributes:
        depth: K.
    """

    target: Target
    depth: int

    @property
    def places(self) -> list[int]:
        """The leaves: every k, and C where the target takes one."""
        return [*([C] if self.target.takes_c else []), *range(self.depth)]

    def run(self, values: Values) -> Values:
        """D (n,) of products (n, K) followed by C (n, 1): values[:, -1] is C, where it exists."""
        out = [self._call(values[n : n + BATCH]) for n in range(0, len(values), BATCH)]
        return np.concatenate(out) if out else np.zeros(0)

    def _call(self, values: Values) -> Values:
        fmt_a, fmt_b = self.formats()
        a, b = factors(values[:, : self.depth], fmt_a, fmt_b)
        return self.target.dot(a, b, values[:, -1] if self.target.takes_c else None)

    def formats(self) -> tuple[FloatFormat, FloatFormat]:
        """Of the operands."""
        return float_format(self.target.a, "operand"), float_format(self.target.b, "operand")

    def zeros(self, rows: int) -> Values:
        """Products and C of zero; leaf k is column k, and `C` the last one, -1."""
        return np.zeros((rows, self.depth + self.target.takes_c))

    def reach(self) -> tuple[int, int]:
        """Exponents of the largest power of two of a product, and of the smallest normal one.

        Within the output's range, with room for the sum of a few.
        """
        fmt_a, fmt_b = self.formats()
        out = float_format(self.target.output, "output")
        high = min(fmt_a.max_exponent + fmt_b.max_exponent, out.max_exponent - 2)
        return high, max(fmt_a.min_exponent + fmt_b.min_exponent, out.min_exponent)


@dataclass(frozen=True)
class Mask:
    """Exponents of M and of the unit, and whether M swallowed a unit anywhere."""

    high: int
    low: int
    absorbs: bool

    def __str__(self) -> str:
        return f"M = 2^{self.high}, unit = 2^{self.low}"


def choose_mask(bench: Bench) -> Mask:
    """The widest M and unit that behave: a unit alone comes back, M and -M leave nothing.

    Those that swallow a unit somewhere are preferred: M at the first place, -M and a unit at all
    others. Where none do, the sum is exact as far as the formats reach.

    Raises:
        InputError: no mask behaves: the format is too narrow, or the target computes no sum.
    """
    high, low = bench.reach()
    fmt_a, fmt_b = bench.formats()
    out = float_format(bench.target.output, "output")
    tiny = max(lowest(fmt_a) + lowest(fmt_b), lowest(out))
    windows = [(min(high, h), max(low, w)) for h, w in WINDOWS]
    windows.insert(0 if high - low < NARROW else len(windows), (high, tiny))
    fallback = None
    for h, w in dict.fromkeys(windows):
        if h - w < 2 or not _behaves(bench, h, w):
            continue
        if len(bench.places) < 3 or _absorbs(bench, h, w):
            return Mask(h, w, True)
        fallback = fallback or Mask(h, w, False)
    if fallback is None:
        raise InputError(
            f"{bench.target.name}: no M and unit among products of {bench.target.a.name} and "
            f"{bench.target.b.name} give back a unit alone and cancel as M - M: cannot be probed"
        )
    return fallback


def _behaves(bench: Bench, high: int, low: int) -> bool:
    places = bench.places
    alone, pairs = bench.zeros(len(places)), bench.zeros(2 * len(places))
    for n, place in enumerate(places):
        alone[n, place] = 2.0**low
        other = places[n - 1]
        if other != place:
            pairs[2 * n, place], pairs[2 * n, other] = 2.0**high, -(2.0**high)
            pairs[2 * n + 1] = -pairs[2 * n]
    return bool((bench.run(alone) == 2.0**low).all() and (bench.run(pairs) == 0).all())


def _absorbs(bench: Bench, high: int, low: int) -> bool:
    places = bench.places
    triples = [(places[0], j, k) for j in places[1:] for k in places[1:] if j != k]
    return bool(single_units(bench, Mask(high, low, True), triples).any())


def single_units(
    bench: Bench, mask: Mask, triples: list[tuple[int, int, int]]
) -> NDArray[np.bool_]:
    """For (i, j, k): whether the one unit, at k, is lost or moved with M at i and -M at j."""
    out = []
    for n in range(0, len(triples), BATCH):
        i, j, k = (np.array(part) for part in zip(*triples[n : n + BATCH], strict=True))
        values, row = bench.zeros(len(i)), np.arange(len(i))
        values[row, i], values[row, j] = 2.0**mask.high, -(2.0**mask.high)
        values[row, k] = 2.0**mask.low
        out.append(bench.run(values) != 2.0**mask.low)
    return np.concatenate(out) if out else np.zeros(0, bool)


def counted_units(bench: Bench, mask: Mask, pairs: list[tuple[int, int]]) -> Values:
    """For (i, j): how many of the units at all other places are left with M at i, -M at j."""
    i, j = (np.array(part) for part in zip(*pairs, strict=True))
    values, row = bench.zeros(len(i)), np.arange(len(i))
    values += 2.0**mask.low
    values[row, i], values[row, j] = 2.0**mask.high, -(2.0**mask.high)
    return bench.run(values) / 2.0**mask.low
