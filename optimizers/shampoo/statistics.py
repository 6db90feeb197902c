"""The ways to keep the statistics L of one side: whole, as codes, as a factor, as eigenvectors.

Each is a `Statistics`; what it keeps is a dictionary of tensors. None of them changes a stored
dictionary: a renewal that fails leaves everything as it was.

Source: Li, Ding, Toh, Zhou, arXiv 2412.10663 (factors); Wang, Zhou, Li, Huang, 2405.18144 (the
matrix itself, eigenvectors, thresholds, memory).
"""

from typing import Protocol

import torch
from torch import Tensor

from ..codec import Stored
from .method import Counters, Method, inverse_root, ridged_cholesky, spectral_root
from .triangle import (
    lower_bits,
    restore_lower,
    restore_triangle,
    store_lower,
    store_triangle,
)

Renewed = tuple[Stored, Tensor]


class Statistics(Protocol):
    """What all ways of keeping L have in common."""

    def begin(self, order: int, method: Method, device: torch.device) -> Stored:
        """L = ε·I."""
        ...

    def renew(
        self, stored: Stored, gram: Tensor, method: Method, counters: Counters
    ) -> Renewed | None:
        """L ← β·L + (1 − β)·gram: what to store, and L before it was; None if it failed."""
        ...

    def root(self, stored: Stored, method: Method) -> Tensor | None:
        """(L + λmax·ε·I)^(−1/4) of what is stored; None if it is not finite."""
        ...

    def read(self, stored: Stored, method: Method) -> Tensor:
        """L as it is stored, (n, n) float32, and as `root` takes it."""
        ...

    def bits(self, order: int, method: Method) -> int:
        """What L occupies after the paper."""
        ...


def _mean(before: Tensor, gram: Tensor, method: Method) -> Tensor | None:
    """β·before + (1 − β)·gram if that is finite."""
    fresh = method.beta * before + (1 - method.beta) * gram
    return fresh if bool(torch.isfinite(fresh).all()) else None


class Whole:
    """L itself in float32."""

    def begin(self, order: int, method: Method, device: torch.device) -> Stored:
        """See `Statistics`."""
        return {"matrix": method.eps * torch.eye(order, device=device)}

    def renew(
        self, stored: Stored, gram: Tensor, method: Method, counters: Counters
    ) -> Renewed | None:
        """See `Statistics`; fails where L overflows."""
        fresh = _mean(stored["matrix"], gram, method)
        return None if fresh is None else ({"matrix": fresh}, fresh)

    def root(self, stored: Stored, method: Method) -> Tensor | None:
        """See `Statistics`."""
        return inverse_root(self.read(stored, method), method)

    def read(self, stored: Stored, method: Method) -> Tensor:
        """See `Statistics`."""
        return stored["matrix"]

    def bits(self, order: int, method: Method) -> int:
        """32·n²."""
        return 32 * order * order


class Naive:
    """VQ: codes of L, its diagonal in float32; small eigenvalues may turn negative."""

    def begin(self, order: int, method: Method, device: torch.device) -> Stored:
        """See `Statistics`."""
        return method.codec.store_symmetric(method.eps * torch.eye(order, device=device))

    def renew(
        self, stored: Stored, gram: Tensor, method: Method, counters: Counters
    ) -> Renewed | None:
        """See `Statistics`; fails where L overflows."""
        fresh = _mean(method.codec.restore_symmetric(stored), gram, method)
        return None if fresh is None else (method.codec.store_symmetric(fresh), fresh)

    def root(self, stored: Stored, method: Method) -> Tensor | None:
        """See `Statistics`."""
        return inverse_root(self.read(stored, method), method)

    def read(self, stored: Stored, method: Method) -> Tensor:
        """See `Statistics`."""
        return method.codec.restore_symmetric(stored)

    def bits(self, order: int, method: Method) -> int:
        """See `Method.square_bits`."""
        return method.square_bits(order)


class Factor:
    """CQ: codes of C with C·Cᵀ = L + ε·I, its diagonal in float32, the lower triangle alone."""

    def begin(self, order: int, method: Method, device: torch.device) -> Stored:
        """See `Statistics`; C = √ε·I."""
        identity = torch.eye(order, device=device)
        return self._store(method.eps**0.5 * identity, torch.zeros_like(identity), 0.0, method)

    def renew(
        self, stored: Stored, gram: Tensor, method: Method, counters: Counters
    ) -> Renewed | None:
        """See `Statistics`; fails where L overflows or no ridge makes it positive definite."""
        factor, error = self._restore(stored, method)
        fresh = _mean(method.algebra.gram(factor), gram, method)
        new = None if fresh is None else ridged_cholesky(fresh, method, counters)
        if fresh is None or new is None:
            return None
        return self._store(new, error, method.error_beta, method), fresh

    def root(self, stored: Stored, method: Method) -> Tensor | None:
        """See `Statistics`."""
        return inverse_root(self.read(stored, method), method)

    def read(self, stored: Stored, method: Method) -> Tensor:
        """See `Statistics`; D·Dᵀ."""
        return method.algebra.gram(self._restore(stored, method)[0])

    def bits(self, order: int, method: Method) -> int:
        """b·n(n − 1)/2 + 32·(the scales of the lower triangle) + 32·n."""
        return lower_bits(order, method.codec)

    def _store(self, factor: Tensor, error: Tensor, error_beta: float, method: Method) -> Stored:
        return store_lower(factor, method.codec)

    def _restore(self, stored: Stored, method: Method) -> tuple[Tensor, Tensor]:
        factor = restore_lower(stored, method.codec)
        return factor, torch.zeros_like(factor)


class FactorWithError(Factor):
    """CQ+EF: the factor, and in the other triangle of the same codes its quantisation error."""

    def bits(self, order: int, method: Method) -> int:
        """See `Method.square_bits`, and 32·n with separate scales."""
        return method.square_bits(order) + (32 * order if method.separate_scales else 0)

    def _store(self, factor: Tensor, error: Tensor, error_beta: float, method: Method) -> Stored:
        return store_triangle(factor, error, error_beta, method.codec, method.separate_scales)

    def _restore(self, stored: Stored, method: Method) -> tuple[Tensor, Tensor]:
        return restore_triangle(stored, method.codec)


class Eigen:
    """Eigenvalues in float32 and codes of the eigenvectors, a row of codes each.

    Read, the eigenvectors are no longer orthogonal; Björck steps V ← 1.5·V − 0.5·V·Vᵀ·V bring
    them back towards it.
    """

    def begin(self, order: int, method: Method, device: torch.device) -> Stored:
        """See `Statistics`; λ = ε, V = I."""
        values = torch.full((order,), method.eps, device=device)
        return method.codec.store(torch.eye(order, device=device)) | {"values": values}

    def renew(
        self, stored: Stored, gram: Tensor, method: Method, counters: Counters
    ) -> Renewed | None:
        """See `Statistics`; one step of orthogonal iteration from the V that is stored."""
        v = self._vectors(stored, method.rectify_statistics, method)
        fresh = _mean((v * stored["values"]) @ v.T, gram, method)
        if fresh is None:
            return None
        p = method.algebra.orthogonal(fresh @ v)
        values = (p * (fresh @ p)).sum(0)
        if not bool(torch.isfinite(p).all() & torch.isfinite(values).all()):
            return None
        return method.codec.store(p.T.contiguous()) | {"values": values}, fresh

    def root(self, stored: Stored, method: Method) -> Tensor | None:
        """See `Statistics`; V·diag((λ + ε·max λ)^(−1/4))·Vᵀ."""
        v = self._vectors(stored, method.rectify_roots, method)
        return spectral_root(stored["values"], v, method.eps)

    def read(self, stored: Stored, method: Method) -> Tensor:
        """See `Statistics`; V·diag(λ)·Vᵀ, V after t₂ Björck steps."""
        v = self._vectors(stored, method.rectify_roots, method)
        return (v * stored["values"]) @ v.T

    def bits(self, order: int, method: Method) -> int:
        """See `Method.square_bits`."""
        return method.square_bits(order)

    def _vectors(self, stored: Stored, times: int, method: Method) -> Tensor:
        return bjorck(method.codec.restore(stored, len(stored["values"])).T, times)


def bjorck(v: Tensor, times: int) -> Tensor:
    """V ← 1.5·V − 0.5·V·Vᵀ·V: a matrix with singular values near 1 becomes more orthogonal.

    Source: Björck and Bowie, SIAM J. Numer. Anal. 8 (1971).
    """
    for _ in range(times):
        v = 1.5 * v - 0.5 * (v @ (v.T @ v))
    return v


WHOLE = Whole()
STORAGES: dict[str, Statistics] = {
    "float32": WHOLE,
    "vq": Naive(),
    "cq": Factor(),
    "cq_ef": FactorWithError(),
    "eigen": Eigen(),
}
