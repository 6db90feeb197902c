"""What rounding did to numbers, counted; and the exact products that results are held against.

Counters are kept for each task, a fixed run of rows, and added in the order of the tasks, so they
do not depend on the number of threads.
"""

import numpy as np

from ...formats.jit import float_bits, jit, parallel_jit, prange

#: Columns of the counters; SMALLEST and LARGEST are magnitudes, all others are sums.
UNDERFLOW, SATURATED, OVERFLOWED, NAN, NONFINITE, SIGNAL, NOISE, SMALLEST, LARGEST = range(9)
COUNTERS = 9
#: Bins of floor(log2 |x|): 2^LOWEST and below, ..., up to 2^(LOWEST + BINS - 1) and above.
LOWEST, BINS = -150, 280
#: Elements of a task, at least.
TASK = 1 << 14


@jit
def _count(x, q, m, divides, largest, lowest, counts):  # type: ignore[no-untyped-def]
    """Add what became of x, times m or divided by it, in q."""
    zeros, full, infinite, missing, foreign = 0, 0, 0, 0, 0
    signal, noise = 0.0, 0.0
    small, large = np.float64(np.inf), np.float64(0.0)
    for j in range(x.size):
        v, b = np.float64(x[j]), np.float64(q[j])
        y = np.float64(x[j] / m if divides else x[j] * m)
        size = np.abs(v)
        here, there = size < np.inf, np.abs(b) < np.inf
        zeros += (size > 0.0) & (b == 0.0)
        full += ((y > largest) | (y < lowest)) & there
        infinite += here & np.isinf(b)
        missing += (v == v) & (b != b)
        foreign += not here
        signal += y * y if here & there else 0.0
        noise += (b - y) * (b - y) if here & there else 0.0
        small = np.minimum(small, size if size > 0.0 else np.inf)
        large = np.maximum(large, size if here else 0.0)
    square = np.float64(m) * np.float64(m)
    square = 1.0 / square if divides else square
    if not (0.0 < square < np.inf):
        square = 1.0  # type: ignore[assignment]
    counts[UNDERFLOW] += zeros
    counts[SATURATED] += full
    counts[OVERFLOWED] += infinite
    counts[NAN] += missing
    counts[NONFINITE] += foreign
    counts[SIGNAL] += signal / square
    counts[NOISE] += noise / square
    counts[SMALLEST] = min(counts[SMALLEST], small)
    counts[LARGEST] = max(counts[LARGEST], large)


@jit
def _bin(x, bins):  # type: ignore[no-untyped-def]
    for j in range(x.size):
        size = np.abs(np.float64(x[j]))
        if 0.0 < size < np.inf:
            place = (float_bits(size) >> 52) - 1023 - LOWEST
            bins[min(max(place, 0), BINS - 1)] += 1


@parallel_jit
def count_rounding(x, q, factors, tiles, divides, rows, largest, lowest, counts, bins):  # type: ignore[no-untyped-def]
    """Count what became of x (R, C) in q (R, C), float32 or float64.

    q is x times its factor, or divided by it, rounded to values from lowest to largest; factors and
    tiles as in `operand.scale_and_round`. Task t counts rows t `rows` to (t + 1) `rows` - 1 into
    counts[t] (COUNTERS; zeros, but infinity in SMALLEST) and bins[t] (BINS). SIGNAL and NOISE are
    the sums of squares of the values and of their changes, where both are finite, in units of x.
    """
    group, height, width = tiles
    down = (group + height - 1) // height
    for t in prange(counts.shape[0]):
        for i in range(t * rows, min((t + 1) * rows, x.shape[0])):
            own = factors[(i // group) * down + (i % group) // height]
            for g in range(own.size):
                a, z = g * width, min((g + 1) * width, x.shape[1])
                _count(x[i, a:z], q[i, a:z], own[g], divides, largest, lowest, counts[t])
            _bin(x[i], bins[t])


@jit
def exact_products(a, b):  # type: ignore[no-untyped-def]
    """(B, M, K) @ (B, K, N) in float64, added in ascending k on every machine."""
    out = np.zeros((a.shape[0], a.shape[1], b.shape[2]))
    for n in range(a.shape[0]):
        for i in range(a.shape[1]):
            for k in range(a.shape[2]):
                x = a[n, i, k]
                for j in range(b.shape[2]):
                    out[n, i, j] += x * b[n, k, j]
    return out
