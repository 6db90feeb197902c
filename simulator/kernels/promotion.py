"""A unit's sum joins a float32 sum outside of it, with the scales of the blocks it came from."""

from ...formats.jit import fma, parallel_jit, prange


@parallel_jit
def add_scaled(total, part, a, b):  # type: ignore[no-untyped-def]
    """total <- fma(part, fl(a b), total): total, part (B, M, N), a (B, M), b (B, N); float32."""
    batch, rows, columns = total.shape
    for line in prange(batch * rows):
        n, i = line // rows, line % rows
        for j in range(columns):
            total[n, i, j] = fma(part[n, i, j], a[n, i] * b[n, j], total[n, i, j])
