"""Operands as the kernels want them, and the proofs that let a native product stand in."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ...formats.format import FLOAT32, ArithmeticFormat, fits

#: Operands (B, M, K) and (B, K, N); sums (B, M, N).
Matrix = NDArray[Any]
Sums = NDArray[np.float64]
Formats = tuple[ArithmeticFormat, ArithmeticFormat]


class Place(NamedTuple):
    """Which random bits a part of a product takes: see `kernels.chain_random`."""

    seed: int = 0
    stream: int = 0
    k_first: int = 0
    k_all: int = 0


def plain(x: Matrix, formats: Formats | None = None) -> Matrix:
    """x contiguous and writable, in float32 if that holds both formats: one compilation for all."""
    dtype = None
    if formats is not None:
        dtype = np.float32 if all(fits(f, FLOAT32) for f in formats) else np.float64
    return np.require(x, dtype, ["C", "W"])


def special_outputs(a: Matrix, b: Matrix, c: Sums) -> NDArray[np.bool_]:
    """Which outputs have an infinity or NaN among their operands."""
    rows = np.isfinite(a).all(axis=2, keepdims=True)
    columns = np.isfinite(b).all(axis=1, keepdims=True)
    hit: NDArray[np.bool_] = ~(np.isfinite(c) & rows & columns)
    return hit


def products_fit(a: Matrix, b: Matrix, formats: Formats, bits: int) -> bool:
    """Whether every partial sum of a b, in any order, is exact in `bits` significand bits.

    Each product is a multiple of q = 2^(lowest bit of a + lowest bit of b), and no partial sum
    exceeds K max|a| max|b|; if that is at most 2^bits q, each is an integer number of q that
    fits.
    """
    if not a.size or not b.size:
        return True
    bound = a.shape[2] * float(np.abs(a).max()) * float(np.abs(b).max())
    return bool(bound <= math.ldexp(1.0, bits + sum(lowest_bit(f) for f in formats)))


def lowest_bit(fmt: ArithmeticFormat) -> int:
    """The exponent of the bit that divides every value of the format."""
    return fmt.grid.min_exponent - fmt.grid.subnormal_fraction_bits


def native_product(a: Matrix, b: Matrix) -> Matrix:
    """a @ b by torch, whose threads are the ones that a run bounds."""
    return torch.bmm(torch.from_numpy(plain(a)), torch.from_numpy(plain(b))).numpy()
