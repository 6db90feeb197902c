"""Codes of operands and results: the bits that silicon, RTL and recordings speak of."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...formats import decode, encode
from ...formats.format import ArithmeticFormat, IntegerFormat

Codes = NDArray[np.uint64]


def to_codes(values: NDArray[Any], fmt: ArithmeticFormat) -> Codes:
    """The codes of values on the format's grid; every NaN becomes the format's first NaN code."""
    policy = "infinity" if fmt.grid.has_infinity else "saturate"
    return np.asarray(encode(np.asarray(values, np.float64), fmt, overflow=policy), np.uint64)


def to_values(codes: Codes, fmt: ArithmeticFormat) -> NDArray[Any]:
    """The values of codes, float32 where that holds the format, so that kernels compile once."""
    with np.errstate(over="ignore"):  # codes of infinity, before they are told apart
        return np.asarray(decode(codes, fmt))


def digits(fmt: ArithmeticFormat) -> int:
    """Hexadecimal digits of a code."""
    return (fmt.bits + 3) // 4


def as_hex(code: Any, fmt: ArithmeticFormat) -> str:
    """A code in lower-case hexadecimal, as wide as the format."""
    return f"{int(code):0{digits(fmt)}x}"


def is_nan(codes: Codes, fmt: ArithmeticFormat) -> NDArray[np.bool_]:
    """Which codes are NaN."""
    if isinstance(fmt, IntegerFormat) or not fmt.grid.has_nan:
        return np.zeros(codes.shape, bool)
    return np.asarray(np.isnan(to_values(codes, fmt)))


def is_zero(codes: Codes, fmt: ArithmeticFormat) -> NDArray[np.bool_]:
    """Which codes are +0 or -0."""
    return np.asarray(to_values(codes, fmt) == 0, bool)
