"""How much of A^(−1/4) each storage of Shampoo's statistics keeps, and in how many bytes.

`python -m tapeout.tests.bench.preconditioners [ORDER]` prints a table for matrices of the given
order (1200 unless told otherwise, half a minute) with two eigenvalues: 1 for a share of the
dimensions, 1/c for the others, along random axes. With f(A) = A^(−1/4):

    NRE = ‖f(A) − f(D(Q(A)))‖F / ‖f(A)‖F        AE = angle between the two, in degrees

Published at order 1200, naive / eigenvectors after Björck: NRE 0.4465 / 0.0669, AE 15.3° / 3.8°
(arXiv 2405.18144); naive / Cholesky: NRE 0.461 / 0.092 (arXiv 2412.10663), which eigenvalues is
known of neither.

f of what was stored is taken in two ways: from its eigenvalues in float64, negative ones as 0 and
λmax·1e-6 added; and, in the columns named so, by the optimizer's own root, the coupled Newton
iteration capped at ten steps in float32, which keeps what is indefinite finite.

Measured at order 1200, half of the eigenvalues 1, NRE / AE: c = 100: vq newton 0.278 / 13.9,
cq newton 0.094 / 5.4, eigen 0.050 / 2.8; c = 1000: 0.612 / 16.2, 0.179 / 5.6, 0.062 / 3.5.
"""

import sys
from math import acos, degrees

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from tapeout.optimizers.codebooks import PRECONDITIONER_BOOKS
from tapeout.optimizers.codec import RowCodec
from tapeout.optimizers.linalg import (
    LINEAR_ALGEBRA,
    inverse_fourth_root,
    largest_eigenvalue,
)
from tapeout.optimizers.shampoo.statistics import bjorck
from tapeout.optimizers.shampoo.triangle import restore_lower, store_lower

SHARES = (0.1, 0.5)
CONDITIONS = (10.0, 100.0, 1000.0, 10_000.0)
COLUMNS = ("vq", "vq newton", "cq", "cq newton", "eigen")
RIDGE = 1e-6


def two_eigenvalues(order: int, share: float, condition: float) -> tuple[Tensor, Tensor]:
    """Eigenvalues (n,) and a random orthogonal matrix of eigenvectors (n, n), float64."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(order, order, generator=generator, dtype=torch.float64)).Q
    values = torch.full((order,), 1 / condition, dtype=torch.float64)
    values[: int(share * order)] = 1.0
    return values, axes


def kept(column: str, values: Tensor, axes: Tensor, codec: RowCodec) -> Tensor:
    """f of what comes back after the matrix was stored."""
    storage, _, newton = column.partition(" ")
    a = ((axes * values) @ axes.T).float()
    if storage == "eigen":
        stored = codec.store(axes.T.contiguous().float())
        v = bjorck(codec.restore(stored, len(a)).T, 4).double()
        return (v * (values + RIDGE * values.max()) ** -0.25) @ v.T
    if storage == "vq":
        back = codec.restore_symmetric(codec.store_symmetric(a))
    else:
        factor = LINEAR_ALGEBRA["library"].cholesky(a)
        assert factor is not None
        factor = restore_lower(store_lower(factor, codec), codec)
        back = factor @ factor.T
    if newton:
        ridge = RIDGE * largest_eigenvalue(back) * torch.eye(len(back))
        iterated = inverse_fourth_root(back + ridge)
        assert iterated is not None
        return iterated.double()
    found, vectors = torch.linalg.eigh(back.double())
    root: Tensor
    root = (vectors * (found.clamp(min=0) + RIDGE * found.max()) ** -0.25) @ vectors.T
    return root


def errors(
    column: str, order: int, share: float, condition: float, codebook: str
) -> tuple[float, float]:
    """NRE, and AE in degrees."""
    values, axes = two_eigenvalues(order, share, condition)
    exact = (axes * values**-0.25) @ axes.T
    approximate = kept(column, values, axes, RowCodec(PRECONDITIONER_BOOKS[codebook], 64))
    nre = float((exact - approximate).norm() / exact.norm())
    cosine = float((exact * approximate).sum() / (exact.norm() * approximate.norm()))
    return nre, degrees(acos(min(1.0, cosine)))


def main() -> None:
    """Print the table."""
    order = int(sys.argv[1]) if len(sys.argv) > 1 else 1200
    title = f"A^(-1/4) of order {order} after storing, linear2_4bit, block 64: NRE / AE in degrees"
    table = Table(title=title, title_justify="left")
    for column in ("share of ones", "condition", *COLUMNS):
        table.add_column(column, justify="right", no_wrap=True)
    for share in SHARES:
        for condition in CONDITIONS:
            cells = [errors(s, order, share, condition, "linear2_4bit") for s in COLUMNS]
            table.add_row(f"{share:g}", f"{condition:g}", *(f"{n:.4f} / {a:.3f}" for n, a in cells))
    Console(width=max(130, Console().width)).print(table)


if __name__ == "__main__":
    main()
