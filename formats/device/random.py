"""Philox4x32-10 by torch operations alone: on any device the random integers of `random.py`.

Element i of stream t under seed s reads a lane of a 128-bit block, the four words of

    philox(counter = (b low, b high, t low, t high), key = (s low, s high))

laid out little-endian, the first word lowest. A lane is as narrow as k random bits allow:

    k <=  8   byte      i mod 16 of block b = i // 16
    k <= 16   halfword  i mod  8 of block b = i // 8
    else      word      i mod  4 of block b = i // 4

and the k top bits of the lane are the random integer.
Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from math import prod

import torch
from torch import Tensor

_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW = 0xFFFFFFFF


def draw_integers(
    shape: torch.Size | tuple[int, ...],
    bits: int,
    seed: int,
    stream: int = 0,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Random integers in 0 .. 2^bits - 1, int64, of `shape`, row-major; 1 <= bits <= 32."""
    count = prod(shape)
    width = lane_width(bits)
    lanes = 128 // width
    block = torch.arange((count + lanes - 1) // lanes, dtype=torch.int64, device=device)
    stream, seed = stream % 2**64, seed % 2**64
    words = _philox(
        block & _LOW,
        block >> 32,
        torch.full_like(block, stream & _LOW),
        torch.full_like(block, stream >> 32),
        (seed & _LOW, seed >> 32),
    )
    shift = torch.arange(0, 32, width, dtype=torch.int64, device=device)
    lane = (torch.stack(words, dim=-1).unsqueeze(-1) >> shift) & ((1 << width) - 1)
    return (lane.reshape(-1)[:count] >> (width - bits)).reshape(shape)


def lane_width(bits: int) -> int:
    """Bits of a block that one element of `bits` random bits takes."""
    return 8 if bits <= 8 else 16 if bits <= 16 else 32


def _philox(
    c0: Tensor, c1: Tensor, c2: Tensor, c3: Tensor, key: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four tensors of 32-bit words, in int64, from a counter of four and a key of two words."""
    k0, k1 = key
    for _ in range(10):
        high0, low0 = _multiply(c0, _M0)
        high1, low1 = _multiply(c2, _M1)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return c0, c1, c2, c3


def _multiply(word: Tensor, constant: int) -> tuple[Tensor, Tensor]:
    """The high and low halves of a 64-bit product, in halfwords: int64 has no unsigned top bit."""
    upper = word * (constant >> 16)
    lower = word * (constant & 0xFFFF) + ((upper & 0xFFFF) << 16)
    return (upper >> 16) + (lower >> 32), lower & _LOW
