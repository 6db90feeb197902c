"""An accumulator's grid in an integer array, and the rounding of rows of sums onto it.

numba unpacks one array faster than nine scalars, which tells on small products.
"""

import numpy as np

from ...formats.format import Grid
from ...formats.jit import bits_float, jit, scalar_jit
from ...formats.kernels import INFINITY, bound, round_finite, round_simple

NEAREST_EVEN, TOWARD_ZERO = 0, 2


def pack(grid: Grid) -> list[int]:
    """The grid of an accumulator: signed, with infinities, NaN and signed zeros."""
    largest = int(np.float64(grid.largest).view(np.int64))
    return [grid.fraction_bits, grid.min_exponent, grid.subnormal_fraction_bits, largest]


@scalar_jit
def unpack(values):  # type: ignore[no-untyped-def]
    """The `Grid` of an array that begins with `pack(grid)`."""
    largest = bits_float(values[3])
    return Grid(values[0], values[1], values[2], largest, -largest, True, True, True, True)


@jit
def _round_straight(value, grid, nearest, stops, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        v = value[j]
        rounded = round_simple(v, grid, nearest)
        limit = grid.largest if stops else np.inf
        rounded = np.copysign(limit, v) if np.abs(rounded) > grid.largest else rounded
        value[j] = rounded if np.abs(v) < np.inf else v


@jit
def _round_any(value, grid, mode, width):  # type: ignore[no-untyped-def]
    for j in range(width):
        if np.abs(value[j]) < np.inf:
            value[j] = bound(round_finite(value[j], grid, mode, 0, 0), grid, mode, INFINITY)


@jit
def round_ieee(value, grid, mode, width):  # type: ignore[no-untyped-def]
    """Sums to odd in float64 onto the grid, in place; overflow and signed zeros as IEEE 754."""
    if mode == NEAREST_EVEN:
        _round_straight(value, grid, True, False, width)
    elif mode == TOWARD_ZERO:
        _round_straight(value, grid, False, True, width)
    else:
        _round_any(value, grid, mode, width)
