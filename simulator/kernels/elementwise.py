"""Elementwise operations correctly rounded into a format: to odd in float64, then once more.

`odd.py` shows that two roundings make one. A chunk stays in cache from the float64 results to the
rounded ones.
"""

import numpy as np

from ...formats.jit import jit, parallel_jit, prange
from ...formats.loops import CHUNK, draw_run, round_run
from .odd import (
    ADD,
    DIV,
    DOWN,
    FMA,
    MUL,
    SQRT,
    SUB,
    flushed,
    lowered,
    quotient_to_odd,
    root_to_odd,
    sum_to_odd,
)


@jit
def _exact_to_odd(op, a, b, c, out, smallest, down):  # type: ignore[no-untyped-def]
    """out[i] = op of float32 a[i], b[i], c[i], in float64 rounded to odd; down: see `lowered`."""
    for i in range(out.size):
        x, y = flushed(np.float64(a[i]), smallest), flushed(np.float64(b[i]), smallest)
        if op == ADD:
            total = sum_to_odd(x, y)
            out[i] = lowered(x, y, total) if down else total
        elif op == SUB:
            total = sum_to_odd(x, -y)
            out[i] = lowered(x, -y, total) if down else total
        elif op == MUL:
            out[i] = x * y
        elif op == DIV:
            out[i] = quotient_to_odd(x, y)
        elif op == SQRT:
            out[i] = root_to_odd(x)
        elif op == FMA:
            z = flushed(np.float64(c[i]), smallest)
            total = sum_to_odd(x * y, z)
            out[i] = lowered(x * y, z, total) if down else total


@jit
def _flush(out, smallest):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] = flushed(out[i], smallest)


@parallel_jit
def operate(  # type: ignore[no-untyped-def]
    op, a, b, c, out, flush_in, flush_out, kind, lane, grid, mode, overflow, k, seed, stream
):
    """out[i] = op(a[i], b[i], c[i]) rounded once; all flat float32 of one length.

    flush_in, flush_out: magnitudes below these are zeros of their sign, in operands and results.
    kind .. k: the fields of a `lanes.Plan` for float64. seed, stream: of the random bits.
    """
    n = out.size
    given = np.empty(0, np.uint32)
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        s, e = chunk * CHUNK, min((chunk + 1) * CHUNK, n)
        wide = np.empty(e - s, np.float64)
        _exact_to_odd(op, a[s:e], b[s:e], c[s:e], wide, flush_in, mode == DOWN)
        r = draw_run(e - s, given, s, seed, stream, k)
        round_run(wide, out[s:e], r, kind, lane, grid, mode, overflow, k)
        if flush_out > 0.0:
            _flush(out[s:e], flush_out)


@parallel_jit
def settle(x, out, flush_out, kind, lane, grid, mode, overflow, k, seed, stream):  # type: ignore[no-untyped-def]
    """out[i] = float64 x[i], computed by other means, rounded into the format."""
    n = out.size
    given = np.empty(0, np.uint32)
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        s, e = chunk * CHUNK, min((chunk + 1) * CHUNK, n)
        r = draw_run(e - s, given, s, seed, stream, k)
        round_run(x[s:e], out[s:e], r, kind, lane, grid, mode, overflow, k)
        if flush_out > 0.0:
            _flush(out[s:e], flush_out)
