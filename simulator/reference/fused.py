"""The exact twins of fused orders, with scales and groups, and of the two-stage ones."""

import math
from fractions import Fraction
from typing import NamedTuple

from ...formats.format import ArithmeticFormat
from ...formats.random import random_word_reference
from ...formats.reference import floor_log2, quantum, round_exact
from ...formats.rounding import Rounding, Stochastic
from ..order import Fused, TwoStage
from .rounded import Values, exponent, rounded, special_sum

Inputs = tuple[ArithmeticFormat, ArithmeticFormat]
#: The scale of each element of a and of b.
Scales = tuple[Values, Values]


class Term(NamedTuple):
    """A value and the exponent by which it is aligned; None if it has none."""

    value: Fraction
    exponent: int | None


def fused(
    a: Values, b: Values, c: float, order: Fused, inputs: Inputs, scales: Scales | None = None,
    seed: int = 0, stream: int = 0, first_word: int = 0,
) -> float:  # fmt: skip
    """Blocks of `order.block` products in k order; the result of one is the c of the next."""
    rounding = order.accumulate
    for k in range(0, len(a), order.block):
        random, part = 0, slice(k, k + order.block)
        if isinstance(rounding, Stochastic):
            random = random_word_reference(seed, stream, first_word + k) >> (32 - rounding.bits)
        here = None if scales is None else (scales[0][part], scales[1][part])
        c = fused_block(a[part], b[part], c, order, inputs, here, random)
    return c


def fused_block(
    a: Values, b: Values, c: float, order: Fused, inputs: Inputs, scales: Scales | None = None,
    random: int = 0,
) -> float:  # fmt: skip
    """One block: align to the largest exponent, truncate each term, sum exactly, round once."""
    ones = [1.0] * len(a)
    sa, sb = scales or (ones, ones)
    special = special_sum([x * s for x, s in zip(a, sa, strict=True)],
                          [y * s for y, s in zip(b, sb, strict=True)], c)  # fmt: skip
    if special is not None:
        return special
    terms = [Term(Fraction(c), exponent(c, order.result) if c else None)]
    if order.group is None:
        terms += [_product(*factors, order, inputs) for factors in zip(a, b, sa, sb, strict=True)]
    else:
        for g in range(0, len(a), order.group):
            part = slice(g, g + order.group)
            terms.append(_group(a[part], b[part], sa[g], sb[g], order))
    emax = max([order.min_exponent, *(t.exponent for t in terms if t.exponent is not None)])
    unit = Fraction(2) ** (emax - order.fraction_bits)
    total = sum((round_exact(t.value, unit, Rounding.TOWARD_ZERO) for t in terms), Fraction(0))
    step = quantum(abs(total), order.result)
    value = round_exact(total, step, order.accumulate, random)
    if abs(value) > Fraction(order.result.largest):
        return math.copysign(math.inf, value)
    return float(value) if value else 0.0


def _product(x: float, y: float, sx: float, sy: float, order: Fused, inputs: Inputs) -> Term:
    """One product with its scales; its exponent is that of the four factors."""
    value = Fraction(x) * Fraction(y) * Fraction(sx) * Fraction(sy)
    if not value:
        return Term(value, None)
    e = exponent(x, inputs[0]) + exponent(y, inputs[1])
    if order.scale is not None:
        e += exponent(sx, order.scale.fmt) + exponent(sy, order.scale.fmt)
    return Term(value, e)


def _group(a: Values, b: Values, sx: float, sy: float, order: Fused) -> Term:
    """The exact sum of a group's products, with its scales, which alone make its exponent."""
    products = [Fraction(x) * Fraction(y) for x, y in zip(a, b, strict=True)]
    if not any(products) or not sx or not sy or order.scale is None:
        return Term(Fraction(0), None)
    e = exponent(sx, order.scale.fmt) + exponent(sy, order.scale.fmt)
    return Term(sum(products, Fraction(0)) * Fraction(sx) * Fraction(sy), e)


def two_stage(a: Values, b: Values, c: float, order: TwoStage, inputs: Inputs) -> float:
    """Blocks of `order.block` products in k order; the result of one is the c of the next."""
    for k in range(0, len(a), order.block):
        c = two_stage_block(a[k : k + order.block], b[k : k + order.block], c, order, inputs)
    return c


def two_stage_block(a: Values, b: Values, c: float, order: TwoStage, inputs: Inputs) -> float:
    """Products aligned, truncated and summed; then that sum and c aligned anew and floored."""
    huge = 2.0 ** (order.result.max_exponent + 1)
    products = [x * y for x, y in zip(a, b, strict=True)]
    products = [math.copysign(math.inf, p) if abs(p) >= huge else p for p in products]
    special = special_sum(products, [1.0] * len(products), c)
    if special is not None:
        return special
    lanes = [_lane(a[n :: order.lanes], b[n :: order.lanes], order, inputs)
             for n in range(order.lanes)]  # fmt: skip
    exponents = [t.exponent for t in lanes if t.exponent is not None]
    e_c = exponent(c, order.result) if c else order.result.min_exponent
    e_max = max([*exponents, e_c])
    total = Fraction(0)
    if exponents:
        unit = Fraction(2) ** (max(exponents) - order.fraction_bits)
        total = sum((_floor(t.value, unit) for t in lanes), Fraction(0))
        total = _floor(total, Fraction(2) ** (e_max - order.guard_bits))
    if order.drop_c is None or e_c >= e_max - order.drop_c:
        total += _floor(Fraction(c), Fraction(2) ** (e_max - order.fraction_bits))
    if order.sum_bits is not None and total:
        e_sum = max(floor_log2(abs(total)), order.result.min_exponent)
        total = _floor(total, Fraction(2) ** (e_sum - order.sum_bits))
    return rounded(total, order.result, order.accumulate)


def _lane(a: Values, b: Values, order: TwoStage, inputs: Inputs) -> Term:
    """Products truncated at their own largest exponent and summed; no exponent if all are 0."""
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x and y]
    if not pairs:
        return Term(Fraction(0), None)
    e = max(exponent(x, inputs[0]) + exponent(y, inputs[1]) for x, y in pairs)
    unit = Fraction(2) ** (e - order.fraction_bits)
    terms = [round_exact(Fraction(x) * Fraction(y), unit, Rounding.TOWARD_ZERO) for x, y in pairs]
    return Term(sum(terms, Fraction(0)), e)


def _floor(x: Fraction, unit: Fraction) -> Fraction:
    """x to a multiple of `unit`, toward minus infinity."""
    return round_exact(x, unit, Rounding.DOWN)
