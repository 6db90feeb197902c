"""Test operands for a dot unit: corners first, then seeded random numbers of several spreads."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...formats import InputError
from ...formats.format import ArithmeticFormat
from ..dot_unit import DotUnit
from .boundaries import boundaries, ties, vanishing
from .codes import Codes, to_codes, to_values
from .patterns import alignment, apart, overflowing, specials, swallowing, tree, underflowing, zeros
from .scales import NAMES, draw_scales, scale_of, scaled_addends
from .space import NONE, Drawn, Pattern, Rng, Space, Values, between, exponent_range, signs

CORNERS: tuple[Pattern, ...] = (
    zeros, specials, alignment, tree, boundaries, ties, apart, swallowing, vanishing,
    overflowing, underflowing,
)  # fmt: skip
#: Drawn besides, where products are finer than the accumulator's smallest value, or are not.
BELOW: tuple[Pattern, ...] = (vanishing, vanishing, vanishing)
ABOVE: tuple[Pattern, ...] = (alignment, boundaries, ties)
#: The share of the corners; the rest is random.
CORNER_SHARE = 0.7


@dataclass(frozen=True)
class Cases:
    """Dot products as codes.

    Attributes:
        formats: of A, of B, and of C and D.
        a, b: codes (n, K).
        c: codes (n,).
        scales: codes (n, groups) of the scales, by their argument's name, where a unit has them.
    """

    formats: tuple[ArithmeticFormat, ArithmeticFormat, ArithmeticFormat]
    a: Codes
    b: Codes
    c: Codes
    scales: dict[str, Codes] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.c)

    @property
    def k(self) -> int:
        """Products in each."""
        return int(self.a.shape[1])

    def take(self, which: Any) -> "Cases":
        """Those of an index or slice."""
        scales = {name: codes[which] for name, codes in self.scales.items()}
        return Cases(self.formats, self.a[which], self.b[which], self.c[which], scales)


def make_cases(unit: DotUnit, count: int, seed: int = 0, k: int | None = None) -> Cases:
    """`count` dot products of length k: corners first, the kinds in turn, then random numbers.

    The same arguments give the same cases on every machine. They depend on the formats and on k
    alone, not on the order's widths: what is hard for one width is there for all.

    Args:
        k: the length; None is twice the unit's longest period (block, promotion, lanes, k order).

    Raises:
        InputError: a count or length below 1, or a seed below 0.
    """
    length = natural_length(unit) if k is None else k
    for name, value in (("cases", count), ("k", length)):
        if value < 1:
            raise InputError(f"{name} = {value} must be at least 1")
    addend: ArithmeticFormat = getattr(unit, "addend", unit.accumulator)
    if seed < 0:
        raise InputError(f"seed = {seed} must be at least 0")
    space = Space(unit.a, unit.b, addend, length)
    rng = np.random.default_rng([seed, length])
    with np.errstate(over="ignore"):  # a product beyond float64 is cut to the largest value
        a, b, c = draw(space, rng, count)
    scales: dict[str, Codes] = {}
    if row := scale_of(unit):
        drawn = draw_scales(row, rng, count, length)
        c = scaled_addends(c, drawn, addend)
        scales = {name: to_codes(x, row.fmt) for name, x in zip(NAMES, drawn, strict=True)}
    x, y, z = (to_codes(v, fmt) for v, fmt in ((a, unit.a), (b, unit.b), (c, unit.output)))
    return Cases((unit.a, unit.b, unit.output), x, y, z, scales)


def draw(space: Space, rng: Rng, count: int) -> Drawn:
    """The corners in turn, then the random numbers."""
    corners = math.ceil(CORNER_SHARE * count)
    patterns = CORNERS + (BELOW if space.low < exponent_range(space.c)[0] else ABOVE)
    sets = [pattern(space, rng, -(-corners // len(patterns))) for pattern in patterns]
    shuffled = [
        np.stack([drawn[i] for drawn in sets], 1).reshape(-1, *sets[0][i].shape[1:])[:corners]
        for i in range(3)
    ]
    rest = spreads(space, rng, count - corners)
    return Drawn(*(np.concatenate([x, y]) for x, y in zip(shuffled, rest, strict=True)))


def natural_length(unit: DotUnit) -> int:
    """Twice the period after which the unit's sum repeats itself, within 16 to 512."""
    order: Any = unit.order
    k_order: Any = unit.k_order
    split: Any = getattr(unit, "split", None)
    periods = [
        *(getattr(order, name, None) or 1 for name in ("block", "group", "lanes")),
        len(k_order) if isinstance(k_order, tuple) and k_order else 1,
        unit.promote_every or 1,
        getattr(split, "parts", 1) * getattr(split, "chunk", 1),
        row.block if (row := scale_of(unit)) else 1,
    ]
    period = math.lcm(*periods)
    return max(16, 2 * (period if period <= 256 else max(periods)))


def spreads(space: Space, rng: Rng, n: int) -> Drawn:
    """Random terms: exponents within 2, 6 or 20 of each other, any codes, pairs that cancel."""
    kind = np.arange(n) % 6
    middle = int(np.clip(0, space.low, space.high))
    width = np.choose(kind, [2, 6, 20, 1, 6, 20])[:, None]
    e = middle + np.rint(width / 2 * rng.standard_normal((n, space.k))).astype(np.int64)
    e = np.where((kind[:, None] == 5) & (rng.random(e.shape) < 0.7), NONE, e)
    a, b = space.products(rng, np.where(e == NONE, NONE, np.clip(e, space.low, space.high)),
                          signs(rng, e.shape))  # fmt: skip
    c = space.addends(rng, middle + between(rng, -3, 3 + width[:, 0], n), signs(rng, n))
    any_code = kind == 3
    for values, fmt in ((a, space.a), (b, space.b)):
        codes = rng.integers(0, 2**fmt.bits, values.shape, dtype=np.uint64)
        drawn = np.asarray(to_values(codes, fmt), np.float64)
        rare = np.isfinite(drawn) | (rng.random(values.shape) < 0.3 / space.k)
        values[any_code] = np.where(rare, drawn, 0.0 if fmt.grid.has_zero else 1.0)[any_code]
    if space.k > 1:
        half = space.k // 2
        mirrored = np.flatnonzero(kind == 4)[:, None], np.arange(half)
        mirror(space, a, b, mirrored, space.k - half)
    return Drawn(a, b, c)


def mirror(space: Space, a: Values, b: Values, first: Any, shift: int) -> None:
    """The last products become the negated first ones, as far as the formats have a sign."""
    rows, columns = first
    last = rows, columns + shift
    b[last] = b[first]
    a[last] = np.maximum(-a[first], space.a.grid.lowest)


def simulate(unit: DotUnit, cases: Cases, seed: int = 0) -> Codes:
    """The codes of D as the unit gives them; dot product n takes the random bits of output n."""
    values, scales = values_of(unit, cases)
    return to_codes(unit.dot(*values, **scales, seed=seed, check=False), unit.output)


def simulate_exactly(unit: DotUnit, cases: Cases, seed: int = 0) -> Codes:
    """As `simulate`, by the unit's exact twin."""
    values, scales = values_of(unit, cases)
    return to_codes(unit.reference.dot(*values, **scales, seed=seed), unit.output)


def values_of(unit: DotUnit, cases: Cases) -> tuple[list[Any], dict[str, Any]]:
    """A, B and C as values, and the scales by their argument's name."""
    codes = (cases.a, cases.b, cases.c)
    values = [to_values(x, fmt) for x, fmt in zip(codes, cases.formats, strict=True)]
    row = scale_of(unit)
    scales = {name: to_values(x, row.fmt) for name, x in cases.scales.items()} if row else {}
    return values, scales
