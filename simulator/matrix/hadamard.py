"""Rotations of operands: both of a product alike, so that the exact product stays."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ...formats.random import random_integer_reference
from ..kernels.hadamard import rotate_rows
from ..recipe_rows import Hadamard

#: The random stream of the signs, which no operation's reaches.
STREAM = 2**63


@lru_cache(maxsize=64)
def signs_of(size: int, random: bool, seed: int) -> NDArray[np.float32]:
    """The signs of a run: +1, or -1 where the seed's bit of that index is set."""
    bits = [random and random_integer_reference(seed, STREAM, i, 1) for i in range(size)]
    return np.where(np.array(bits, bool), np.float32(-1), np.float32(1))


def rotate(x: NDArray[np.float32], row: Hadamard, seed: int) -> NDArray[np.float32]:
    """x (B, R, K) rotated along K as `Hadamard` says: (B, R, K'), K filled to whole rotations."""
    if row.size == 1:
        return x
    short = -x.shape[-1] % row.size
    if short:
        x = np.pad(x, ((0, 0), (0, 0), (0, short)))
    out = np.empty_like(x)
    factor = np.float32(1 / np.sqrt(row.size))
    depth = x.shape[-1]
    rotate_rows(
        x.reshape(-1, depth), signs_of(row.size, row.random, seed), factor, out.reshape(-1, depth)
    )
    return out
