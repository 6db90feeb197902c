"""Sums that end exactly at, one unit above or one unit below a value or a midpoint of D's grid."""

import numpy as np

from ...formats.format import IntegerFormat
from .patterns import extremes
from .space import (
    FULL,
    RANDOM,
    Drawn,
    Rng,
    Space,
    Values,
    Whole,
    between,
    exponent_range,
    on_grid,
    signs,
    windows,
)


def boundaries(space: Space, rng: Rng, n: int) -> Drawn:
    """C, or a product in its place, plus pieces that make h/2 of its last bit, and -1, 0 or 1 g.

    g is 1 to 30 bits below that last bit, so each alignment or guard width loses g in some case;
    a sum that loses nothing is at a tie, or next to one.
    """
    if isinstance(space.c, IntegerFormat):
        return extremes(space, rng, n)
    low_c, high_c = exponent_range(space.c)
    bits = space.c.fraction_bits
    last = between(rng, max(low_c, space.low), min(high_c - bits, space.high), n)
    a, b, c = space.nothing(n)
    at, sign = windows(rng, n, space.k), signs(rng, n)
    pieces(space, rng, (a, b), at, last, sign)
    c[:] = space.addends(rng, last + bits, sign, RANDOM)
    inside = (rng.random(n) < 0.4) & (last + bits <= space.high) & (space.k > 1)
    x, y = space.products(rng, last + bits, sign, RANDOM)
    row, place = np.arange(n)[inside], at[inside, -1]
    a[row, place], b[row, place], c[inside] = x[inside], y[inside], 0.0
    return Drawn(a, b, c)


def ties(space: Space, rng: Rng, n: int) -> Drawn:
    """C plus half of its last bit and one unit g more or less, g swept: the least guard bit.

    In one half C is all ones, and the sum lies half a bit into the next binade, where the last
    bit is worth twice as much: units that cut again after their sum show it there.
    """
    if isinstance(space.c, IntegerFormat):
        return extremes(space, rng, n)
    low_c, high_c = exponent_range(space.c)
    bits = space.c.fraction_bits
    last = between(rng, max(low_c, space.low), min(high_c - bits - 1, space.high), n)
    a, b, c = space.nothing(n)
    at, sign = windows(rng, n, space.k), signs(rng, n)
    deep = 1 + np.arange(n) % np.clip(last - space.low, 1, 32)
    full = np.arange(n) // 2 % 2 == 0
    half = np.where(full, 2 << deep, np.where(rng.random(n) < 0.5, 1, 3) << (deep - 1))
    toward = np.where(full | (rng.random(n) < 0.7), sign, -sign)
    write_rest(space, rng, (a, b), at, (half + signs(rng, n).astype(np.int64), last - deep), toward)
    c[:] = space.addends(rng, last + bits, sign, np.where(full, FULL, RANDOM))
    return Drawn(a, b, c)


def vanishing(space: Space, rng: Rng, n: int) -> Drawn:
    """As `boundaries`, at the accumulator's smallest values, where only products have bits below.

    C is mostly +0: then all exponents are below that of any addend, where units stop aligning.
    """
    if isinstance(space.c, IntegerFormat):
        return extremes(space, rng, n)
    low_c, _ = exponent_range(space.c)
    a, b, c = space.nothing(n)
    sign = signs(rng, n)
    pieces(space, rng, (a, b), windows(rng, n, space.k), np.full(n, low_c), sign)
    c[:] = space.addends(rng, low_c + between(rng, 0, space.c.fraction_bits + 1, n), sign, RANDOM)
    c[rng.random(n) < 0.75] = 0.0
    return Drawn(a, b, c)


def pieces(
    space: Space, rng: Rng, operands: tuple[Values, Values], at: Whole, last: Whole, sign: Values
) -> None:
    """Products whose exact sum is h/2 2^last, and a little more or less.

    In one half the little is -1, 0 or 1 g, and g is swept from 2^(last-1) down. In the other, g
    is far down and the little is any power of two of it: each bit that an alignment drops there
    is dropped from several products at once, and the sum falls over the boundary.
    """
    n = len(last)
    deepest = np.clip(last - space.low, 1, 30)
    many = np.arange(n) % 2 == 1
    deep = np.where(many, deepest - between(rng, 0, deepest // 3, n), 1 + np.arange(n) % deepest)
    little = rng.choice([-1, 0, 0, 0, 1], n)
    power = 1 << between(rng, 0, np.maximum(deep - 2, 0), n)
    little = np.where(many, np.where(rng.random(n) < 0.8, power, -power), little)
    target = (between(rng, 1, 4, n) << (deep - 1)) + little
    width = min(fmt.precision for fmt in (space.a, space.b))
    places = max(1, min(7, (space.k - 1) // 3))
    count = np.where(many, between(rng, min(2, places), places, n), 1)
    for place in range(places):
        number = np.where(place < count, rng.integers(1, 2**width, n) | 1, 0)
        up = np.where(many, between(rng, 0, np.maximum(deep - width - 1, 0), n), 0)
        write_term(space, rng, operands, at[:, place], number, last - deep + up, sign)
        target = target - (number << up)
    after = np.minimum(count[:, None] + np.arange(space.k), space.k - 1)
    rest = np.take_along_axis(at, after, axis=1)
    write_rest(space, rng, operands, rest, (target, last - deep), sign)


def write_rest(
    space: Space, rng: Rng, operands: tuple[Values, Values], at: Whole,
    target: tuple[Whole, Whole], sign: Values,
) -> None:  # fmt: skip
    """target 2^exponent in chunks of a significand, at all of `at` but the last position.

    Where that is too few, or the formats end before, the sum misses the target.
    """
    number, exponent = target
    width = min(fmt.precision for fmt in (space.a, space.b))
    rest, turned = np.abs(number), np.where(number < 0, -sign, sign)
    for place in range(min(at.shape[1] - 1, -(-34 // width))):
        if not rest.any():
            return
        chunk = rest & (2**width - 1)
        write_term(space, rng, operands, at[:, place], chunk, exponent, turned)
        rest, exponent = rest >> width, exponent + width


def write_term(
    space: Space, rng: Rng, operands: tuple[Values, Values], at: Whole, number: Whole,
    exponent: Whole, sign: Values,
) -> None:  # fmt: skip
    """number 2^exponent as the product of number 2^x and 2^y, the number on either side."""
    turned = rng.random(len(number)) < 0.5
    some = number > 0
    for used, sides in (
        (np.flatnonzero(some & ~turned), ((operands[0], space.a), (operands[1], space.b))),
        (np.flatnonzero(some & turned), ((operands[1], space.b), (operands[0], space.a))),
    ):
        (number_side, x_format), (power_side, y_format) = sides
        (low_x, high_x), (low_y, high_y) = exponent_range(x_format), exponent_range(y_format)
        y = np.clip(exponent[used] // 2, low_y, high_y)
        x = np.clip(exponent[used] - y, low_x, high_x)
        y = np.clip(exponent[used] - x, low_y, high_y)
        whole = np.ldexp(number[used].astype(np.float64), x.astype(np.int32))
        number_side[used, at[used]] = on_grid(whole, x_format)
        power_side[used, at[used]] = on_grid(np.ldexp(1.0, y.astype(np.int32)), y_format)
    row = np.flatnonzero(some)
    if space.a.grid.lowest < 0:
        operands[0][row, at[row]] *= sign[row]
    elif space.b.grid.lowest < 0:
        operands[1][row, at[row]] *= sign[row]
