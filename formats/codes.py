"""What the codes of grid formats stand for, over arrays: the fast twin of `decode_exact`."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .format import FLOAT32, FloatFormat, GridFormat, IntegerFormat, fits

Array = NDArray[Any]


def decode_grid(codes: Array, row: GridFormat) -> Array:
    """Values of unsigned codes: float32 where that holds the format, else float64.

    Exact; by a table up to 16 bits.
    """
    if row.bits <= 16:
        return np.take(every_value(row), codes)
    return _narrowed(_decoded(codes.astype(np.uint64), row), row)


@lru_cache(maxsize=64)
def every_value(row: GridFormat) -> Array:
    """The value of each code."""
    return _narrowed(_decoded(np.arange(2**row.bits, dtype=np.uint64), row), row)


def _narrowed(values: NDArray[np.float64], row: GridFormat) -> Array:
    return values.astype(np.float32) if fits(row, FLOAT32) else values


def _decoded(codes: NDArray[np.uint64], row: GridFormat) -> NDArray[np.float64]:
    if isinstance(row, FloatFormat):
        return _float_values(codes, row)
    integers = codes.astype(np.float64)
    if row.signed:
        integers = np.where(codes >> np.uint64(row.bits - 1), integers - 2.0**row.bits, integers)
    values = integers if isinstance(row, IntegerFormat) else integers * row.quantum
    return np.asarray(values, np.float64)


def _float_values(codes: NDArray[np.uint64], row: FloatFormat) -> NDArray[np.float64]:
    body = codes & np.uint64(2 ** (row.bits - row.signed) - 1)
    field = (body >> np.uint64(row.fraction_bits)).astype(np.int64)
    fraction = (body & np.uint64(2**row.fraction_bits - 1)).astype(np.float64)
    low = (field == 0) & row.zero
    if row.normal_zero_field:
        low &= fraction == 0
    whole = np.where(low, 0.0, 2.0**row.fraction_bits) + fraction
    if not row.subnormals:
        whole = np.where(low, 0.0, whole)
    first = int(row.zero and not row.normal_zero_field)
    exponent = np.maximum(field - first, 0) + row.min_exponent - row.fraction_bits
    # Bodies past the top one may lie past float64; they are replaced below.
    with np.errstate(over="ignore"):
        values: NDArray[np.float64] = np.ldexp(whole, exponent)
    above = body > np.uint64(row.top_body)
    values = np.where(above, np.nan, values)
    if row.infinity:
        values = np.where(body == np.uint64(row.infinity_body), np.inf, values)
    if not row.signed:
        return values
    negative = (codes >> np.uint64(row.bits - 1)) != 0
    if row.nan == "negative_zero":
        values = np.where(negative & (body == 0), np.nan, values)
    return np.where(negative, -values, values)
