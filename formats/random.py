"""Counter-based random bits: the same for a seed, stream and index on every machine.

Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3",
SC 2011). One call turns a 128-bit counter and a 64-bit key into four 32-bit words. Element i of
stream t under seed s takes word i mod 4 of

    philox(counter = (i // 4 low, i // 4 high, t low, t high), key = (s low, s high))

so any element can be drawn alone, in any order, by any number of threads, and on a GPU. Where k
random bits are enough, element i takes a lane of the 128-bit block (the four words, the first one
lowest): byte i mod 16 of block i // 16 for k <= 8, halfword i mod 8 of block i // 8 for k <= 16,
word i mod 4 of block i // 4 else; and of that lane the top k bits.
"""

import numpy as np

from .jit import jit, scalar_jit

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


@scalar_jit
def philox(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    """Four uint32 words from a counter of four and a key of two uint32 words."""
    for _ in range(10):
        p0 = _M0 * np.uint64(c0)
        p1 = _M1 * np.uint64(c2)
        c0 = np.uint32(p1 >> _32) ^ c1 ^ k0
        c1 = np.uint32(p1 & _LOW)
        c2 = np.uint32(p0 >> _32) ^ c3 ^ k1
        c3 = np.uint32(p0 & _LOW)
        k0 = np.uint32(k0 + _W0)
        k1 = np.uint32(k1 + _W1)
    return c0, c1, c2, c3


@jit
def fill_words(words, seed, stream, first, count):  # type: ignore[no-untyped-def]
    """The words of elements first .. first + count - 1, in `words` of at least count + 8."""
    start = first >> np.uint64(2)
    skip = np.int64(first & np.uint64(3))
    blocks = (skip + count + 3) // 4
    s0, s1 = np.uint32(stream & _LOW), np.uint32(stream >> _32)
    k0, k1 = np.uint32(seed & _LOW), np.uint32(seed >> _32)
    for n in range(blocks):
        block = start + np.uint64(n)
        w0, w1, w2, w3 = philox(np.uint32(block & _LOW), np.uint32(block >> _32), s0, s1, k0, k1)
        words[4 * n], words[4 * n + 1], words[4 * n + 2], words[4 * n + 3] = w0, w1, w2, w3
    return words[skip : skip + count]


@jit
def fill_random(out, k, seed, stream, first, count):  # type: ignore[no-untyped-def]
    """Integers below 2^k of elements first .. first + count - 1, in `out` of at least count + 32.

    out: the uint8, uint16 or uint32 array of `random_dtype(k)`. A block fills 16, 8 or 4 elements;
    the loop over blocks vectorises, so that a byte costs about a quarter of a word.
    """
    width = 8 * out.itemsize
    lanes = 128 // width
    start = first // np.uint64(lanes)
    skip = np.int64(first % np.uint64(lanes))
    blocks = (skip + count + lanes - 1) // lanes
    words = out[: blocks * lanes].view(np.uint32)
    shift = np.uint32(width - k)
    mask = np.uint32(((1 << k) - 1) * (0xFFFFFFFF // ((1 << width) - 1)))
    s0, s1 = np.uint32(stream & _LOW), np.uint32(stream >> _32)
    k0, k1 = np.uint32(seed & _LOW), np.uint32(seed >> _32)
    for n in range(blocks):
        block = start + np.uint64(n)
        w0, w1, w2, w3 = philox(np.uint32(block & _LOW), np.uint32(block >> _32), s0, s1, k0, k1)
        words[4 * n], words[4 * n + 1] = (w0 >> shift) & mask, (w1 >> shift) & mask
        words[4 * n + 2], words[4 * n + 3] = (w2 >> shift) & mask, (w3 >> shift) & mask
    return out[skip : skip + count]


def random_dtype(bits: int) -> type[np.uint8 | np.uint16 | np.uint32]:
    """The narrowest lane that holds `bits` random bits."""
    return np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32


def philox_reference(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    """The exact twin of `philox` in Python integers, as the paper writes its rounds."""
    c, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = divmod(int(_M0) * c[0], 2**32)
        high1, low1 = divmod(int(_M1) * c[2], 2**32)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + int(_W0)) % 2**32, (k[1] + int(_W1)) % 2**32]
    return tuple(c)


def random_word_reference(seed: int, stream: int, index: int) -> int:
    """One word of `fill_words`, exactly."""
    block, lane = divmod(index, 4)
    counter = (block % 2**32, block >> 32, stream % 2**32, stream >> 32)
    return philox_reference(counter, (seed % 2**32, seed >> 32))[lane]


def random_integer_reference(seed: int, stream: int, index: int, bits: int) -> int:
    """One integer of `fill_random`, exactly: the top `bits` bits of its lane of its block."""
    width = 8 * np.dtype(random_dtype(bits)).itemsize
    block, lane = divmod(index, 128 // width)
    counter = (block % 2**32, block >> 32, stream % 2**32, stream >> 32)
    words = philox_reference(counter, (seed % 2**32, seed >> 32))
    whole = sum(word << (32 * n) for n, word in enumerate(words))
    return (whole >> (width * lane)) % (1 << width) >> (width - bits)
