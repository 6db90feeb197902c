"""One step of a chain, c <- round(c + x y), in straight-line code, for float32 and float64 lanes.

Two roundings make one. The first is the machine's own: a fused multiply-add takes the exact
c + x y, whatever the widths of x and y, to the lane's precision n (24 or 53 bits). The second
removes D low bits of that as an integer, so that a carry into the exponent is the right one; the
accumulator has q = n - D significand bits. Three kinds of first rounding lose nothing:

ODD      to odd: exact, or the neighbour whose last bit is 1. Rounded again to at most n - 2 bits
         in any mode, or n - 1 in a directed one, it equals the exact sum rounded at once (Boldo &
         Melquiond, IEEE Trans. Computers 57(4), 2008). In a thread that rounds downward,
         low = fma(x, y, c) and high = -fma(-x, y, -c) are the sum rounded down and up: equal, or
         neighbours, whose integers differ by one, so that one of them is odd. An exact zero has
         low = -0 or +0 and high = the zero of round-to-nearest; the even low makes way for it.
ZERO     toward zero, in a thread that rounds so: the D low bits are the first D bits of the
         discarded part. Rounding toward zero looks at none of them, srff at the first k <= D,
         srf at the first k + 1 <= D (d >= 1 - (2r + 1) 2^-(k+1), a multiple of 2^-(k+1)).
NEAREST  to nearest, then again to nearest: see `execution.chain_plan.innocuous`.

How far a second rounding reaches is known before the loop:

AS_IS          the format is the lane's: there is none.
IN_PLACE       the format has the lane's exponents: its subnormals and infinity come out right by
               themselves. NaN must be quiet and without payload, so that nothing turns it over.
WHOLE_STEPS    fewer exponents, but every sum is a multiple of the smallest quantum: those below
               2^min_exponent are on the grid and have no low bits. What is left is overflow.
FULL           below 2^min_exponent, the sum of the magnitude and 2^min_exponent, by another first
               rounding of the same kind, has its D low bits just below the fixed quantum.
FLUSHED        as WHOLE_STEPS in float64, which rounds as if the exponent had no lower end; then
               magnitudes below 2^min_exponent become zeros of their sign.
FLUSHED_AS_IS  the flush of sums that a lane of the same precision rounded, see `execution.chain`.

Beyond the lane's range ODD and ZERO give its largest number, whose low bits are ones: nearest
roundings take it to infinity, directed ones to the accumulator's largest, as they should. A
stochastic one may not go up; `chain_tiles` reports how large its sums became.
"""

from typing import Any, NamedTuple

import numpy as np

from ...formats.jit import bits_float, float_bits, fma, narrow, scalar_jit
from ...formats.rounding import Mode

NEAREST, ODD, ZERO = range(3)
AS_IS, IN_PLACE, WHOLE_STEPS, FULL, FLUSHED, FLUSHED_AS_IS, FUSED = range(7)

NEAREST_EVEN, NEAREST_AWAY = int(Mode.NEAREST_EVEN), int(Mode.NEAREST_AWAY)
UP, DOWN, TO_ODD = int(Mode.UP), int(Mode.DOWN), int(Mode.TO_ODD)
SRC, TOWARD_ZERO = int(Mode.SRC), int(Mode.TOWARD_ZERO)


class Target(NamedTuple):
    """An accumulator as a lane rounds to it; numbers of the lane's float and integer types.

    Attributes:
        last: 2^D, the last bit that is kept.
        middle: for the rule src, 2^(D - k), the last bit that its first rounding keeps.
        zero, one: 0 and 1.
        smallest: 2^min_exponent.
        largest: the largest finite value.
        above, below: the magnitude of what lies beyond it, and beyond its negative.
    """

    last: Any
    middle: Any
    zero: Any
    one: Any
    smallest: Any
    largest: Any
    above: Any
    below: Any


def static(*numbers: int) -> tuple[tuple[int, ...], ...]:
    """Small integers that a kernel is compiled for: as lengths of tuples they are in its types."""
    return tuple((0,) * (n + 1) for n in numbers)


@scalar_jit
def known(length):  # type: ignore[no-untyped-def]
    """One of the numbers of `static`, a constant to LLVM."""
    return len(length) - 1


@scalar_jit
def odd_sum(x, y, c):  # type: ignore[no-untyped-def]
    """c + x y rounded to odd, in a thread that rounds downward."""
    low = float_bits(fma(x, y, c))
    high = float_bits(-fma(-x, y, -c))
    return low if (low & 1) != 0 else high


@scalar_jit
def first_sum(x, y, c, kind):  # type: ignore[no-untyped-def]
    """The bits of c + x y after the first rounding."""
    return odd_sum(x, y, c) if kind == ODD else float_bits(fma(x, y, c))


@scalar_jit
def to_even(bits, last):  # type: ignore[no-untyped-def]
    """The magnitude in `bits` to the nearest multiple of `last`, ties to even."""
    even = narrow((bits & last) == 0, last)
    return (bits + (last >> 1) - even) & -last


@scalar_jit
def second_rounding(bits, target, mode, negative, r):  # type: ignore[no-untyped-def]
    """`bits` without its D low bits, rounded by `mode`.

    r is the random integer in place: r 2^(D-k) for srff and src, (2r + 1) 2^(D-k-1) for srf.
    """
    last = target.last
    if mode == NEAREST_EVEN:
        out = to_even(bits, last)
    elif mode == NEAREST_AWAY:
        out = (bits + (last >> 1)) & -last
    elif mode == TOWARD_ZERO:
        out = bits & -last
    elif mode == UP:
        out = (bits + (0 if negative else last - 1)) & -last
    elif mode == DOWN:
        out = (bits + (last - 1 if negative else 0)) & -last
    elif mode == TO_ODD:
        kept = bits & -last
        out = kept | last if (bits & (last - 1)) != 0 else kept
    elif mode == SRC:
        out = (to_even(bits, target.middle) + r) & -last
    else:
        out = (bits + r) & -last
    return narrow(out, last)


@scalar_jit
def raised(size, shift, one, kind):  # type: ignore[no-untyped-def]
    """The bits of size + shift, both >= 0, after another first rounding of that kind."""
    low = float_bits(fma(one, size, shift))
    high = float_bits(-fma(-one, size, -shift))
    return low | (high & 1) if kind == ODD else low


@scalar_jit
def fit(bits, target, reach, kind, mode, r):  # type: ignore[no-untyped-def]
    """A first sum rounded into a format of fewer exponents than the lane."""
    value = bits_float(bits)
    size = np.abs(value)
    if reach == FULL:
        shift = target.smallest if size < target.smallest else target.zero
        near = raised(size, shift, target.one, kind)
        rounded = bits_float(second_rounding(near, target, mode, bits < 0, r)) - shift
    else:
        rounded = bits_float(second_rounding(float_bits(size), target, mode, bits < 0, r))
    if reach == FLUSHED:
        rounded = target.zero if rounded < target.smallest else rounded
    limit = target.above
    if mode == UP or mode == DOWN:
        limit = target.below if bits < 0 else target.above
    rounded = limit if rounded > target.largest else rounded
    if mode == UP or mode == DOWN or mode == TO_ODD or mode == TOWARD_ZERO:
        rounded = rounded if size < np.inf else size
    return np.copysign(rounded, value)


@scalar_jit
def second(bits, target, reach, kind, mode, r):  # type: ignore[no-untyped-def]
    """A first sum, or an exact product, in its format; see the head of this file for `reach`."""
    if reach == AS_IS:
        return bits_float(bits)
    if reach == IN_PLACE:
        return bits_float(second_rounding(bits, target, mode, bits < 0, r))
    if reach == FLUSHED_AS_IS:
        value = bits_float(bits)
        return np.copysign(target.zero, value) if np.abs(value) < target.smallest else value
    return fit(bits, target, reach, kind, mode, r)


@scalar_jit
def step(x, y, c, target, product, way, r):  # type: ignore[no-untyped-def]
    """round(c + x y), `way` (see `static`) = kind, mode, reach, reach of the product or FUSED.

    A product that is not FUSED is exact in the lane (or AS_IS) and first rounded to nearest.
    """
    kind, mode, reach, before = known(way[0]), known(way[1]), known(way[2]), known(way[3])
    if before != FUSED:
        y = second(float_bits(x * y), product, before, kind, NEAREST_EVEN, 0)
        x = target.one
    return second(first_sum(x, y, c, kind), target, reach, kind, mode, r)
