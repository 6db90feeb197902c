"""The exact twin of `kernels.py`: one operand at a time, in Python integers and fractions.

Each alignment is written the way its document tells it; the kernel folds all of them into one.
"""

import math
from fractions import Fraction

from ..reference import encode_exact, floor_log2
from .row import Conversion, Lane


def random_integer_exact(word: int, row: Conversion, lane: int) -> int:
    """The k random bits that the value in this lane takes from its word, as an integer."""
    place: Lane = row.lanes[lane]
    bits = f"{(word >> place.shift) % (1 << row.random_bits):0{row.random_bits}b}"
    return int(bits[::-1] if place.reversed else bits, 2)


def convert_exact(operand: int, row: Conversion, random: int = 0) -> int:
    """The code of the target for the code of an operand and the integer r of its lane."""
    source, target = row.operand_format, row.target_format
    negative, magnitude = divmod(operand, 1 << (source.bits - 1))
    sign = negative << (target.bits - 1)
    field, fraction = divmod(magnitude, 1 << source.fraction_bits)
    if field == 2**source.exponent_bits - 1:
        if fraction:
            return _nan(sign, fraction >> row.discarded_bits, row)
        return sign | row.special_code(row.infinity)
    if field == 0 and row.subnormal_operand != "keep":
        return sign if row.subnormal_operand == "zero" else 0
    significand = fraction if field == 0 else fraction + 2**source.fraction_bits
    exponent = max(field, 1) - source.exponent_bias
    value = _rounded(significand, exponent, row, random if row.addend == "random" else 0)
    if value > Fraction(target.largest):
        return sign | row.special_code(row.overflow)
    if value == 0 and not target.grid.signed_zero:
        return 0
    return sign | encode_exact(float(value), target)


def _nan(sign: int, payload: int, row: Conversion) -> int:
    match row.nan:
        case "fixed":
            return row.nan_code
        case "signed":
            return sign | row.nan_code
        case "payload":
            return sign | row.nan_code | payload


def _rounded(significand: int, exponent: int, row: Conversion, random: int) -> Fraction:
    """The magnitude significand * 2^(exponent - operand fraction bits) after the addition."""
    target, dropped, k = row.target_format, row.discarded_bits, row.random_bits
    unit = Fraction(2) ** (exponent - row.operand_format.fraction_bits)
    if row.align == "minimum_normal":
        while exponent < target.min_exponent and significand:
            significand, exponent = significand >> 1, exponent + 1  # what falls out is lost
        kept = (significand + (random << (dropped - k))) >> dropped
        return kept * Fraction(2) ** (max(exponent, target.min_exponent) - target.fraction_bits)
    if row.align == "operand":
        total = (significand + (random << (dropped - k))) * unit
        step = _step(total, row)
        return math.floor(total / step) * step
    step = _step(significand * unit, row)
    steps = significand * unit / step
    low = math.floor(steps)
    return (low + _goes_up(low, steps - low, row, random)) * step


def _step(value: Fraction, row: Conversion) -> Fraction:
    """The distance of the target's values at a magnitude."""
    fmt = row.target_format
    exponent = floor_log2(value) if value else fmt.min_exponent
    return Fraction(2) ** (max(exponent, fmt.min_exponent) - fmt.fraction_bits)


def _goes_up(low: int, d: Fraction, row: Conversion, random: int) -> bool:
    """Whether the discarded fraction d of an ulp, cut to k bits, carries the magnitude up."""
    if row.addend == "nearest_even":
        return round(low + d) > low
    top = math.floor(d * (1 << row.random_bits))
    r = random if row.addend == "random" else row.addend
    return top >= r if row.compare == ">=" else top + r >= 1 << row.random_bits
