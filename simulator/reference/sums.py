"""The exact twins of chains, exact sums, trees and integer sums."""

import math
from collections.abc import Callable
from fractions import Fraction

from ...formats.format import ArithmeticFormat, FloatFormat, IntegerFormat
from ...formats.reference import quantum, round_exact
from ...formats.rounding import Rounding, Stochastic
from ..order import Chain, Exact, Integer, Tree
from .rounded import Values, flushed, flushed_result, rounded, special_sum


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
        return flushed_result(total, order.result, rounding)
    return rounded(total, order.result, rounding, random)


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
        return flushed_result(total, fmt, rounding)
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
    """The exact sum; wraps modulo 2^bits, or saturates after each block; partial sums saturate."""
    total, block = int(c), order.block or max(len(a), 1)
    for k in range(0, len(a), block):
        products = [
            int(x) * int(y) for x, y in zip(a[k : k + block], b[k : k + block], strict=True)
        ]
        if order.partial_format is not None:
            starts = range(0, len(products), order.group or 1)
            products = [
                _reduced(
                    sum(products[g : g + (order.group or 1)]), order.partial_format, "saturate"
                )
                for g in starts
            ]
        total = _reduced(total + sum(products), order.result, order.overflow)
    return float(total)


def _reduced(total: int, fmt: IntegerFormat, overflow: str) -> int:
    """An integer inside its format, wrapped modulo 2^bits or saturated."""
    low, high = int(fmt.lowest), int(fmt.largest)
    if overflow == "wrap":
        return (total - low) % (high - low + 1) + low
    return min(max(total, low), high)


def tree(
    a: Values, b: Values, c: float, order: Tree, inputs: tuple[ArithmeticFormat, ArithmeticFormat]
) -> float:
    """Groups of products summed in pairs, each sum rounded, then added to c."""
    if order.flush:
        positive = order.flushed_inputs == "positive"
        a = [_flushed_input(x, inputs[0], positive) for x in a]
        b = [_flushed_input(x, inputs[1], positive) for x in b]
        c = _flushed_input(c, order.result, positive)
    for k in range(0, len(a), order.group):
        short = max(k + order.group - len(a), 0)
        x, y = ([*v[k : k + order.group], *[0.0] * short] for v in (a, b))
        level = [
            _tree_leaf(x[n : n + order.leaf], y[n : n + order.leaf], order)
            for n in range(0, order.group, order.leaf)
        ]
        while len(level) > 1:
            level = [_tree_sum(s, t, order) for s, t in zip(level[::2], level[1::2], strict=True)]
        c = _tree_sum(c, level[0], order)
    return c


def _flushed_input(x: float, fmt: ArithmeticFormat, positive: bool) -> float:
    if not isinstance(fmt, FloatFormat) or not abs(x) < fmt.min_normal:
        return x
    return 0.0 if positive else math.copysign(0.0, x)


def _tree_leaf(a: Values, b: Values, order: Tree) -> float:
    """Neighbouring products summed exactly and rounded once; -0 if all of them are."""
    special = special_sum(a, b, -0.0)
    if special is not None:
        return special
    products = [(Fraction(x) * Fraction(y), math.copysign(1.0, x) * math.copysign(1.0, y))
                for x, y in zip(a, b, strict=True)]  # fmt: skip
    total = sum((p for p, _ in products), Fraction(0))
    if not total:
        return -0.0 if all(p == 0 and sign < 0 for p, sign in products) else 0.0
    return _tree_rounded(total, order)


def _tree_sum(x: float, y: float, order: Tree) -> float:
    special = special_sum([x], [1.0], y)
    if special is not None:
        return special
    total = Fraction(x) + Fraction(y)
    return _tree_rounded(total, order) if total else x + y


def _tree_rounded(x: Fraction, order: Tree) -> float:
    if order.flush:
        value = flushed_result(x, order.result, order.accumulate, order.tininess == "before")
    else:
        value = rounded(x, order.result, order.accumulate)
    step = quantum(abs(x), order.result)
    over = abs(round_exact(x, step, order.accumulate)) > Fraction(order.result.largest)
    return math.copysign(math.inf, x) if over and order.overflow == "infinity" else value
