"""A weight as a matrix in pieces, and what the two sides of each do to the gradient."""

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor

from ..linalg import frobenius
from .method import Method
from .side import Side

Rows = tuple[slice, slice]


def chunks(shape: torch.Size, max_order: int) -> list[Rows]:
    """Rows and columns of every chunk of a weight as a matrix; none if it has no two dimensions.

    Dimensions of size 1 are dropped; the matrix is (d₀, product of the others).
    """
    sizes = [size for size in shape if size != 1]
    if len(sizes) < 2 or 0 in sizes:
        return []
    rows, columns = sizes[0], shape.numel() // sizes[0]
    return list(product(_cuts(rows, max_order), _cuts(columns, max_order)))


def _cuts(size: int, most: int) -> Iterator[slice]:
    for start in range(0, size, most):
        yield slice(start, min(start + most, size))


def preconditioned(
    matrix: Tensor, places: list[Rows], sides: list[list[Side]], method: Method
) -> Tensor:
    """Ĝ = X_L·G·X_R of every chunk, in the shape of the (rows, columns) gradient."""
    turned = torch.empty_like(matrix)
    for place, (left, right) in zip(places, sides, strict=True):
        roots = [method.restore_root(side["root"]) for side in (left, right)]
        turned[place] = roots[0] @ matrix[place] @ roots[1]
    return turned


def grafted(turned: Tensor, matrix: Tensor) -> Tensor:
    """G̃ = Ĝ·‖G‖F/(‖Ĝ‖F + 1e-12), norms over the whole parameter."""
    return turned * (frobenius(matrix) / (frobenius(turned) + 1e-12))
