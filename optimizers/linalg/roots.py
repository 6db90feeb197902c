"""The inverse fourth root of a positive semidefinite matrix, by matrix products alone.

Only the numbers that steer an iteration (λmax, max|M − I|) are read back to Python.

Source: Wang, Zhou, Li, Huang, arXiv 2405.18144 and its code; the coupled Newton iteration is
that of Anil et al., "Scalable Second Order Optimization for Deep Learning", arXiv 2002.09018,
after Guo and Higham, SIAM J. Matrix Anal. Appl. 28 (2006).
"""

from math import isfinite

import torch
from torch import Tensor

POWER_ITERATIONS = 10
TOLERANCE = 1e-6
WORSE = 1.2


def largest_eigenvalue(a: Tensor, seed: int = 0) -> float:
    """λmax of a symmetric (n, n) matrix by power iteration, from below; NaN if a holds one.

    Random start, a function of `seed` and n; at most ten products, fewer when the Rayleigh
    quotient moves by at most 1e-6.
    """
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(len(a), 1, generator=generator).to(a)
    estimate = 0.0
    for _ in range(POWER_ITERATIONS):
        length = frobenius(v)
        if float(length) == 0.0:
            return 0.0
        v = v / length
        product = a @ v
        before, estimate = estimate, float((v * product).sum())
        if abs(estimate - before) <= TOLERANCE:
            break
        v = product
    return estimate


def inverse_fourth_root(a: Tensor, cap: int = 10) -> Tensor | None:
    """X ≈ a^(−1/4) of a symmetric (n, n) matrix; None if it is not finite.

    With p = 4, z = (1 + p)/(2‖a‖F), X = z^(1/p)·I, M = z·a, while max|M − I| > 1e-6:

        T = (1 + 1/p)·I − M/p;  X ← X·T;  M ← T⁴·M

    at most `cap` times; a step that makes max|M − I| grow by more than 1.2 is not taken. The
    cap acts as a floor under the eigenvalues, about 5.3e-5·‖a‖F for 10: it is part of the
    method, which is meant for well-conditioned or ridged matrices.
    """
    power = 4
    norm = frobenius(a)
    if not isfinite(float(norm)) or float(norm) == 0.0:
        return None
    identity = torch.eye(len(a), dtype=a.dtype, device=a.device)
    z = (1 + power) / (2 * norm)
    root, m = z.sqrt().sqrt() * identity, z * a
    error = _distance(m, identity)
    for _ in range(cap):
        if not error > TOLERANCE:
            break
        t = (1 + 1 / power) * identity - m / power
        squared = t @ t
        next_root, m = root @ t, squared @ squared @ m
        before, error = error, _distance(m, identity)
        if not error <= WORSE * before:
            break
        root = next_root
    return root if bool(torch.isfinite(root).all()) else None


def frobenius(x: Tensor) -> Tensor:
    """‖x‖F as a 0-d tensor, scaled by max|x| on the way so that no square overflows or vanishes."""
    peak = x.abs().amax().clamp(min=torch.finfo(x.dtype).tiny)
    scaled = x / peak
    return peak * (scaled * scaled).sum().sqrt()


def _distance(m: Tensor, identity: Tensor) -> float:
    return float((m - identity).abs().amax())
