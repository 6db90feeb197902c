"""Chains over matrices: tiles of rows and columns, for float32 and float64 lanes.

Columns are the vector lanes. A tile of 8 rows and up to 512 columns of sums stays in the first
cache while the rows of B pass by, each used by all rows of the tile, two at a time. Kernels are
compiled for a lane type and a `static` way to round; formats and their widths are arguments, so
what is compiled serves every chip of the same mode.

Cost a product, in vector operations: 1 for a first sum of kind NEAREST or ZERO, 4 for ODD; 1 to 5
for the second rounding; 10 to 13 more where exponents are bounded.
"""

from typing import Any, NamedTuple

import numpy as np

from ...formats.jit import (
    ROUND_DOWN,
    ROUND_NEAREST,
    ROUND_TOWARD_ZERO,
    float_bits,
    jit,
    parallel_jit,
    prange,
    rotated,
    scalar_jit,
    set_rounding,
    stay_apart,
)
from .chain_random import draw
from .chain_steps import ODD, ZERO, known, step

ROWS, COLUMNS, RANDOM_COLUMNS = 8, 512, 256


class Draws(NamedTuple):
    """Where the random bits of a chain come from, and where they go.

    Attributes:
        seed, stream: of Philox, uint64.
        first, every: product k of these arrays is step first + k * every of its dot product.
        steps, blocks: steps that share a block, blocks of a dot product.
        row, column: how far the output's number moves with a row and a column of these arrays.
        width, places: bits of a step's lane; its rotation to the right when it is the lowest.
        mask, set_bit: the bits of r in place; a bit that is always set (srf).
    """

    seed: Any
    stream: Any
    first: int
    every: int
    steps: int
    blocks: int
    row: int
    column: int
    width: int
    places: int
    mask: Any
    set_bit: Any


@scalar_jit
def _direction(way):  # type: ignore[no-untyped-def]
    kind = known(way[0])
    return ROUND_DOWN if kind == ODD else ROUND_TOWARD_ZERO if kind == ZERO else ROUND_NEAREST


@jit
def _copy(x, y):  # type: ignore[no-untyped-def]
    for j in range(x.size):
        y[j] = x[j]


@scalar_jit
def place_of(n, rows, columns, width):  # type: ignore[no-untyped-def]
    """(matrix, first and last row, first and last column) of tile n."""
    down, across = (rows + ROWS - 1) // ROWS, (columns + width - 1) // width
    i, j = (n // across) % down * ROWS, n % across * width
    return n // (down * across), i, min(i + ROWS, rows), j, min(j + width, columns)


def count_tiles(batch: int, rows: int, columns: int, random: bool) -> int:
    """How many tiles a product has."""
    return batch * -(-rows // ROWS) * -(-columns // (RANDOM_COLUMNS if random else COLUMNS))


@jit
def _one(c, x, row, target, product, way):  # type: ignore[no-untyped-def]
    stay_apart()
    for j in range(c.size):
        c[j] = step(x, row[j], c[j], target, product, way, 0)


@jit
def _two(c, x, row, y, following, target, product, way):  # type: ignore[no-untyped-def]
    stay_apart()
    for j in range(c.size):
        middle = step(x, row[j], c[j], target, product, way, 0)
        c[j] = step(y, following[j], middle, target, product, way, 0)


@jit
def run_tile(n, a, b, out, target, product, way):  # type: ignore[no-untyped-def]
    """Tile n of a product: a (B, M, K), b (B, K, N); out (B, M, N) float64, the start, then D."""
    depth = b.shape[1]
    h, i0, i1, j0, j1 = place_of(n, a.shape[1], b.shape[2], COLUMNS)
    sums = np.empty((ROWS, j1 - j0), a.dtype)
    for i in range(i0, i1):
        _copy(out[h, i, j0:j1], sums[i - i0])
    set_rounding(_direction(way))
    for k in range(0, depth - 1, 2):
        row, following = b[h, k, j0:j1], b[h, k + 1, j0:j1]
        for i in range(i0, i1):
            x, y = a[h, i, k], a[h, i, k + 1]
            _two(sums[i - i0], x, row, y, following, target, product, way)
    if depth % 2 == 1:
        row = b[h, depth - 1, j0:j1]
        for i in range(i0, i1):
            _one(sums[i - i0], a[h, i, depth - 1], row, target, product, way)
    set_rounding(ROUND_NEAREST)
    for i in range(i0, i1):
        _copy(sums[i - i0], out[h, i, j0:j1])


@parallel_jit
def spread_tiles(tiles, a, b, out, target, product, way):  # type: ignore[no-untyped-def]
    """All tiles, on the threads of `set_threads`; a parallel loop takes no tuples of tuples."""
    kind, mode, reach, before = way
    for n in prange(tiles):
        run_tile(n, a, b, out, target, product, (kind, mode, reach, before))


@jit
def _one_random(c, x, row, words, places, draws, target, product, way):  # type: ignore[no-untyped-def]
    stay_apart()
    for j in range(c.size):
        r = (rotated(words[j], places, draws.mask) & draws.mask) | draws.set_bit
        c[j] = step(x, row[j], c[j], target, product, way, r)


@jit
def _peak(c, so_far):  # type: ignore[no-untyped-def]
    for j in range(c.size):
        so_far = max(so_far, float_bits(np.abs(c[j])))
    return so_far


@jit
def _random_block(c, x, b, j0, k, end, words, draws, target, product, way):  # type: ignore[no-untyped-def]
    """Steps k to end - 1 of one row of sums, which share one block of random bits."""
    lanes = draws.steps // 4
    for m in range(k, end):
        lane = (draws.first + m * draws.every) % draws.steps
        places = lane % lanes * draws.width + draws.places
        row = b[m, j0 : j0 + c.size]
        _one_random(c, x[m], row, words[lane // lanes], places, draws, target, product, way)


@jit
def run_random_tile(n, a, b, out, target, product, way, draws, peaks):  # type: ignore[no-untyped-def]
    """As `run_tile` with random bits; peaks (tiles,) int64: bits of the largest sum in a tile.

    It looks after each block of random bits, which is after at most 16 steps.
    """
    rows, columns, depth = a.shape[1], b.shape[2], b.shape[1]
    h, i0, i1, j0, j1 = place_of(n, rows, columns, RANDOM_COLUMNS)
    sums = np.empty((ROWS, j1 - j0), a.dtype)
    words = np.empty((4, j1 - j0), np.uint32)
    stride = np.uint64(draws.blocks * draws.column)
    for i in range(i0, i1):
        _copy(out[h, i, j0:j1], sums[i - i0])
    set_rounding(_direction(way))
    k = 0
    while k < depth:
        block = (draws.first + k * draws.every) // draws.steps
        end = ((block + 1) * draws.steps - 1 - draws.first) // draws.every + 1
        end = min(end, depth)
        for i in range(i0, i1):
            output = h * rows * columns + i * draws.row + j0 * draws.column
            draw(words, draws.seed, draws.stream, np.uint64(output * draws.blocks + block), stride)
            _random_block(
                sums[i - i0], a[h, i], b[h], j0, k, end, words, draws, target, product, way
            )
            peaks[n] = _peak(sums[i - i0], peaks[n])
        k = end
    set_rounding(ROUND_NEAREST)
    for i in range(i0, i1):
        _copy(sums[i - i0], out[h, i, j0:j1])


@parallel_jit
def spread_random_tiles(tiles, a, b, out, target, product, way, draws, peaks):  # type: ignore[no-untyped-def]
    """All tiles, on the threads of `set_threads`."""
    kind, mode, reach, before = way
    for n in prange(tiles):
        together = (kind, mode, reach, before)
        run_random_tile(n, a, b, out, target, product, together, draws, peaks)
