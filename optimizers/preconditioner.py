"""One side of one Shampoo preconditioner: its statistics, its inverse root, how they are kept.

A side is a nested dictionary of tensors, {"factor": ..., "root": ...}. Matrices with fewer
elements than `min_elements` stay float32: factor and root each {"matrix": (n, n)}. Others are
packed: the factor as in `triangle`, the root symmetric as in `codec`.

Source: Li, Ding, Toh, Zhou, arXiv 2412.10663; thresholds and memory Wang et al., 2405.18144.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .codec import RowCodec, Stored
from .roots import inverse_fourth_root, largest_eigenvalue
from .triangle import begin_triangle, restore_triangle, store_triangle

Side = dict[str, Stored]


@dataclass(frozen=True)
class Method:
    """The constants of a side; the meaning of each stands at `Shampoo4bit`."""

    codec: RowCodec
    beta: float
    error_beta: float
    eps: float
    separate_scales: bool
    relative_ridge: bool
    newton_cap: int
    ridge_attempts: int
    min_elements: int

    def packs(self, order: int) -> bool:
        """Whether matrices of this order are kept as 4-bit codes."""
        return order * order >= self.min_elements

    def formula_bits(self, order: int) -> int:
        """Memory of one side after Wang et al.: 2·(4n² + 32n·⌈n/64⌉ + 32n), or 64n² in float32."""
        if not self.packs(order):
            return 64 * order * order
        blocks = -(-order // self.codec.block)
        return 2 * (4 * order * order + 32 * order * blocks + 32 * order)


def begin_side(order: int, method: Method, device: torch.device) -> Side:
    """Statistics ε·I, as C = √ε·I and E = 0 where packed, and root I."""
    identity = torch.eye(order, device=device)
    if not method.packs(order):
        return {"factor": {"matrix": method.eps * identity}, "root": {"matrix": identity}}
    factor = begin_triangle(method.eps**0.5 * identity, method.codec, method.separate_scales)
    return {"factor": factor, "root": method.codec.store_symmetric(identity)}


def statistics(side: Side, method: Method) -> Tensor:
    """L as the side keeps it: the float32 matrix, or D(C̄)·D(C̄)ᵀ."""
    if "matrix" in side["factor"]:
        return side["factor"]["matrix"]
    factor, _ = restore_triangle(side["factor"], method.codec)
    return factor @ factor.T


def accumulate(side: Side, gram: Tensor, method: Method) -> Tensor | None:
    """L ← β·L + (1 − β)·gram, stored; returns L before it was stored.

    None, and the side as it was, if L is not finite or no ridge made it positive definite.
    """
    fresh: Tensor = method.beta * statistics(side, method) + (1 - method.beta) * gram
    if not bool(torch.isfinite(fresh).all()):
        return None
    if "matrix" in side["factor"]:
        side["factor"] = {"matrix": fresh}
        return fresh
    factor = ridged_cholesky(fresh, method)
    if factor is None:
        return None
    _, error = restore_triangle(side["factor"], method.codec)
    side["factor"] = store_triangle(
        factor, error, method.error_beta, method.codec, method.separate_scales
    )
    return fresh


def ridged_cholesky(a: Tensor, method: Method) -> Tensor | None:
    """C with C·Cᵀ = a + r·I; r = ε (times λmax if relative), tenfold at every failed attempt."""
    ridge = method.eps * (largest_eigenvalue(a) if method.relative_ridge else 1.0)
    identity = torch.eye(len(a), device=a.device)
    factor: Tensor
    for _ in range(method.ridge_attempts + 1):
        factor, info = torch.linalg.cholesky_ex(a + ridge * identity)
        if int(info) == 0 and bool(torch.isfinite(factor).all()):
            return factor
        ridge *= 10
    return None


def renew_root(side: Side, fresh: Tensor | None, method: Method) -> bool:
    """X ← (L + λmax·ε·I)^(−1/4), stored, from `fresh` or else from what the side keeps.

    False, and the root as it was, if the iteration gave nothing finite.
    """
    a = statistics(side, method) if fresh is None else fresh
    ridge = largest_eigenvalue(a) * method.eps
    root = inverse_fourth_root(a + ridge * torch.eye(len(a), device=a.device), method.newton_cap)
    if root is None:
        return False
    packs = method.packs(len(a))
    side["root"] = method.codec.store_symmetric(root) if packs else {"matrix": root}
    return True


def root_of(side: Side, method: Method) -> Tensor:
    """X as the side keeps it, (n, n) float32."""
    if "matrix" in side["root"]:
        return side["root"]["matrix"]
    return method.codec.restore_symmetric(side["root"])
