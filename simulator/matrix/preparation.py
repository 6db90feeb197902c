"""Operands on their way into a matrix unit: rotated, scaled, rounded."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...formats import Rounding, Stochastic
from ...formats.jit import start_threads
from ...formats.lanes import make_plan
from ...formats.random import random_dtype
from ...formats.rounding import get_overflow, get_rounding, kernel_mode
from ..kernels.operand import restore, scale_and_round
from ..recipe_rows import Operand
from ..tracing import Conversion
from .hadamard import rotate
from .scaling import Scaled, Single, scale


@dataclass(frozen=True)
class Prepared:
    """An operand (B, R, K) as a matrix unit takes it, a row meeting in one dot product.

    x is restored as fl(element scale) factor; K may have been filled up by a rotation.

    Attributes:
        elements: (B, R, K) float32, values of the row's element format.
        scales: (B, tiles down, tiles across) float32, values of the scale format; None without.
        factor: (B, R, 1) or (1, 1, 1) float32, for the product; None is 1.
        tile: rows and columns of elements that share a scale.
        conversion: for the trace.
        amax: the largest magnitude of the tensor before scaling, where the scaling looks at it.
    """

    elements: Single
    scales: Single | None
    factor: Single | None
    tile: tuple[int, int]
    conversion: Conversion
    amax: float = 0.0

    def rows(self, n: int, i: NDArray[np.int64]) -> "Prepared":
        """Rows i of matrix n, (1, len(i), K), with their scales."""
        scales, factor = self.scales, self.factor
        if scales is not None:
            scales = scales[n : n + 1, i // self.tile[0]]
        if factor is not None and factor.size > 1:
            factor = factor[n : n + 1, i]
        elements = self.elements[n : n + 1, i]
        return replace(self, elements=elements, scales=scales, factor=factor,
                       tile=(1, self.tile[1]))  # fmt: skip

    def scales_of(self, block: int) -> Single:
        """(B, R, ceil(K / block)): the scales for each row and each `block` of k."""
        _, rows, depth = self.elements.shape
        if self.scales is None:
            return np.ones((*self.elements.shape[:2], -(-depth // block)), np.float32)
        at = np.arange(0, depth, block) // self.tile[1]
        return np.take(np.repeat(self.scales, self.tile[0], axis=1)[:, :rows], at, axis=2)

    def dequantised(self) -> Single:
        """fl(element scale), without the factor."""
        if self.scales is None:
            return self.elements
        out, depth = np.empty_like(self.elements), self.elements.shape[2]
        tiles = (self.elements.shape[1], *self.tile)
        table = self.scales.reshape(-1, self.scales.shape[2])
        restore(self.elements.reshape(-1, depth), table, tiles, out.reshape(-1, depth))
        return out


def prepare(
    x: Any,
    row: Operand,
    rounding: Rounding | Stochastic | str | None = None,
    *,
    seed: int = 0,
    stream: int = 0,
    given: np.float32 | None = None,
) -> Prepared:
    """x (B, R, K), float32, prepared as the row of a recipe says: see `Operand`.

    Args:
        rounding: in place of the row's own, as a chip's conversion unit does it.
        seed, stream: select the random bits; the seed alone the signs of rotations.
        given: the scale of earlier passes, for scaling = "delayed".
    """
    start_threads()
    array = x.detach().numpy() if isinstance(x, torch.Tensor) else x
    values = rotate(np.ascontiguousarray(array, np.float32), row.hadamard, seed)
    found = scale(values, row, given)
    out = _rounded(values, row, found, rounding, seed, stream)
    grid, depth = row.fmt.grid, values.shape[-1]
    conversion = Conversion(
        values.reshape(-1, depth), out.reshape(-1, depth), found.factors, found.tiles,
        found.divides, grid.largest, grid.lowest,
    )  # fmt: skip
    return Prepared(out, found.scales, found.factor, found.tiles[1:], conversion, found.amax)


def _rounded(
    values: Single, row: Operand, found: Scaled, rounding: Any, seed: int, stream: int
) -> Single:
    """One pass: scaled, rounded into the element format."""
    mode, bits = kernel_mode(get_rounding(row.rounding if rounding is None else rounding))
    out, depth = np.empty_like(values), values.shape[-1]
    if not values.size:
        return out
    scale_and_round(
        values.reshape(-1, depth), found.factors, found.tiles, found.divides,
        out.reshape(-1, depth), np.empty(0, random_dtype(bits)),
        *make_plan(row.fmt, mode, bits, get_overflow(row.overflow), True),
        np.uint64(seed % 2**64), np.uint64(stream),
    )  # fmt: skip
    lost = [np.isnan(part).any() for part in (found.scales, found.factor) if part is not None]
    if not row.fmt.grid.has_nan and any(lost):
        out[np.isnan(out)] = 0.0  # the factor or the scale is NaN and makes the results NaN
    return out
