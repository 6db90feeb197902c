"""Muon: momentum orthogonalised by a Newton–Schulz iteration."""

from typing import Any

import torch
from torch import Tensor

from ..formats.errors import InputError, choice
from .base import adamw_step, wide
from .checked import CheckedOptimizer
from .checks import betas_in_range, whole, within
from .codebooks import INT8_ABSMAX
from .linalg import frobenius
from .moments import Blocks, Plain, StateCodec

Group = dict[str, Any]

CHOICES = {
    "rule": ("muon", "adamw"),
    "adjust_lr": ("original", "match_rms_adamw"),
    "storage": ("float32", "int8"),
}


class Muon(CheckedOptimizer):
    """Muon for matrices, AdamW for everything else.

    For a weight reshaped to a matrix (d₀, product of the others) with gradient G:

        B ← μ·B + (1 − μ)·G;   M = μ·B + (1 − μ)·G if nesterov else B
        X = M/(‖M‖F + ε), transposed if it has more rows than columns
        `iterations` times:  A = X·Xᵀ;  X ← a·X + (b·A + c·A²)·X;   X transposed back
        W ← W·(1 − η·δ) − η·r·X

    with (a, b, c) = (3.4445, −4.7750, 2.0315) and r = √max(1, rows/columns) ("original") or
    0.2·√max(rows, columns) ("match_rms_adamw", so that rates of AdamW carry over). The products
    run in the arithmetic of the parameters' device: nothing is cast to bfloat16 here, as the
    reference code does; a chip's recipe decides that. Parameters that have fewer than two
    dimensions apart from those of size 1, and groups with rule = "adamw" (embeddings and output
    layers are meant to be such), take AdamW steps.

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024, and
    its code: lr, momentum, nesterov, iterations, AdamW's; match_rms_adamw: Liu et al., "Muon is
    scalable for LLM training", arXiv 2502.16982; int8 momentum, a scale per 2048 elements: 8-bit
    Muon, arXiv 2509.23106.

    Args:
        params: parameters or groups; every option but `nonfinite` can be set in a group.
        lr: η, with "original" the spectral norm of a square matrix's update.
        momentum: μ. nesterov, iterations: see above. weight_decay: δ.
        eps: ε, 1e-7 as in the reference code.
        adjust_lr: r.
        storage: of B, "float32", or "int8" codes of x/max|x| per `block`, from `min_elements`
            elements on. The orthogonalised M is that before B is stored.
        block, min_elements: of "int8"; 4096 elements as in AdamW8bit.
        rule: "muon", or "adamw" for all of a group.
        adamw_ratio: rate of the AdamW steps in units of lr, so that a schedule of lr moves both;
            0.015 makes the code's 3e-4 of its 0.02.
        betas, adamw_eps: of the AdamW steps.
        nonfinite: "refuse" or "skip" a step with a NaN or infinite gradient.

    Raises:
        InputError: an option out of its range, or a parameter that is not real floating point.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        *,
        nesterov: bool = True,
        iterations: int = 5,
        eps: float = 1e-7,
        adjust_lr: str = "original",
        storage: str = "float32",
        block: int = 2048,
        min_elements: int = 4096,
        adamw_ratio: float = 0.015,
        betas: tuple[float, float] = (0.9, 0.95),
        adamw_eps: float = 1e-10,
        nonfinite: str = "refuse",
    ) -> None:
        defaults = dict(
            lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov,
            iterations=iterations, eps=eps, adjust_lr=adjust_lr, storage=storage, block=block,
            min_elements=min_elements, adamw_ratio=adamw_ratio, betas=betas, adamw_eps=adamw_eps,
            rule="muon",
        )  # fmt: skip
        super().__init__(params, defaults, nonfinite)

    def _step_one(self, p: Tensor, gradient: Tensor, group: Group) -> None:
        state, gradient = self.state[p], gradient.to(wide(p))
        if not _orthogonalises(p, group):
            if self._squares_fit(gradient):
                decay, eps = group["weight_decay"], group["adamw_eps"]
                rates = {"lr": group["lr"] * group["adamw_ratio"], "betas": group["betas"]}
                adamw_step(p, gradient, state, eps=eps, weight_decay=decay, **rates)
            return
        codec = _codec(group)
        if "momentum" in state:
            buffer = codec.restore(state["momentum"], p).clone()
        else:
            buffer = torch.zeros_like(gradient)
        mu = group["momentum"]
        buffer.lerp_(gradient, 1 - mu)
        mean = gradient.lerp(buffer, mu) if group["nesterov"] else buffer
        matrix = mean.reshape(_matrix(p.shape))
        update = orthogonalised(matrix, group["iterations"], group["eps"])
        rate = group["lr"] * _adjustment(matrix.shape, group["adjust_lr"])
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(update.reshape(p.shape).to(p.dtype), alpha=-rate)
        state["momentum"] = codec.store(buffer)

    def _paper_bytes(self, p: Tensor, group: Group) -> int:
        if _orthogonalises(p, group):
            return _codec(group).bytes(tuple(p.shape))
        return 8 * p.numel()

    def _check_options(self, group: Group) -> None:
        for option, allowed in CHOICES.items():
            choice(group[option], allowed, option, self.place)
        group["betas"] = betas_in_range(group["betas"], self.place)
        within(group["lr"], 0.0, 10.0, "lr", self.place)
        within(group["adamw_ratio"], 0.0, 1e4, "adamw_ratio", self.place)
        within(group["weight_decay"], 0.0, 100.0, "weight_decay", self.place)
        within(group["momentum"], 0.0, 1.0, "momentum", self.place)
        for option in ("eps", "adamw_eps"):
            within(group[option], 0.0, 1.0, option, self.place, open_ends=True)
        for option in ("iterations", "block"):
            whole(group[option], 1, option, self.place)
        whole(group["min_elements"], 0, "min_elements", self.place)
        if not isinstance(group["nesterov"], bool):
            given = group["nesterov"]
            raise InputError(f"{self.place}: nesterov = {given!r} is not one of True, False")


def orthogonalised(matrix: Tensor, iterations: int, eps: float) -> Tensor:
    """X ≈ U·Vᵀ of M = U·S·Vᵀ, (rows, columns); singular values end between about 0.7 and 1.2.

    X = M/(‖M‖F + ε), then X ← a·X + (b·A + c·A²)·X with A = X·Xᵀ.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / (frobenius(matrix) + eps)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if tall else x


def _matrix(shape: torch.Size) -> tuple[int, int]:
    sizes = [size for size in shape if size != 1]
    return sizes[0], shape.numel() // sizes[0]


def _orthogonalises(p: Tensor, group: Group) -> bool:
    matrix = sum(size != 1 for size in p.shape) >= 2 and p.numel() > 0
    return matrix and group["rule"] == "muon"


def _adjustment(shape: torch.Size, rule: str) -> float:
    rows, columns = shape
    if rule == "original":
        return float(max(1.0, rows / columns) ** 0.5)
    return float(0.2 * max(rows, columns) ** 0.5)


def _codec(group: Group) -> StateCodec:
    if group["storage"] == "float32":
        return Plain()
    return Blocks(INT8_ABSMAX, group["block"], group["min_elements"])
