"""The orthogonal factor of a square matrix by blocked Householder reflections, for a chip to round.

Source: Golub and Van Loan, Matrix Computations, 4th edition, section 5.2; the blocks are those of
Schreiber and Van Loan, SIAM J. Sci. Stat. Comput. 10 (1989): a product of reflections is
I − V·T·Vᵀ with T upper triangular. Signs are LAPACK's: the diagonal of R opposes that of a.
"""

from math import copysign

import torch
from torch import Tensor

BLOCK = 32


def orthogonal(a: Tensor, block: int = BLOCK) -> Tensor:
    """Q of a = Q·R, (n, n).

    Reflections are found column by column on the vector unit; they are applied to the rest of a,
    and in the end to the identity, a block at a time by products of the matrix unit.
    """
    order = len(a)
    rest = a.clone()
    blocks = []
    for start in range(0, order, block):
        stop = min(start + block, order)
        v, t = _reflections(rest[start:, start:stop])
        blocks.append((start, v, t))
        if stop < order:
            right = rest[start:, stop:]
            rest[start:, stop:] = right - v @ (t.T @ (v.T @ right))
    q = torch.eye(order, dtype=a.dtype, device=a.device)
    for start, v, t in reversed(blocks):
        corner = q[start:, start:]
        q[start:, start:] = corner - v @ (t @ (v.T @ corner))
    return q


def _reflections(panel: Tensor) -> tuple[Tensor, Tensor]:
    """V (m, w) with unit diagonal and T (w, w) of the reflections that make the panel triangular.

    T's column k is −τ·T·(Vᵀ·v) above its diagonal τ.
    """
    width = panel.shape[1]
    work = panel.clone()
    v = torch.zeros_like(panel)
    t = panel.new_zeros(width, width)
    for k in range(width):
        vector, tau = reflection(work[k:, k])
        v[k:, k] = vector
        if k:
            overlap = v[:, :k].T @ v[:, k : k + 1]
            t[:k, k] = -tau * (t[:k, :k] @ overlap).squeeze(1)
        t[k, k] = tau
        if k + 1 < width:
            right = work[k:, k + 1 :]
            along = vector.unsqueeze(0) @ right
            work[k:, k + 1 :] = right - vector.unsqueeze(1) * (tau * along)
    return v, t


def reflection(x: Tensor) -> tuple[Tensor, Tensor]:
    """v, v₀ = 1, and τ with (I − τ·v·vᵀ)·x = β·e₀, β = −sign(x₀)·‖x‖; τ = 0 where x is β·e₀.

    x is scaled by its largest magnitude first, so that no square overflows or vanishes.
    """
    peak = x.abs().amax()
    scaled = x / torch.where(peak > 0, peak, torch.ones_like(peak))
    tail = (scaled[1:] * scaled[1:]).sum()
    first = scaled[0]
    if not float(tail) > 0:
        unit = torch.zeros_like(x)
        unit[0] = 1.0
        return unit, torch.zeros_like(first)
    norm = torch.sqrt(first * first + tail)
    beta = norm * -copysign(1.0, float(first))
    vector = scaled / (first - beta)
    vector[0] = 1.0
    return vector, (beta - first) / beta
