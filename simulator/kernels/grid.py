"""An accumulator's grid in an integer array, and the rounding of rows of sums onto it.

numba unpacks one array faster than nine scalars, which tells on small products.
"""

from typing import Any

import numpy as np

from ...formats.format import Grid
from ...formats.jit import bits_float, float_bits, jit, scalar_jit
from ...formats.kernels import (
    DOWN,
    NEAREST_AWAY,
    NEAREST_EVEN,
    TO_ODD,
    TOWARD_ZERO,
    UP,
    power_of_two,
    round_simple,
)

_ONE = np.int64(1)


def pack(grid: Grid) -> list[int]:
    """The grid of an accumulator: signed, with infinities, NaN and signed zeros."""
    largest = int(np.float64(grid.largest).view(np.int64))
    return [grid.fraction_bits, grid.min_exponent, grid.subnormal_fraction_bits, largest]


@scalar_jit
def unpack(values):  # type: ignore[no-untyped-def]
    """The `Grid` of an array that begins with `pack(grid)`."""
    largest = bits_float(values[3])
    return Grid(values[0], values[1], values[2], largest, -largest, True, True, True, True)


@scalar_jit
def without_subnormals(grid):  # type: ignore[no-untyped-def]
    """The grid with normal numbers down to 2^-900."""
    least: Any = np.int64(-900)
    return Grid(
        grid.fraction_bits, least, grid.subnormal_fraction_bits, grid.largest,
        grid.lowest, True, True, True, True,
    )  # fmt: skip


@jit
def _round_common(value, grid, nearest, limit, width):  # type: ignore[no-untyped-def]
    """Nearest-even and toward zero; beyond the grid its `limit`, the largest value or infinity."""
    for j in range(width):
        v = value[j]
        rounded = round_simple(v, grid, nearest)
        rounded = np.copysign(limit, v) if np.abs(rounded) > grid.largest else rounded
        value[j] = rounded if np.abs(v) < np.inf else v


@jit
def _round_other(value, grid, away, up, down, odd, endless, width):  # type: ignore[no-untyped-def]
    """The other modes, one of whose flags is set, in straight-line code as `round_simple`.

    Beyond the grid: infinity, or the largest value where the mode turns away from infinity.
    """
    drop = 52 - grid.fraction_bits
    half, last = _ONE << (drop - 1), _ONE << drop
    smallest = power_of_two(grid.min_exponent)
    quantum = power_of_two(grid.min_exponent - grid.subnormal_fraction_bits)
    inverse = power_of_two(grid.subnormal_fraction_bits - grid.min_exponent)
    for j in range(width):
        v = value[j]
        bits = float_bits(np.abs(v))
        toward = (up & (v > 0.0)) | (down & (v < 0.0))
        rest, kept = bits & (last - 1), bits & -last
        goes = (away & (rest >= half)) | ((rest != 0) & (toward | (odd & ((kept & last) == 0))))
        above = bits_float(kept + (last if goes else np.int64(0)))
        steps = np.abs(v) * inverse
        whole = np.floor(steps)
        rest, even = steps - whole, np.floor(whole * 0.5) * 2.0 == whole
        goes = (away & (rest >= 0.5)) | ((rest != 0.0) & (toward | (odd & even)))
        below = (whole + (1.0 if goes else 0.0)) * quantum
        rounded = above if np.abs(v) >= smallest else below
        limit = np.inf if endless | away | toward else grid.largest
        rounded = limit if rounded > grid.largest else rounded
        value[j] = np.copysign(rounded, v) if np.abs(v) < np.inf else v


@jit
def round_row(value, grid, mode, endless, width):  # type: ignore[no-untyped-def]
    """Sums to odd in float64 onto the grid, in place; signed zeros; infinities and NaN stay.

    Beyond the grid: infinity if `endless`, else as IEEE 754, where some modes stop at the largest
    value. Deterministic modes only.
    """
    if mode == NEAREST_EVEN or mode == TOWARD_ZERO:
        stops = mode == TOWARD_ZERO and not endless
        limit = grid.largest if stops else np.inf
        _round_common(value, grid, mode == NEAREST_EVEN, limit, width)
    else:
        _round_other(
            value, grid, mode == NEAREST_AWAY, mode == UP, mode == DOWN, mode == TO_ODD, endless,
            width,
        )  # fmt: skip
