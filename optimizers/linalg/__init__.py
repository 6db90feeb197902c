"""Linear algebra of the optimizers, twice: through torch's library, and in a chip's arithmetic.

"library" calls LAPACK through torch: fast, one opaque operation whatever the chip. "chip" is
composed of operations that a vector unit and a matrix unit have, products, sums, divisions, square
roots, so that under `emulate` each is rounded as the chip rounds it. Products, the coupled Newton
root and power iteration are such compositions in both.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .cholesky import cholesky, lower_gram
from .householder import orthogonal
from .roots import frobenius, inverse_fourth_root, largest_eigenvalue

__all__ = [
    "LINEAR_ALGEBRA",
    "LinearAlgebra",
    "frobenius",
    "inverse_fourth_root",
    "largest_eigenvalue",
]


@dataclass(frozen=True)
class LinearAlgebra:
    """The factorisations that an optimizer asks for, all on (n, n) float32 matrices.

    Attributes:
        cholesky: C lower triangular with C·Cᵀ = a; None if a pivot is not positive and finite.
        orthogonal: the Q of a = Q·R by Householder reflections, in LAPACK's signs.
        gram: C·Cᵀ of a lower triangular C.
        eigenvectors: those of a symmetric matrix as columns, approximately so in "chip"; None if
            they were not found.
        eigh: eigenvalues, ascending, and eigenvectors, None if they were not found; itself None
            where there is no such routine.
    """

    cholesky: Callable[[Tensor], Tensor | None]
    orthogonal: Callable[[Tensor], Tensor]
    gram: Callable[[Tensor], Tensor]
    eigenvectors: Callable[[Tensor], Tensor | None]
    eigh: Callable[[Tensor], tuple[Tensor, Tensor] | None] | None


def _library_cholesky(a: Tensor) -> Tensor | None:
    factor: Tensor
    factor, info = torch.linalg.cholesky_ex(a)
    return factor if int(info) == 0 and bool(torch.isfinite(factor).all()) else None


def _library_orthogonal(a: Tensor) -> Tensor:
    q: Tensor = torch.linalg.qr(a).Q
    return q


def _library_eigh(a: Tensor) -> tuple[Tensor, Tensor] | None:
    try:
        values, vectors = torch.linalg.eigh(a)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        return None
    return values, vectors


#: Orthogonal iterations from the identity; after ten, λ₂/λ₁ = 0.5 leaves 1e-3 of a rotation.
START_ITERATIONS = 10


def _iterated_eigenvectors(a: Tensor) -> Tensor:
    """Q ← qr(a·Q).Q, ten times from the identity: orthogonal always, eigenvectors in the limit."""
    q = orthogonal(a)
    for _ in range(START_ITERATIONS - 1):
        q = orthogonal(a @ q)
    return q


def _library_eigenvectors(a: Tensor) -> Tensor | None:
    found = _library_eigh(a)
    return None if found is None else found[1].flip(1)


LINEAR_ALGEBRA = {
    "library": LinearAlgebra(
        _library_cholesky,
        _library_orthogonal,
        lambda c: c @ c.T,
        _library_eigenvectors,
        _library_eigh,
    ),
    "chip": LinearAlgebra(cholesky, orthogonal, lower_gram, _iterated_eigenvectors, None),
}
