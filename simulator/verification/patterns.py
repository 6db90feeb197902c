"""Operands at the corners of an accumulation: each pattern draws n cases in a space.

Every corner is swept over all distances and positions that the formats allow, so that it meets
the alignment width, the block, the lanes and the rounding of whatever unit is behind it.
"""

import numpy as np

from ...formats.format import FloatFormat
from .space import (
    EDGE,
    FULL,
    NONE,
    ONE,
    RANDOM,
    Drawn,
    Rng,
    Space,
    Values,
    Whole,
    between,
    exponent_range,
    on_grid,
    positions,
    signs,
)

#: Bits below the largest term that are still looked at.
DEPTH = 48


def zeros(space: Space, rng: Rng, n: int) -> Drawn:
    """Sums that vanish: zeros of either sign, x - x among the products, c - c with a product."""
    e = np.full((n, space.k), NONE)
    row = np.arange(n)
    style = rng.integers(0, 4, n)
    at = positions(rng, n, space.k)
    a, b = space.products(rng, e, signs(rng, (n, space.k)))
    c = 0.0 * signs(rng, n)
    x, y = space.products(rng, between(rng, space.low, space.high, n), signs(rng, n), ONE)
    first, second = at[:, 0], at[:, -1]
    pair = (style == 1) & (first != second)
    a[row[pair], first[pair]], b[row[pair], first[pair]] = x[pair], y[pair]
    a[row[pair], second[pair]], b[row[pair], second[pair]] = negated(space, x, y, pair)
    met = style == 2
    a[row[met], first[met]], b[row[met], first[met]] = x[met], y[met]
    c = np.where(met, on_grid(-x * y, space.c), c)
    return Drawn(a, b, c)


def negated(space: Space, x: Values, y: Values, which: np.ndarray) -> tuple[Values, Values]:
    """Operands of -(x y), or of x y where neither format has a sign."""
    if space.a.grid.lowest < 0:
        return np.maximum(-x, space.a.grid.lowest)[which], y[which]
    return x[which], (np.maximum(-y, space.b.grid.lowest) if space.b.grid.lowest < 0 else y)[which]


def landmarks(fmt: FloatFormat) -> Values:
    """The values where a format changes its rules."""
    below = fmt.min_normal - fmt.min_subnormal if fmt.subnormals else fmt.min_normal
    above = fmt.min_normal * (1 + 2.0**-fmt.fraction_bits)
    step = fmt.largest * (1 - 2.0 ** -(fmt.fraction_bits + 1))
    values = [fmt.min_subnormal, below, fmt.min_normal, above, 1.0, step, fmt.largest]
    values = [float(v) for v in on_grid(np.array(values), fmt)]
    values += [np.inf] * fmt.grid.has_infinity + [np.nan] * fmt.grid.has_nan
    values += [0.0] * fmt.grid.has_zero
    return np.array(values + ([-v for v in values] if fmt.signed else []))


def specials(space: Space, rng: Rng, n: int) -> Drawn:
    """Landmarks at one to three positions and in C: infinities that meet, Inf * 0, NaN."""
    if not all(isinstance(fmt, FloatFormat) for fmt in (space.a, space.b, space.c)):
        return extremes(space, rng, n)
    a, b, c = ordinary(space, rng, n)
    quiet = rng.random(n) < 0.5
    a[quiet], b[quiet], c[quiet] = 0.0, 0.0, 0.0
    row, at = np.arange(n), positions(rng, n, space.k)
    for place in range(min(3, space.k)):
        used = rng.random(n) < (1.0, 0.5, 0.3)[place]
        for x, fmt in ((a, space.a), (b, space.b)):
            assert isinstance(fmt, FloatFormat)
            x[row[used], at[used, place]] = rng.choice(landmarks(fmt), int(used.sum()))
    assert isinstance(space.c, FloatFormat)
    used = rng.random(n) < 0.5
    c[used] = rng.choice(landmarks(space.c), int(used.sum()))
    return Drawn(a, b, c)


def extremes(space: Space, rng: Rng, n: int) -> Drawn:
    """Integers at the ends of their formats, C at the ends of the accumulator: sums that wrap."""
    ends = []
    for fmt in (space.a, space.b):
        values = np.array([fmt.grid.lowest, fmt.grid.largest, fmt.grid.largest - 1, 0.0])
        ends.append(rng.choice(values, (n, space.k), p=[0.4, 0.4, 0.1, 0.1]))
    a, b = ends
    ordered = rng.random(n) < 0.5  # rising, then falling: saturation on the way is not undone
    a[ordered] = np.sort(a[ordered], axis=1)[:, :: int(rng.choice([-1, 1]))]
    near = rng.integers(0, 2 ** min(space.high + 1 + space.k.bit_length(), 30), n)
    c = np.where(rng.random(n) < 0.5, space.c.grid.largest - near, space.c.grid.lowest + near)
    if isinstance(space.c, FloatFormat):
        c = on_grid(c, space.c)
    return Drawn(a, b, np.where(rng.random(n) < 0.15, 0.0, c))


def alignment(space: Space, rng: Rng, n: int) -> Drawn:
    """M and -M far apart in k, and terms d bits below: the sum shows what the alignment kept."""
    e = np.full((n, space.k + 1), NONE)
    row, at = np.arange(n), positions(rng, n, space.k + 1)
    top = between(rng, space.low, space.high, n)
    raised = rng.random(n) < 0.6
    top[raised] = np.maximum(top[raised], space.high - rng.integers(0, 8, int(raised.sum())))
    distance = np.arange(n) % DEPTH
    small = rng.integers(1, max(2, min(space.k, 9)), n)
    for place in range(2, min(space.k + 1, 10)):
        used = place - 2 < small
        below = distance + rng.integers(0, 2, n) * rng.integers(0, 4, n)
        e[row[used], at[used, place]] = np.maximum(top - below, space.low)[used]
    sign = signs(rng, e.shape)
    style = rng.choice([ONE, RANDOM, FULL, EDGE], e.shape)
    e[row, at[:, 0]], style[row, at[:, 0]] = top, ONE
    a, b = space.products(rng, e[:, :-1], sign[:, :-1], style[:, :-1])
    c = space.addends(rng, e[:, -1], sign[:, -1], style[:, -1])
    x, y = space.products(rng, top, sign[row, at[:, 0]], ONE)
    cancel(space, (a, b, c), at, x, y, rng.random(n) < 0.75)
    return Drawn(a, b, c)


def apart(space: Space, rng: Rng, n: int) -> Drawn:
    """A few products of one size, and C d bits below them, or above: d swept, both signs."""
    low_c, high_c = exponent_range(space.c)
    distance = np.arange(n) % DEPTH * np.where(rng.random(n) < 0.6, -1, 1)
    unit = between(rng, space.low, space.high, n)
    top = np.clip(unit + distance, low_c, high_c)
    e = unit[:, None] - rng.integers(0, 3, (n, space.k))
    used = np.argsort(positions(rng, n, space.k), axis=1) < rng.integers(1, 4, n)[:, None]
    a, b = space.products(rng, np.where(used, np.maximum(e, space.low), NONE), signs(rng, e.shape),
                          rng.choice([ONE, RANDOM, FULL], n)[:, None])  # fmt: skip
    return Drawn(a, b, space.addends(rng, top, signs(rng, n), rng.choice([ONE, RANDOM, EDGE], n)))


def cancel(
    space: Space, drawn: tuple[Values, Values, Values], at: Whole, x: Values, y: Values,
    both: np.ndarray,
) -> None:  # fmt: skip
    """x y at the first position of `at` and, where `both`, -(x y) at the second; K is C."""
    a, b, c = drawn
    opposite = np.ones(len(x), bool)
    ends = ((0, opposite, (x, y)), (1, both, negated(space, x, y, opposite)))
    for place, used, (p, q) in ends:
        here = at[:, place]
        inner, outer = used & (here < space.k), used & (here == space.k)
        a[inner, here[inner]], b[inner, here[inner]] = p[inner], q[inner]
        c[outer] = on_grid(p * q, space.c)[outer]


def tree(space: Space, rng: Rng, n: int) -> Drawn:
    """M at i, -M at j and one small unit at all other k: the sum counts what M did not swallow.

    This shows the tree of an accumulation (FPRev, arXiv 2411.00442): blocks, lanes, k order.
    """
    reach = space.high - space.low
    ratio = np.minimum(between(rng, 8, 40, n), reach)
    unit = space.low + np.floor(rng.random(n) * (reach - ratio + 1)).astype(np.int64)
    e = np.repeat(unit[:, None], space.k, axis=1)
    style = np.where(rng.random(n) < 0.7, ONE, RANDOM)[:, None]
    sign = np.where(rng.random(n) < 0.7, 1.0, signs(rng, (space.k, n))).T
    a, b = space.products(rng, e, sign, np.broadcast_to(style, e.shape))
    c = np.where(rng.random(n) < 0.5, 0.0, space.addends(rng, unit, np.ones(n), ONE))
    x, y = space.products(rng, unit + ratio, signs(rng, n), ONE)
    cancel(space, (a, b, c), positions(rng, n, space.k + 1), x, y, rng.random(n) < 0.85)
    return Drawn(a, b, c)


def swallowing(space: Space, rng: Rng, n: int) -> Drawn:
    """C of full width and like products near its last bit: where and how often a sum is rounded."""
    low_c, high_c = exponent_range(space.c)
    width = space.c.precision
    unit = between(rng, space.low, space.high, n)
    top = np.clip(unit + width + between(rng, -4, 3, n), low_c, high_c)
    e = np.repeat(unit[:, None], space.k, axis=1)
    sign = np.where(rng.random(n) < 0.6, signs(rng, n), signs(rng, (space.k, n))).T
    style = rng.choice([ONE, RANDOM, FULL], n)[:, None]
    a, b = space.products(rng, e, sign, np.broadcast_to(style, e.shape))
    return Drawn(a, b, space.addends(rng, top, signs(rng, n), rng.choice([ONE, RANDOM, FULL], n)))


def overflowing(space: Space, rng: Rng, n: int) -> Drawn:
    """C at the largest value and products about half of its last bit, or as large as they get."""
    _, high_c = exponent_range(space.c)
    half = high_c - space.c.precision
    e = np.full((n, space.k), NONE)
    used = rng.random((n, space.k)) < rng.choice([0.1, 0.4, 1.0], n)[:, None]
    near = half + between(rng, -3, 3, (n, space.k))
    wide = high_c + between(rng, -4, 1, (n, space.k))
    e = np.where(used, np.where(rng.random(n)[:, None] < 0.5, near, wide), e)
    sign = np.where(rng.random(n) < 0.6, signs(rng, n), signs(rng, (space.k, n))).T
    style = rng.choice([ONE, RANDOM, FULL], e.shape)
    a, b = space.products(rng, e, sign, style)
    c = space.addends(rng, np.full(n, high_c), signs(rng, n), rng.choice([FULL, FULL, RANDOM], n))
    return Drawn(a, b, np.where(rng.random(n) < 0.3, 0.0, c))


def underflowing(space: Space, rng: Rng, n: int) -> Drawn:
    """Products and C about the accumulator's smallest normal and smallest subnormal values."""
    low_c, _ = exponent_range(space.c)
    normal = space.c.min_exponent if isinstance(space.c, FloatFormat) else 0
    centre = np.where(rng.random(n) < 0.5, low_c, normal)[:, None]
    spread = rng.choice([1, 4, 12], n)[:, None]
    e = centre + np.rint(spread * rng.standard_normal((n, space.k))).astype(np.int64)
    dense = rng.choice([0.1, 0.4, 1.0], n)[:, None]
    e = np.where(rng.random((n, space.k)) < dense, np.maximum(e, space.low), NONE)
    a, b = space.products(rng, e, signs(rng, e.shape), rng.choice([ONE, RANDOM, FULL], e.shape))
    c = space.addends(rng, low_c + between(rng, 0, normal - low_c + 2, n), signs(rng, n))
    return Drawn(a, b, np.where(rng.random(n) < 0.4, 0.0, c))


def ordinary(space: Space, rng: Rng, n: int) -> Drawn:
    """Terms of one size about 1, or about the middle of the formats where 1 is not inside."""
    middle = int(np.clip(0, space.low, space.high))
    e = middle + between(rng, -2, 2, (n, space.k))
    a, b = space.products(rng, e, signs(rng, e.shape))
    return Drawn(a, b, space.addends(rng, middle + between(rng, -2, 2, n), signs(rng, n)))
