"""Sums and products over the middle axis of (O, L, C), in a vector unit's order.

Tree: x[l] + x[l + p] for p the largest power of two below the length, until one is left.
Sequential: ascending l. Columns are the vector lanes, so that nothing is moved or transposed: with
all C columns together, a fold adds two contiguous runs of p C numbers.
"""

import numpy as np

from ...formats.jit import jit, parallel_jit, prange
from ...formats.loops import CHUNK, draw_run, round_run
from .odd import DOWN, lowered, sum_to_odd

#: Columns that share a scratch array, and numbers that one thread takes at a time.
TILE, TASK = 128, 16384


@jit
def _half(size):  # type: ignore[no-untyped-def]
    """The largest power of two below size > 1."""
    half = 1
    while 2 * half < size:
        half *= 2
    return half


@jit
def _combine(x, y, out, product):  # type: ignore[no-untyped-def]
    """out[i] = x[i] + y[i], or x[i] y[i], in the machine's arithmetic of out."""
    if product:
        for i in range(y.size):
            out[i] = out.dtype.type(x[i]) * out.dtype.type(y[i])
    else:
        for i in range(y.size):
            out[i] = out.dtype.type(x[i]) + out.dtype.type(y[i])


@jit
def _copy(x, out):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        out[i] = x[i]


@jit
def _first_fold(x, first, width, half, scratch, product):  # type: ignore[no-untyped-def]
    """scratch (half, width) from columns first .. first + width - 1 of x (L, C)."""
    length, columns = x.shape
    if width == columns:
        flat = x.reshape(length * columns)
        more = (length - half) * columns
        _combine(flat[:more], flat[half * columns :], scratch[:more], product)
        _copy(flat[more : half * columns], scratch[more : half * columns])
        return
    for n in range(half):
        row = scratch[n * width : (n + 1) * width]
        if n + half < length:
            _combine(x[n, first : first + width], x[n + half, first : first + width], row, product)
        else:
            _copy(x[n, first : first + width], row)


@jit
def _tree(x, first, width, scratch, out, product):  # type: ignore[no-untyped-def]
    size = x.shape[0]
    if size == 1:
        _copy(x[0, first : first + width], out)
        return
    half = _half(size)
    _first_fold(x, first, width, half, scratch, product)
    while half > 1:
        half //= 2
        low, high = scratch[: half * width], scratch[half * width : 2 * half * width]
        _combine(low, high, low, product)
    _copy(scratch[:width], out)


@jit
def _sequence(x, first, width, out, product):  # type: ignore[no-untyped-def]
    _copy(x[0, first : first + width], out)
    for n in range(1, x.shape[0]):
        _combine(out, x[n, first : first + width], out, product)


@jit
def _reduce_task(x, out, start, end, first, width, tree, product):  # type: ignore[no-untyped-def]
    room = _half(x.shape[1]) * width if tree and x.shape[1] > 1 else 1
    scratch = np.empty(room, out.dtype)
    for o in range(start, end):
        total = out[o, first : first + width]
        if tree:
            _tree(x[o], first, width, scratch, total, product)
        else:
            _sequence(x[o], first, width, total, product)


@jit
def reduce_short(x, out, tree, product):  # type: ignore[no-untyped-def]
    """`reduce_rows` by the calling thread."""
    _reduce_task(x, out, 0, x.shape[0], 0, x.shape[2], tree, product)


@parallel_jit
def reduce_rows(x, out, tree, product):  # type: ignore[no-untyped-def]
    """out (O, C) = sum or product of x (O, L, C) over L > 0, in the machine's arithmetic of out."""
    outer, length, columns = x.shape
    width = min(columns, TILE)
    tiles = (columns + width - 1) // width
    rows = max(1, TASK // (length * width))
    blocks = (outer + rows - 1) // rows
    for task in prange(blocks * tiles):
        start, first = (task // tiles) * rows, (task % tiles) * width
        end, wide = min(start + rows, outer), min(width, columns - first)
        _reduce_task(x, out, start, end, first, wide, tree, product)


@jit
def rounded_step(x, y, out, product, first, kind, lane, grid, mode, overflow, k, seed, stream):  # type: ignore[no-untyped-def]
    """out[i] = x[i] + y[i], or x[i] y[i], rounded into a format; element i draws bits first + i.

    kind .. k: the fields of a `lanes.Plan` for float64, one by one, as parallel kernels want them.
    """
    given = np.empty(0, np.uint32)
    for s in range(0, y.size, CHUNK):
        e = min(s + CHUNK, y.size)
        wide = np.empty(e - s, np.float64)
        for i in range(e - s):
            a, b = np.float64(x[s + i]), np.float64(y[s + i])
            total = sum_to_odd(a, b)
            total = lowered(a, b, total) if mode == DOWN else total
            wide[i] = a * b if product else total
        r = draw_run(e - s, given, first + s, seed, stream, k)
        round_run(wide, out[s:e], r, kind, lane, grid, mode, overflow, k)


@jit
def _rounded_tree(x, out, product, first, kind, lane, grid, mode, overflow, k, seed, stream):  # type: ignore[no-untyped-def]
    length, columns = x.shape
    flat = x.reshape(length * columns).copy()
    while length > 1:
        half = _half(length)
        more = (length - half) * columns
        low, high = flat[:more], flat[half * columns : half * columns + more]
        rounded_step(
            low, high, low, product, first, kind, lane, grid, mode, overflow, k, seed, stream
        )
        first += more
        length = half
    _copy(flat[:columns], out)


@jit
def _rounded_sequence(x, out, product, first, kind, lane, grid, mode, overflow, k, seed, stream):  # type: ignore[no-untyped-def]
    _copy(x[0], out)
    for n in range(1, x.shape[0]):
        rounded_step(
            out, x[n], out, product, first, kind, lane, grid, mode, overflow, k, seed, stream
        )
        first += x.shape[1]


@parallel_jit
def reduce_rounded(x, out, tree, product, kind, lane, grid, mode, overflow, k, seed, stream):  # type: ignore[no-untyped-def]
    """`reduce_rows` of float32, each addition rounded into a format.

    Random bits: addition n of row o, in the order in which they are made, column by column within
    a fold, draws element o L C + n of the stream.
    """
    for o in prange(x.shape[0]):
        first = o * x.shape[1] * x.shape[2]
        if tree:
            _rounded_tree(
                x[o], out[o], product, first, kind, lane, grid, mode, overflow, k, seed, stream
            )
        else:
            _rounded_sequence(
                x[o], out[o], product, first, kind, lane, grid, mode, overflow, k, seed, stream
            )
