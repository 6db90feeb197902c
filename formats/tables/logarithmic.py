"""Logarithmic number systems: a sign, and the logarithm of the magnitude as an integer."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, choice
from .table import Edge, Table, edge_of, nearest_float32, settle

Array = NDArray[Any]
Domain = Literal["log", "linear"]
Underflow = Literal["step", "half", "never"]

_PLACES = 192


@dataclass(frozen=True)
class LogFormat:
    """Numbers ±2^((k - bias) / gamma), k an unsigned integer of bits - 1 bits below the sign bit.

    `gamma`, the base factor, is how many values a binade has (base 2^(1/gamma)); a power of two.

    Attributes:
        name: canonical name.
        bits: width of a code in bits, the sign included.
        gamma: base factor, 1 to 128.
        bias: the k of 1; None stands for 2^(bits - 2), the middle of the range.
        zero: k = 0 stands for zero, of either sign, in place of its power. Without a zero, all
            magnitudes below the smallest, 0 included, become the smallest, and keep their sign.
        domain: where nearest, and the probability of stochastic rounding, are measured: "log"
            (k is rounded, as in LNS-Madam) or "linear" (the nearer value; needed by ties alone,
            which only gamma = 1 has: the even k).
        underflow: what a magnitude below the smallest value becomes: "step" as if zero were the
            power whose k it has, "half" zero up to half of the smallest value, "never" the
            smallest unless it was zero. Roundings toward zero, up and down know only the order
            of the values.
        source: citation.

    A value is irrational unless gamma divides k - bias; decoding rounds it once. Whatever is
    larger than the largest value goes to it: there is neither infinity nor NaN.

    Source: Zhao et al., LNS-Madam, IEEE Trans. Computers 71(12), 2022, arXiv 2106.13914, whose
    multi-base system has bias = 0 and no zero ("lns8g8b0n" here). That zero itself becomes the
    smallest value there, rather than a skipped one, is an assumption.
    """

    name: str
    bits: int
    gamma: int
    bias: int | None = None
    zero: bool = True
    domain: Domain = "log"
    underflow: Underflow = "step"
    source: str = "LNS-Madam, arXiv 2106.13914"

    def __post_init__(self) -> None:
        choice(self.domain, ("log", "linear"), "domain", f"format {self.name}")
        choice(self.underflow, ("step", "half", "never"), "underflow", f"format {self.name}")
        if self.gamma not in (1, 2, 4, 8, 16, 32, 64, 128) or not 2 <= self.bits <= 16:
            raise InputError(
                f"format {self.name}: {self.bits} bits and gamma = {self.gamma} are not 2 to 16 "
                "bits and a power of two from 1 to 128"
            )
        ends = (-self.offset / self.gamma, (self.top - self.offset) / self.gamma)
        if not -1022 <= ends[0] <= ends[1] <= 1022:
            raise InputError(
                f"format {self.name}: powers of two from {ends[0]:g} to {ends[1]:g} leave "
                "float64: raise gamma or move the bias"
            )

    @property
    def offset(self) -> int:
        """The k of 1: `bias` or its default."""
        return 1 << (self.bits - 2) if self.bias is None else self.bias

    @property
    def top(self) -> int:
        """The largest k."""
        return (1 << (self.bits - 1)) - 1

    @property
    def largest(self) -> float:
        """2^((top - bias) / gamma), rounded."""
        return float(self.table.values[-1])

    @property
    def lowest(self) -> float:
        """-largest."""
        return -self.largest

    @property
    def min_subnormal(self) -> float:
        """The smallest positive value, rounded."""
        return float(self.table.values[int(self.zero)])

    @cached_property
    def table(self) -> Table:
        """The magnitudes: k is the rung."""
        k = np.arange(self.top + 1)
        values = self._powers(k, _nearest(self.gamma, float))
        narrow = values[0] >= 2.0**-126 and values[-1] < 2.0**127
        values32 = (
            self._powers(k, _nearest(self.gamma, nearest_float32)).astype(np.float32)
            if narrow
            else None
        )
        floors = self._powers(k, np.array([_edge(f, self.gamma)[0] for f in range(self.gamma)]))
        on_floor = (k - self.offset) % self.gamma == 0
        middles, on_middle = self._middles(k)
        for rungs in (values, floors, values32):
            if self.zero and rungs is not None:
                rungs[0] = 0.0
        return Table(
            name=self.name,
            bits=self.bits,
            values=values,
            values32=values32,
            floors=floors,
            on_floor=on_floor | (self.zero & (k == 0)),
            middles=middles,
            on_middle=on_middle,
            odd=k % 2 == 1,
            cut=self._cut,
            signed_zero=self.zero,
            exact32=narrow and self.gamma == 1,
        )

    def _powers(self, k: Array, binade: Array) -> Array:
        """2^((k - bias) / gamma), given the gamma values of the binade from 1 on."""
        e, f = np.divmod(k - self.offset, self.gamma)
        return np.ldexp(binade[f], e)

    def _middles(self, k: Array) -> tuple[Array, Array]:
        found = [self.threshold(f, 1, 2) for f in range(self.gamma)]
        edges, exact = (np.array(x) for x in zip(*found, strict=True))
        middles = self._powers(k[:-1], edges)
        on_middle = exact[(k[:-1] - self.offset) % self.gamma]
        if self.zero:
            edge, hit = self._first_gap(1, 2)
            middles[:1], on_middle[:1] = edge, hit
        return middles, on_middle

    def threshold(self, step: int, t: int, span: int) -> Edge:
        """The edge of the point a share t / span of the way from 2^(step/gamma) to the next."""
        e, f = divmod(step, self.gamma)
        if self.domain == "log":
            edge, exact = _edge(f * span + t, self.gamma * span)
        else:
            edge, exact = _edge_between(f, self.gamma, t, span)
        return math.ldexp(edge, e), exact

    def _first_gap(self, t: int, span: int) -> Edge:
        """The threshold between zero and the smallest value."""
        if self.underflow == "never":
            return math.nextafter(0.0, 1.0), False
        if self.underflow == "step":
            return self.threshold(-self.offset, t, span)
        e, f = divmod(1 - self.offset, self.gamma)
        low, high = _power(f, self.gamma)
        edge, exact = _between(low * t, high * t, span)
        return math.ldexp(edge, e), exact

    def _cut(self, x: Array, low: Array, t: Array, span: int) -> tuple[Array, Array]:
        step = low - self.offset
        share = t / span
        if self.domain == "log":
            edges = np.exp2((step + share) / self.gamma)
        else:
            edges = np.exp2(step / self.gamma) * (1 - share)
            edges += np.exp2((step + 1) / self.gamma) * share
        first = self.zero & (low == 0)
        if self.underflow == "half":
            edges = np.where(first, self.table.values[min(1, self.top)] * share, edges)
        if self.underflow == "never":
            edges = np.where(first, np.nextafter(0.0, 1.0), edges)

        def exactly(rung: int, t: int) -> Edge:
            if self.zero and rung == 0:
                return self._first_gap(t, span)
            return self.threshold(rung - self.offset, t, span)

        return settle(x, edges, low, t, exactly)


@cache
def _roots() -> tuple[tuple[int, int], ...]:
    """Bounds of 2^192 2^(1/2^i) for i = 0, 1, ..., each from the one before by `isqrt`."""
    bounds = [(2 << _PLACES, 2 << _PLACES)]
    for _ in range(48):
        low, high = bounds[-1]
        bounds.append((math.isqrt(low << _PLACES), math.isqrt(high << _PLACES) + 1))
    return tuple(bounds)


def _power(part: int, parts: int) -> tuple[int, int]:
    """Integers below and above 2^192 2^(part/parts), 0 <= part <= parts, a power of two."""
    whole, part = divmod(part, parts)
    low = high = 1 << (_PLACES + whole)
    for i, (least, most) in enumerate(_roots()[1:], 1):
        if parts >> i == 0:
            break
        if part & (parts >> i):
            low, high = low * least >> _PLACES, (high * most >> _PLACES) + 1
    return low, high


def _edge(part: int, parts: int) -> Edge:
    """The smallest float64 >= 2^(part/parts), and whether it is that."""
    return _between(*_power(part, parts))


def _edge_between(f: int, gamma: int, t: int, span: int) -> Edge:
    """The edge of the point a share t / span of the way from 2^(f/gamma) to 2^((f + 1)/gamma)."""
    (low, high), (least, most) = _power(f, gamma), _power(f + 1, gamma)
    return _between(low * (span - t) + least * t, high * (span - t) + most * t, span)


def _between(low: int, high: int, span: int = 1) -> Edge:
    """The edge of the number that alone lies in low .. high, in units of 2^-192 / span.

    The bounds meet if the number is rational; if it is not, they are some 2^-180 apart, and that
    a float64 lies between them, which would be told, has a probability of some 2^-120.
    """
    edge, exact = edge_of(Fraction(low, span << _PLACES))
    if low == high:
        return edge, exact
    if edge != edge_of(Fraction(high, span << _PLACES))[0]:
        raise ArithmeticError("a power of two nearer to a float64 than 2^-180: raise _PLACES")
    return edge, False


def _nearest(gamma: int, round_to: Callable[[Fraction], float]) -> Array:
    """2^(f/gamma) for f = 0 .. gamma - 1, each rounded once."""
    found = []
    for f in range(gamma):
        low, high = (round_to(Fraction(bound, 1 << _PLACES)) for bound in _power(f, gamma))
        if low != high:
            raise ArithmeticError("a power of two nearer to a tie than 2^-180: raise _PLACES")
        found.append(low)
    return np.array(found)
