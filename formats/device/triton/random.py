"""Philox4x32-10 in Triton: the random integers of `formats.random`, by integer operations alone.

Cost a block of 128 bits: 20 widening 32-bit products and about 60 other integer operations.
"""

import triton
import triton.language as tl


@triton.jit
def philox(c0, c1, c2, c3, k0, k1):
    """Four uint32 words from a counter of four and a key of two uint32 words."""
    for _ in tl.static_range(10):
        p0 = c0.to(tl.uint64) * 0xD2511F53
        p1 = c2.to(tl.uint64) * 0xCD9E8D57
        n0 = (p1 >> 32).to(tl.uint32) ^ c1 ^ k0
        n2 = (p0 >> 32).to(tl.uint32) ^ c3 ^ k1
        c1 = p1.to(tl.uint32)
        c3 = p0.to(tl.uint32)
        c0 = n0
        c2 = n2
        k0 = (k0.to(tl.uint64) + 0x9E3779B9).to(tl.uint32)
        k1 = (k1.to(tl.uint64) + 0xBB67AE85).to(tl.uint32)
    return c0, c1, c2, c3


@triton.jit
def draw_block(block, seed, stream):
    """The four words of blocks (int64), of a seed and a stream that are int64 scalars."""
    word = block.to(tl.uint64)
    low = tl.full(block.shape, 0xFFFFFFFF, tl.uint64)
    key = tl.zeros(block.shape, tl.uint64) + seed.to(tl.uint64)
    place = tl.zeros(block.shape, tl.uint64) + stream.to(tl.uint64)
    return philox(
        (word & low).to(tl.uint32), (word >> 32).to(tl.uint32),
        (place & low).to(tl.uint32), (place >> 32).to(tl.uint32),
        (key & low).to(tl.uint32), (key >> 32).to(tl.uint32),
    )  # fmt: skip


@triton.jit
def lane_of(w0, w1, w2, w3, lane, WIDTH: tl.constexpr, BITS: tl.constexpr):
    """The top BITS bits of lane `lane`, WIDTH bits wide, of blocks of four words."""
    each: tl.constexpr = 32 // WIDTH
    at = lane // each
    word = tl.where(at < 2, tl.where(at == 0, w0, w1), tl.where(at == 2, w2, w3))
    places = (lane % each) * WIDTH + (WIDTH - BITS)
    mask: tl.constexpr = (1 << BITS) - 1
    return (word >> places.to(tl.uint32)).to(tl.int64) & mask


@triton.jit
def static_lane(w0, w1, w2, w3, LANE: tl.constexpr, WIDTH: tl.constexpr, BITS: tl.constexpr):
    """`lane_of` for a lane that is known when the kernel is compiled, int64."""
    each: tl.constexpr = 32 // WIDTH
    places: tl.constexpr = (LANE % each) * WIDTH + (WIDTH - BITS)
    mask: tl.constexpr = (1 << BITS) - 1
    if LANE // each == 0:
        word = w0
    elif LANE // each == 1:
        word = w1
    elif LANE // each == 2:
        word = w2
    else:
        word = w3
    return (word >> places).to(tl.int64) & mask


@triton.jit
def draw_element(index, seed, stream, WIDTH: tl.constexpr, BITS: tl.constexpr):
    """The random integer of element `index` (int64), int64: see `formats.random`."""
    lanes: tl.constexpr = 128 // WIDTH
    w0, w1, w2, w3 = draw_block(index // lanes, seed, stream)
    return lane_of(w0, w1, w2, w3, index % lanes, WIDTH, BITS)
