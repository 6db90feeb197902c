"""SOAP: Adam in the eigenbasis of Shampoo's preconditioners."""

from typing import Any

import torch
from torch import Tensor

from ..formats.errors import choice
from .base import adamw_step, wide
from .checked import CheckedOptimizer
from .checks import betas_in_range, whole, within
from .codebooks import DYNAMIC_8BIT, DYNAMIC_8BIT_UNSIGNED
from .linalg import LINEAR_ALGEBRA
from .moments import Blocks, Plain, StateCodec

Group = dict[str, Any]
State = dict[str, Any]

CHOICES = {"storage": ("float32", "dynamic_8bit"), "linalg": tuple(LINEAR_ALGEBRA)}


class SOAP(CheckedOptimizer):
    """Shampoo with Adam in the preconditioner's eigenbasis.

    For a weight reshaped to a matrix (d₀, product of the others) with gradient G, step t:

        M ← β₁·M + (1 − β₁)·G;   M' = Q_Lᵀ·M·Q_R;   G' = Q_Lᵀ·G·Q_R
        V ← β₂·V + (1 − β₂)·G'²
        W ← W·(1 − η·δ) − η·Q_L·(M̂'/(√V̂ + ε))·Q_Rᵀ
        L ← β₃·L + (1 − β₃)·G·Gᵀ;   R ← β₃·R + (1 − β₃)·Gᵀ·G
        every f steps:  Q_L ← qr(L·Q_L).Q,  Q_R ← qr(R·Q_R).Q

    M̂ and V̂ have their bias corrected. As in the authors' code the first gradient only begins L
    and R, of which Q_L and Q_R are then the eigenvectors, largest eigenvalue first: it moves no
    weight. A side longer than `max_order` has Q = I and no statistics. Parameters that have
    fewer than two dimensions apart from those of size 1 take AdamW steps.

    L, R or a Q that would not be finite is not taken over (`counters["failed_statistics"]`,
    `["failed_bases"]`); a parameter whose G² or G'² overflows is not stepped
    (`["overflowed_squares"]`).

    Source: Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam", arXiv 2409.11321,
    algorithms 3 and 4, and its authors' code, of which all defaults are. They precondition every
    dimension of a convolution weight apart unless told to merge; here it is one matrix.

    Args:
        params: parameters or groups; every option but `nonfinite` can be set in a group.
        lr, betas, eps, weight_decay: η, β₁ and β₂, ε, δ.
        shampoo_beta: β₃; below 0 it is β₂.
        frequency: f.
        max_order: the longest side with an eigenbasis.
        storage: of M and V, "float32", or "dynamic_8bit" with a scale per `block`, from
            `min_elements` elements on (see `AdamW8bit`); L, R and Q are float32.
        linalg: "library", or "chip", where QR is taken apart into operations that `emulate`
            rounds as the chip does and the first basis comes of ten orthogonal iterations.
        nonfinite: "refuse" or "skip" a step with a NaN or infinite gradient.

    Raises:
        InputError: an option out of its range, or a parameter that is not real floating point.
    """

    counted = ("failed_statistics", "failed_bases")

    def __init__(
        self,
        params: Any,
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        shampoo_beta: float = -1.0,
        frequency: int = 10,
        max_order: int = 10_000,
        storage: str = "float32",
        block: int = 256,
        min_elements: int = 4096,
        linalg: str = "library",
        nonfinite: str = "refuse",
    ) -> None:
        defaults = dict(
            lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, shampoo_beta=shampoo_beta,
            frequency=frequency, max_order=max_order, storage=storage, block=block,
            min_elements=min_elements, linalg=linalg,
        )  # fmt: skip
        super().__init__(params, defaults, nonfinite)

    def _step_one(self, p: Tensor, gradient: Tensor, group: Group) -> None:
        state, gradient = self.state[p], gradient.to(wide(p))
        if not self._squares_fit(gradient):
            return
        shape = _matrix(p.shape)
        if shape is None:
            rates = {key: group[key] for key in ("lr", "betas", "eps", "weight_decay")}
            adamw_step(p, gradient, state, **rates)
            return
        matrix = gradient.reshape(shape)
        if "sides" not in state:
            self._begin(state, matrix, p, group)
            return
        turned = _into(matrix, state["sides"])
        if not self._squares_fit(turned):
            return
        self._adam(p, matrix, turned, state, group)
        self._follow(state, matrix, group)

    def _begin(self, state: State, matrix: Tensor, p: Tensor, group: Group) -> None:
        state["step"] = 0
        first, second = _codecs(group)
        state["first"] = first.store(torch.zeros_like(p, dtype=wide(p)))
        state["second"] = second.store(torch.zeros_like(p, dtype=wide(p)))
        state["sides"] = []
        algebra = LINEAR_ALGEBRA[group["linalg"]]
        for g in (matrix, matrix.T):
            side: dict[str, Tensor] = {}
            if len(g) <= group["max_order"]:
                side["statistics"] = (1 - _shampoo_beta(group)) * (g @ g.T)
                side["basis"] = torch.eye(len(g), dtype=g.dtype, device=g.device)
                self._take_basis(side, algebra.eigenvectors(side["statistics"]))
            state["sides"].append(side)

    def _adam(self, p: Tensor, matrix: Tensor, turned: Tensor, state: State, group: Group) -> None:
        """The step of the weights, and M and V stored."""
        state["step"] += 1
        first, second = _codecs(group)
        beta1, beta2 = group["betas"]
        m = first.restore(state["first"], p).reshape(matrix.shape)
        v = second.restore(state["second"], p).reshape(matrix.shape)
        m = m.lerp(matrix, 1 - beta1)
        v = v * beta2 + (1 - beta2) * (turned * turned)
        root = (v / (1 - beta2 ** state["step"])).sqrt() + group["eps"]
        mean = _into(m, state["sides"]) / (1 - beta1 ** state["step"])
        update = _back(mean / root, state["sides"]).reshape(p.shape)
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(update.to(p.dtype), alpha=-group["lr"])
        state["first"] = first.store(m.reshape(p.shape))
        state["second"] = second.store(v.reshape(p.shape))

    def _follow(self, state: State, matrix: Tensor, group: Group) -> None:
        """L and R with this gradient, and every f steps one orthogonal iteration of the bases."""
        beta, algebra = _shampoo_beta(group), LINEAR_ALGEBRA[group["linalg"]]
        for side, g in zip(state["sides"], (matrix, matrix.T), strict=True):
            if not side:
                continue
            fresh = beta * side["statistics"] + (1 - beta) * (g @ g.T)
            if bool(torch.isfinite(fresh).all()):
                side["statistics"] = fresh
            else:
                self.counters["failed_statistics"] += 1
            if state["step"] % group["frequency"] == 0:
                self._take_basis(side, algebra.orthogonal(side["statistics"] @ side["basis"]))

    def _take_basis(self, side: dict[str, Tensor], basis: Tensor | None) -> None:
        if basis is not None and bool(torch.isfinite(basis).all()):
            side["basis"] = basis
        else:
            self.counters["failed_bases"] += 1

    def _paper_bytes(self, p: Tensor, group: Group) -> int:
        shape = _matrix(p.shape)
        if shape is None:
            return 8 * p.numel()
        squares = sum(8 * n * n for n in shape if n <= group["max_order"])
        return squares + sum(codec.bytes(tuple(p.shape)) for codec in _codecs(group))

    def _check_options(self, group: Group) -> None:
        for option, allowed in CHOICES.items():
            choice(group[option], allowed, option, self.place)
        group["betas"] = betas_in_range(group["betas"], self.place)
        within(group["lr"], 0.0, 10.0, "lr", self.place)
        within(group["eps"], 0.0, 1.0, "eps", self.place, open_ends=True)
        within(group["weight_decay"], 0.0, 100.0, "weight_decay", self.place)
        within(group["shampoo_beta"], -1.0, 1.0, "shampoo_beta", self.place)
        for option in ("frequency", "max_order", "block"):
            whole(group[option], 1, option, self.place)
        whole(group["min_elements"], 0, "min_elements", self.place)


def _matrix(shape: torch.Size) -> tuple[int, int] | None:
    """Rows and columns of a weight as a matrix; None if it has no two dimensions."""
    sizes = [size for size in shape if size != 1]
    if len(sizes) < 2 or 0 in sizes:
        return None
    return sizes[0], shape.numel() // sizes[0]


def _into(x: Tensor, sides: list[dict[str, Tensor]]) -> Tensor:
    """Q_Lᵀ·x·Q_R; a side without a basis leaves x as it is."""
    left, right = sides
    x = left["basis"].T @ x if left else x
    return x @ right["basis"] if right else x


def _back(x: Tensor, sides: list[dict[str, Tensor]]) -> Tensor:
    """Q_L·x·Q_Rᵀ."""
    left, right = sides
    x = left["basis"] @ x if left else x
    return x @ right["basis"].T if right else x


def _shampoo_beta(group: Group) -> float:
    beta = group["shampoo_beta"]
    return float(group["betas"][1] if beta < 0 else beta)


def _codecs(group: Group) -> tuple[StateCodec, StateCodec]:
    if group["storage"] == "float32":
        return Plain(), Plain()
    block, least = group["block"], group["min_elements"]
    return Blocks(DYNAMIC_8BIT, block, least), Blocks(DYNAMIC_8BIT_UNSIGNED, block, least)
