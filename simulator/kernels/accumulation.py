"""Additions into chosen places, and running sums: in ascending order, each rounded."""

from ...formats.jit import jit, parallel_jit, prange
from .reduction import TILE, rounded_step


@jit
def _add_rows(out, index, source, first, last):  # type: ignore[no-untyped-def]
    for s in range(index.size):
        row, more = out[index[s]], source[s]
        for c in range(first, last):
            row[c] = row[c] + more[c]


@parallel_jit
def add_rows(out, index, source):  # type: ignore[no-untyped-def]
    """out[index[s]] += source[s] for s ascending, in the machine's arithmetic; (R, C), (S, C)."""
    columns = out.shape[1]
    for tile in prange((columns + TILE - 1) // TILE):
        _add_rows(out, index, source, tile * TILE, min((tile + 1) * TILE, columns))


@jit
def add_rows_rounded(out, index, source, kind, lane, grid, mode, overflow, k, seed, stream):  # type: ignore[no-untyped-def]
    """`add_rows` of float32, each sum rounded into a format; bit source s C + c of the stream."""
    columns = out.shape[1]
    for s in range(index.size):
        row = out[index[s]]
        rounded_step(
            row,
            source[s],
            row,
            False,
            s * columns,
            kind,
            lane,
            grid,
            mode,
            overflow,
            k,
            seed,
            stream,
        )


@parallel_jit
def scan_rows(x, out, product):  # type: ignore[no-untyped-def]
    """out[o, l] = sum or product of x[o, 0 .. l], (O, L, C), in the machine's arithmetic of out."""
    for o in prange(x.shape[0]):
        for c in range(x.shape[2]):
            out[o, 0, c] = x[o, 0, c]
        for n in range(1, x.shape[1]):
            for c in range(x.shape[2]):
                before, value = out[o, n - 1, c], x[o, n, c]
                out[o, n, c] = before * value if product else before + value


@parallel_jit
def scan_rounded(x, out, product, kind, lane, grid, mode, overflow, k, seed, stream):  # type: ignore[no-untyped-def]
    """`scan_rows` of float32, each step rounded; its element's place in x is that of its bits."""
    for o in prange(x.shape[0]):
        out[o, 0] = x[o, 0]
        for n in range(1, x.shape[1]):
            first = (o * x.shape[1] + n) * x.shape[2]
            rounded_step(
                out[o, n - 1],
                x[o, n],
                out[o, n],
                product,
                first,
                kind,
                lane,
                grid,
                mode,
                overflow,
                k,
                seed,
                stream,
            )
