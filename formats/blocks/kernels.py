"""Blocks with a shared scale: their largest magnitudes, and the rounding of scaled elements.

An array is seen as (outer, rows, columns, inner); a block is a tile of rows x columns, so that
every axis and every shape of block is one case. Scales lie in flat tables (outer, row blocks,
column blocks, inner). The kernels here serve every format and mode by way of float64 runs of
`CHUNK` elements; `lanes.py` has the float32 ones.
"""

from typing import NamedTuple

import numpy as np

from ..jit import jit, parallel_jit, prange
from ..loops import draw_run, round_run
from .scales import HUGE64

CHUNK = 2048
_TINY = float(np.finfo(np.float64).tiny)


class Layout(NamedTuple):
    """An array as the kernels see it, and the tile of one block; `tile_*` is at least 1."""

    outer: int
    rows: int
    columns: int
    inner: int
    tile_rows: int
    tile_columns: int


@jit
def _largest(bits, mask):  # type: ignore[no-untyped-def]
    """The largest magnitude of a run, as bits: integers order as floats do, NaN above infinity."""
    best = bits[0] & mask
    for j in range(bits.size):
        best = max(best, bits[j] & mask)
    return best


@jit
def _raise(best, bits, mask):  # type: ignore[no-untyped-def]
    for j in range(best.size):
        best[j] = max(best[j], bits[j] & mask)


@parallel_jit
def find_largest(bits, amax, layout, mask):  # type: ignore[no-untyped-def]
    """amax (a table, flat, zeros before) = largest magnitude of each block; both as int bits."""
    rows, columns, inner = layout.rows, layout.columns, layout.inner
    down = (rows + layout.tile_rows - 1) // layout.tile_rows
    across = (columns + layout.tile_columns - 1) // layout.tile_columns
    for t in prange(layout.outer * down * across):
        band, right = t // across, t % across
        top = (band // down) * rows + (band % down) * layout.tile_rows
        bottom = min(top + layout.tile_rows, (band // down + 1) * rows)
        left = right * layout.tile_columns
        end = min(left + layout.tile_columns, columns)
        for row in range(top, bottom):
            if inner == 1:
                run = bits[row * columns + left : row * columns + end]
                amax[t] = max(amax[t], _largest(run, mask))
            else:
                for column in range(left, end):
                    start = (row * columns + column) * inner
                    _raise(amax[t * inner : (t + 1) * inner], bits[start : start + inner], mask)


@jit
def _widen(x, lowest, highest):  # type: ignore[no-untyped-def]
    """Ranges widened to hold x: one for each of its elements, or one for all of them."""
    if lowest.size == x.size:
        for i in range(x.size):
            v = x[i]
            lowest[i] = v if v < lowest[i] or np.isnan(v) else lowest[i]
            highest[i] = v if v > highest[i] or np.isnan(v) else highest[i]
        return
    low, high, missing = lowest[0], highest[0], 0
    for i in range(x.size):
        low = x[i] if x[i] < low else low
        high = x[i] if x[i] > high else high
        missing += np.isnan(x[i])
    lowest[0] = np.nan if missing > 0 else low
    highest[0] = np.nan if missing > 0 else high


@parallel_jit
def find_range(x, lowest, highest, layout):  # type: ignore[no-untyped-def]
    """Least and largest value of each block with 0 among them; NaN if there is one. Flat tables."""
    rows, columns, inner = layout.rows, layout.columns, layout.inner
    down = (rows + layout.tile_rows - 1) // layout.tile_rows
    across = (columns + layout.tile_columns - 1) // layout.tile_columns
    for t in prange(layout.outer * down * across):
        band, right = t // across, t % across
        top = (band // down) * rows + (band % down) * layout.tile_rows
        bottom = min(top + layout.tile_rows, (band // down + 1) * rows)
        left = right * layout.tile_columns
        end = min(left + layout.tile_columns, columns)
        for row in range(top, bottom):
            for column in range(left, end if inner > 1 else left + 1):
                start = (row * columns + column) * inner
                run = x[start : start + inner] if inner > 1 else x[start : start + end - left]
                _widen(
                    run, lowest[t * inner : (t + 1) * inner], highest[t * inner : (t + 1) * inner]
                )


@jit
def _fill(out, value):  # type: ignore[no-untyped-def]
    for j in range(out.size):
        out[j] = value


@jit
def _copy(out, values):  # type: ignore[no-untyped-def]
    for j in range(out.size):
        out[j] = values[j]


@jit
def spread(table, out, first, layout):  # type: ignore[no-untyped-def]
    """out[j] = the table's entry for element first + j, in row-major order."""
    rows, columns, inner = layout.rows, layout.columns, layout.inner
    down = (rows + layout.tile_rows - 1) // layout.tile_rows
    across = (columns + layout.tile_columns - 1) // layout.tile_columns
    at, last = first, first + out.size
    while at < last:
        line = at // inner
        row, column = line // columns, line % columns
        block = (row // rows * down + row % rows // layout.tile_rows) * across
        if inner == 1:
            end = min(last, at + columns - column)
            block += column // layout.tile_columns
            room = layout.tile_columns - column % layout.tile_columns
            while at < end:
                run = min(room, end - at)
                _fill(out[at - first : at - first + run], table[block])
                at, block, room = at + run, block + 1, layout.tile_columns
        else:
            entry = (block + column // layout.tile_columns) * inner + at % inner
            run = min(last - at, inner - at % inner)
            _copy(out[at - first : at - first + run], table[entry : entry + run])
            at += run


@parallel_jit
def spread_blocks(table, out, layout):  # type: ignore[no-untyped-def]
    """`spread` over the whole of a flat array."""
    for chunk in prange((out.size + CHUNK - 1) // CHUNK):
        a, z = chunk * CHUNK, min((chunk + 1) * CHUNK, out.size)
        spread(table, out[a:z], a, layout)


@jit
def _scale_run(x, m, y, divides, exact, narrow):  # type: ignore[no-untyped-def]
    """y (float64) = the scaled elements: fl(x m) or fl(x / m), or x m of a power of two.

    The product with a power of two leaves float64 for float64 input alone; what is left of it,
    the least normal or the largest float64, rounds as the exact product would.
    """
    for j in range(x.size):
        a = np.float64(x[j])
        y[j] = np.divide(a, m[j]) if divides else a * m[j]
    if exact:
        for j in range(x.size):
            a, v = np.abs(np.float64(x[j])), np.abs(y[j])
            v = HUGE64 if v == np.inf and a < np.inf else v
            v = _TINY if v < _TINY and a > 0.0 else v
            y[j] = np.copysign(v, np.float64(x[j]))
    elif narrow:
        for j in range(x.size):
            y[j] = np.float64(np.float32(y[j]))


@jit
def _restore_run(q, t, out):  # type: ignore[no-untyped-def]
    for j in range(q.size):
        out[j] = q[j] * t[j]


@parallel_jit
def round_any(  # type: ignore[no-untyped-def]
    x, out, multipliers, totals, layout, how, given, kind, lane, grid, mode, overflow, k, key
):
    """out = fl(round(x scaled) total), in every mode; flat x, out (float32 or float64) and tables.

    how: (divides, exact, narrow), see `_scale_run`; given: a random integer for each element, or
    empty for Philox's by element index; kind .. k: a `lanes.Plan` of float64; key: seed, stream.
    """
    divides, exact, narrow = how
    for chunk in prange((x.size + CHUNK - 1) // CHUNK):
        a, z = chunk * CHUNK, min((chunk + 1) * CHUNK, x.size)
        factors, y, q = np.empty(z - a), np.empty(z - a), np.empty(z - a)
        spread(multipliers, factors, a, layout)
        _scale_run(x[a:z], factors, y, divides, exact, narrow)
        r = draw_run(z - a, given, a, key[0], key[1], k)
        round_run(y, q, r, kind, lane, grid, mode, overflow, k)
        spread(totals, factors, a, layout)
        _restore_run(q, factors, out[a:z])
