"""Blocked Cholesky factorisation and triangular products, step by step for a chip to round.

Source: Golub and Van Loan, Matrix Computations, 4th edition, sections 4.2.5 and 4.2.9.
"""

from math import isfinite

import torch
from torch import Tensor

BLOCK = 32
GRAM_BLOCK = 128


def cholesky(a: Tensor, block: int = BLOCK) -> Tensor | None:
    """C lower triangular, C·Cᵀ = a, of a symmetric (n, n) matrix whose lower half is read.

    Left-looking: a panel of `block` columns has the product of the finished columns taken away,
    one product of the matrix unit, and is then factored column by column on the vector unit,

        c = x / √x₀;   rest ← rest − c·cᵀ

    with one rounding at the root, the division, the product and the difference.

    Returns:
        None if a pivot x₀ is not a positive finite number.
    """
    order = len(a)
    factor = torch.zeros_like(a)
    for start in range(0, order, block):
        stop = min(start + block, order)
        panel = a[start:, start:stop]
        if start:
            panel = panel - factor[start:, :start] @ factor[start:stop, :start].T
        done = _factored(panel)
        if done is None:
            return None
        factor[start:, start:stop] = done
    return factor


def _factored(panel: Tensor) -> Tensor | None:
    """The columns of C from what is left of those of a, (m, w), the square part on top."""
    width = panel.shape[1]
    done = torch.zeros_like(panel)
    rest = panel
    for k in range(width):
        pivot = rest[0, 0]
        if not (float(pivot) > 0 and isfinite(float(pivot))):
            return None
        column = rest[:, 0] / torch.sqrt(pivot)
        done[k:, k] = column
        if k + 1 < width:
            across = column[1 : width - k]
            rest = rest[1:, 1:] - column[1:].unsqueeze(1) * across.unsqueeze(0)
    return done if bool(torch.isfinite(done).all()) else None


def lower_gram(c: Tensor, block: int = GRAM_BLOCK) -> Tensor:
    """C·Cᵀ of a lower triangular (n, n) matrix, exactly symmetric.

    Per block of columns of the result one product, as short as the zeros of C allow: row i and
    column j need the first j columns of C alone. The upper half is the lower one mirrored.
    """
    order = len(c)
    half = torch.zeros_like(c)
    for start in range(0, order, block):
        stop = min(start + block, order)
        half[start:, start:stop] = c[start:, :stop] @ c[start:stop, :stop].T
    return half.tril() + half.tril(-1).T
