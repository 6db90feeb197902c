"""The scales of an operand: what its elements are multiplied with, and what undoes it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...formats.blocks.kernels import Layout
from ...formats.blocks.layout import find_amax, find_scales, lay_out
from ..recipe_rows import Operand

Single = NDArray[np.float32]
_HUGE = np.finfo(np.float32).max


class Scaled(NamedTuple):
    """The scales of one operand (B, R, K).

    Attributes:
        factors: a table of tiles by rows and columns: elements are multiplied with, or divided by.
        tiles: (rows after which tiles begin anew, rows of a tile, columns of a tile).
        divides: whether elements are divided.
        scales: of blocks, (B, rows of tiles, columns of tiles): what a block is multiplied with
            again; None without blocks.
        factor: (B, R, 1) or (1, 1, 1): what the product is multiplied with; None is 1.
        amax: the largest magnitude of the tensor, where the scaling looks at it.
    """

    factors: Single
    tiles: tuple[int, int, int]
    divides: bool
    scales: Single | None
    factor: Single | None
    amax: float = 0.0


def find_largest(x: Single) -> np.float32:
    """The largest magnitude, NaN if there is one; 0 of nothing."""
    if not x.size:
        return np.float32(0)
    return np.float32(find_amax(x.reshape(-1), Layout(1, 1, x.size, 1, 1, x.size))[0])


def scale(x: Single, row: Operand, given: np.float32 | None = None) -> Scaled:
    """The scales of x under a row; `given` is that of earlier passes for `delayed`, first 1."""
    given = np.float32(1) if given is None else given
    batch, rows, depth = x.shape
    if row.blocks is not None:
        return _by_blocks(x, row)
    tiles = (batch * rows, 1 if row.scales == "row" else max(batch * rows, 1), max(depth, 1))
    if row.scales == "none":
        return Scaled(np.ones((1, 1), np.float32), tiles, False, None, None)
    if row.scales == "row":
        layout = Layout(1, 1, x.size, 1, 1, max(depth, 1))
        amax = find_amax(x.reshape(-1), layout)[: batch * rows].reshape(-1, 1)
    else:
        amax = np.full((1, 1), find_largest(x), np.float32)
    multiplier, factor = _reciprocal(amax, row, given if row.scales == "delayed" else None)
    shape = (batch, rows, 1) if row.scales == "row" else (1, 1, 1)
    seen = 0.0 if row.scales == "row" else float(amax[0, 0])
    return Scaled(multiplier, tiles, False, None, factor.reshape(shape), seen)


def _reciprocal(amax: Single, row: Operand, given: np.float32 | None) -> tuple[Single, Single]:
    """(s, fl(1 / s)), with `shrink` in both.

    The factor is NaN, and so is the product, where amax is not finite; of a given s, where amax is
    NaN and the elements are integers. Infinities saturate under a given s, as in hardware.
    """
    largest = np.float32(row.fmt.grid.largest)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        if given is None:
            s = np.where(amax == 0, np.float32(1), largest / amax)
            s = np.minimum(s, _HUGE)  # a subnormal amax overflows fl()
            lost = ~np.isfinite(amax)
        else:
            s = np.full_like(amax, given)
            lost = np.isnan(amax) & (not row.fmt.grid.has_nan)
        factor = np.where(lost, np.float32(np.nan), np.float32(1) / s)
        shrink = np.float32(row.shrink)
        return (s * shrink).astype(np.float32), (factor * _unshrink(row)).astype(np.float32)


def _unshrink(row: Operand) -> np.float32:
    return np.float32(1) / np.float32(row.shrink)


def _by_blocks(x: Single, row: Operand) -> Scaled:
    fmt = row.blocks
    assert fmt is not None
    layout, shape = lay_out(x.shape, fmt, -1)
    found = find_scales(x.reshape(-1), fmt, layout)
    shrink = 1.0 / row.shrink if fmt.scale_rule.divides else row.shrink
    with np.errstate(over="ignore", invalid="ignore"):
        factors = (found.factors * shrink).astype(np.float32)
        factor = np.float32(found.tensor) * _unshrink(row)
        stored = found.stored.astype(np.float32).reshape(shape)
    tiles = (x.shape[1], layout.tile_rows, layout.tile_columns)
    plain = not fmt.scale_rule.two_level and row.shrink == 1.0
    return Scaled(
        factors.reshape(-1, shape[-1]), tiles, fmt.scale_rule.divides, stored,
        None if plain else np.full((1, 1, 1), factor, np.float32),
    )  # fmt: skip
