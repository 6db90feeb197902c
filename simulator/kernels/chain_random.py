"""The random bits of chains: which ones a step takes, and a block for each of many columns.

A block is the 128 bits of one Philox call, the four words from low to high. Of dot products of K
steps, step k of output n takes for at most 8 random bits byte k mod 16 of block
n ceil(K / 16) + k div 16; for at most 16, halfword k mod 8 of block n ceil(K / 8) + k div 8; else
word k mod 4 of block n ceil(K / 4) + k div 4; and of that lane the top bits.
"""

import numpy as np

from ...formats.jit import jit
from ...formats.random import philox, random_dtype, random_integer_reference

_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


@jit
def draw(words, seed, stream, first, stride):  # type: ignore[no-untyped-def]
    """words (4, n) uint32: column j gets block first + j * stride; all unsigned."""
    _draw(words[0], words[1], words[2], words[3], seed, stream, first, stride)


@jit
def _draw(w0, w1, w2, w3, seed, stream, first, stride):  # type: ignore[no-untyped-def]
    for j in range(w0.size):
        block = first + np.uint64(j) * stride
        w0[j], w1[j], w2[j], w3[j] = philox(
            np.uint32(block & _LOW), np.uint32(block >> _32),
            np.uint32(stream & _LOW), np.uint32(stream >> _32),
            np.uint32(seed & _LOW), np.uint32(seed >> _32),
        )  # fmt: skip


def random_width(bits: int) -> int:
    """The width of the lane of a block that `bits` random bits come from."""
    return 8 * np.dtype(random_dtype(bits)).itemsize


def block_steps(bits: int) -> int:
    """How many steps of `bits` random bits share a block."""
    return 128 // random_width(bits)


def random_step_reference(
    seed: int, stream: int, output: int, step: int, steps: int, bits: int
) -> int:
    """The integer below 2^bits that step `step` of `steps` of output n takes, exactly."""
    share = block_steps(bits)
    first = output * -(-steps // share) * share
    return random_integer_reference(seed, stream, first + step, bits)
