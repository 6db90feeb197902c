"""A format as an ordered list of values, and where rounding changes its mind: for <= 16 bits.

The rungs of a table ascend and have the numbers 0 .. n - 1. A mirrored table holds magnitudes and
the sign is kept apart; the others hold values of both signs. A rung need not be a float64, nor
need a threshold T between two rungs; so that one comparison of float64 decides exactly, T is
stored as its edge

    E = the smallest float64 >= T,   and whether E = T

since x >= T iff x >= E, and x > T iff x > E, or x = E and E is not T.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .search import Edges, searchable

Array = NDArray[Any]
Edge = tuple[float, bool]
#: (x, rung below, t, span) -> edges, and whether they are the thresholds: see `Table.cut`.
Cut = Callable[[Array, Array, Array, int], tuple[Array, Array]]
NegativeCodes = Literal["sign_bit", "twos_complement", "none"]

#: float64 approximations of thresholds are good to some 2^-50; what lies within this share of
#: one is decided exactly.
_DOUBT = 2.0**-40


@dataclass(frozen=True, eq=False)
class Table:
    """What rounding needs to know of a table format.

    Attributes:
        name, bits: of the format.
        values: (n,) float64, each rung rounded once to nearest.
        values32: (n,) float32, each rung rounded once to nearest; None if out of its range.
        floors, on_floor: (n,) the edge of each rung, and whether the rung is a float64.
        middles, on_middle: (n - 1,) the edges of the thresholds of rounding to nearest.
        odd: (n,) whether a rung has an odd code.
        cut: the edges of T(t) = the point a share t / span up the gap above a rung; arguments
            are the numbers asked about, their rungs, t and span. Stochastic rounding uses it.
        mirrored: rungs are magnitudes.
        negative: how codes say the sign; "none" if there are no negative values.
        signed_zero: -0 is a value of its own.
        beyond: the last rung is no value: what rounds to it overflows.
        nan, infinity: their codes, None where there is none.
        not_real: infinities become NaN under every overflow policy (posits: NaR).
        exact32: every value is a float32; decoding gives float32 then.
    """

    name: str
    bits: int
    values: Array
    values32: Array | None
    floors: Array
    on_floor: Array
    middles: Array
    on_middle: Array
    odd: Array
    cut: Cut
    mirrored: bool = True
    negative: NegativeCodes = "sign_bit"
    signed_zero: bool = False
    beyond: bool = False
    nan: int | None = None
    infinity: int | None = None
    not_real: bool = False
    exact32: bool = False

    @cached_property
    def top(self) -> int:
        """The number of the largest value."""
        return len(self.values) - 1 - self.beyond

    @cached_property
    def even_edges(self) -> Edges:
        """x goes above rung i iff x >= edge i, a tie to the rung with the even code."""
        return self._edges(self.on_middle & ~self.odd[:-1])

    @cached_property
    def away_edges(self) -> Edges:
        """x goes above rung i iff x >= edge i, a tie away from zero."""
        return self._edges(self.on_middle & (self.middles < 0))

    def _edges(self, stays: Array) -> Edges:
        edges = np.where(stays, np.nextafter(self.middles, np.inf), self.middles)
        return searchable(edges)

    @cached_property
    def floor_edges(self) -> Edges:
        """x is at or above rung i iff x >= edge i."""
        return searchable(self.floors)

    @cached_property
    def by_code(self) -> Array:
        """Every value by its code, float32 if `exact32`."""
        values = self.values32 if self.exact32 and self.values32 is not None else self.values
        rungs = values[: self.top + 1]
        if not self.mirrored:
            return rungs
        out = np.full(2**self.bits, np.nan, rungs.dtype)
        out[: len(rungs)] = rungs
        number = np.flatnonzero((rungs != 0) | self.signed_zero)
        sign = 1 << (self.bits - 1)
        if self.negative == "twos_complement":
            out[2**self.bits - number] = -rungs[number]
        elif self.negative == "sign_bit":
            out[sign | number] = -rungs[number]
        if self.infinity is not None:
            out[self.infinity] = np.inf
            if self.negative == "sign_bit":
                out[sign | self.infinity] = -np.inf
        return out


def edge_of(x: Fraction) -> Edge:
    """The smallest float64 >= x, and whether it is x."""
    nearest = float(x)  # Python rounds the quotient of two integers correctly
    if Fraction(nearest) < x:
        nearest = math.nextafter(nearest, math.inf)
    return nearest, Fraction(nearest) == x


def nearest_float32(x: Fraction) -> float:
    """x rounded once to float32, ties to even; never through float64."""
    guess = np.float32(float(x))
    around = [
        guess,
        np.nextafter(guess, np.float32(-np.inf)),
        np.nextafter(guess, np.float32(np.inf)),
    ]
    gaps = [abs(Fraction(float(y)) - x) for y in around]
    best = [y for y, gap in zip(around, gaps, strict=True) if gap == min(gaps)]
    return float(min(best, key=lambda y: int(y.view(np.uint32)) % 2))


def settle(
    x: Array,
    edges: Array,
    low: Array,
    t: Array,
    exactly: Callable[[int, int], Edge],
    reach: Array | None = None,
) -> tuple[Array, Array]:
    """Approximate edges made exact wherever x is too near to tell; (edges, whether exact).

    `exactly(rung, t)` is asked once for each pair in doubt. An edge that x is clear of decides
    as the exact one would. Approximations are off by less than 2^-45 of the edge or, where
    terms can cancel, of `reach`.
    """
    hit = np.zeros(x.shape, bool)
    scale = np.maximum(np.abs(x), np.abs(edges)) if reach is None else reach
    doubt = np.flatnonzero(np.abs(x - edges) <= _DOUBT * scale)
    if doubt.size:
        pairs = np.stack((low[doubt], t[doubt]))
        asked, back = np.unique(pairs, axis=1, return_inverse=True)
        found = [exactly(int(rung), int(share)) for rung, share in asked.T]
        back = back.reshape(-1)
        edges = edges.copy()
        edges[doubt] = np.array([edge for edge, _ in found])[back]
        hit[doubt] = np.array([exact for _, exact in found])[back]
    return edges, hit


def dyadic_cut(values: Array, starts: Array | None = None) -> Cut:
    """The cut of a table whose rungs and thresholds all are float64.

    T = start + t (next - start) / span, in float64 without rounding as long as rungs of a gap
    have some 20 bits in common and span some 33. `starts` are where the gaps begin, if not at
    the rungs.
    """
    begin = (values if starts is None else starts)[:-1]
    gap = values[1:] - begin

    def cut(x: Array, low: Array, t: Array, span: int) -> tuple[Array, Array]:
        edges = begin[low] + t.astype(np.float64) * gap[low] / span
        return edges, np.ones(x.shape, bool)

    return cut
