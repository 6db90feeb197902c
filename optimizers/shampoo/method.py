"""The constants of one preconditioner side, and the bytes that its two matrices take."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..codec import RowCodec, Stored
from ..linalg import LinearAlgebra, inverse_fourth_root, largest_eigenvalue

Counters = dict[str, int]


@dataclass(frozen=True)
class Method:
    """How a side is kept and renewed; the meaning of each stands at `Shampoo`."""

    storage: str
    codec: RowCodec
    algebra: LinearAlgebra
    beta: float
    error_beta: float
    eps: float
    separate_scales: bool
    relative_ridge: bool
    root: str
    newton_cap: int
    rectify_statistics: int
    rectify_roots: int
    ridge_attempts: int
    min_elements: int

    def packs(self, order: int) -> bool:
        """Whether matrices of this order are kept as codes."""
        return self.storage != "float32" and order * order >= self.min_elements

    def square_bits(self, order: int) -> int:
        """b·n² + 32·n·⌈n/block⌉ + 32·n: a square matrix of codes, its scales and one vector."""
        blocks = -(-order // self.codec.block)
        return self.codec.book.bits * order * order + 32 * order * blocks + 32 * order

    def store_root(self, root: Tensor) -> Stored:
        """X as float32 diagonal and codes of the rest, or as it is where nothing is packed."""
        return self.codec.store_symmetric(root) if self.packs(len(root)) else {"matrix": root}

    def restore_root(self, stored: Stored) -> Tensor:
        """The X that was stored, (n, n) float32."""
        return stored["matrix"] if "matrix" in stored else self.codec.restore_symmetric(stored)


def ridged_cholesky(a: Tensor, method: Method, counters: Counters) -> Tensor | None:
    """C with C·Cᵀ = a + r·I; r = ε (times λmax if relative), tenfold at every failed attempt."""
    ridge = method.eps * (largest_eigenvalue(a) if method.relative_ridge else 1.0)
    identity = torch.eye(len(a), device=a.device)
    for attempt in range(method.ridge_attempts + 1):
        factor = method.algebra.cholesky(a + ridge * identity)
        if factor is not None:
            return factor
        if attempt < method.ridge_attempts:
            counters["raised_ridges"] += 1
        ridge *= 10
    return None


def inverse_root(a: Tensor, method: Method) -> Tensor | None:
    """(a + λmax·ε·I)^(−1/4) of a symmetric (n, n) matrix; None if it is not finite.

    By the coupled Newton iteration, or from the eigenvalues, negative ones taken as 0.
    """
    if method.root == "newton":
        ridge = largest_eigenvalue(a) * method.eps
        identity = torch.eye(len(a), device=a.device)
        return inverse_fourth_root(a + ridge * identity, method.newton_cap)
    assert method.algebra.eigh is not None
    found = method.algebra.eigh(a)
    return None if found is None else spectral_root(found[0].clamp(min=0.0), found[1], method.eps)


def spectral_root(values: Tensor, vectors: Tensor, eps: float) -> Tensor | None:
    """V·diag((λ + ε·max λ)^(−1/4))·Vᵀ; None if it is not finite."""
    shifted = values + eps * values.amax()
    root = (vectors * (1.0 / shifted.sqrt().sqrt())) @ vectors.T
    return root if bool(torch.isfinite(root).all()) else None
