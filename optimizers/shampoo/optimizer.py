"""Shampoo: Kronecker-factored preconditioning, its statistics and roots kept in a few bits."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ...formats.errors import choice
from ..base import adamw_step, sgdm_step, wide
from ..checked import CheckedOptimizer
from ..codebooks import PRECONDITIONER_BOOKS
from ..state import tensors_in
from .chunks import Rows, chunks, grafted, preconditioned
from .method import Method
from .options import check_options, method_of
from .side import Side, accumulate, begin_side, read_side, renew_root, side_bits
from .statistics import STORAGES


class Shampoo(CheckedOptimizer):
    """Shampoo with the storage of its preconditioners as a choice.

    For a weight reshaped to a matrix with gradient G, left side (the right one with GᵀG), step k
    counted from 1, D(·) what the codes stand for, Q(·) the quantiser of the part off the diagonal:

        every T₁:  L = β·(L as stored) + (1 − β)·G·Gᵀ, then by `storage`
            float32  L
            vq       Q(L)
            cq       C = cholesky(L + ε·I), stored as Q(C); L as stored is D·Dᵀ
            cq_ef    C̄ = Q(C + E);  E = βₑ·E + (1 − βₑ)·(C + E − D(C̄)),  stored as Q(E)
            eigen    P = qr(L·V).Q, λ = diag(PᵀLP), stored as λ and Q(P), diagonal included;
                     L as stored is V·diag(λ)·Vᵀ, V = D(P) after t₁ Björck steps
        every T₂:  X = (L as stored + λmax·ε·I)^(−1/4),  stored as float32 diagonal + Q(rest);
                   with eigen V·diag((λ + ε·max λ)^(−1/4))·Vᵀ, V after t₂ Björck steps
        always:    Ĝ = D(X_L)·G·D(X_R);   G̃ = Ĝ·‖G‖F/(‖Ĝ‖F + 1e-12)

    and the base optimizer steps with G̃. C below and E above the diagonal share one matrix of
    codes. Q rounds to the nearest codeword, per block of a row; what lies between storing and
    restoring is float32. X = I until the first T₂; no bias correction; only the gradient of a T₁
    step enters the statistics.

    Dimensions of size 1 are dropped; what then has fewer than two goes to the base optimizer as
    it is, the rest is reshaped to (d₀, product of the others) and cut into chunks of at most
    `max_order`, each with its own pair. Matrices with fewer than `min_elements` elements stay
    float32 as L and X.

    Failures never change what is stored; `counters` has them. A Cholesky factor that fails is
    tried again with the ridge tenfold, at most `ridge_attempts` times (raised_ridges); then
    (failed_statistics), as after a root that is not finite (failed_roots), the one before is
    kept. A Ĝ or G̃ that is not finite is replaced by G (plain_gradients). With base AdamW a
    parameter whose G̃² overflows is not stepped (overflowed_squares).

    Source: Li, Ding, Toh, Zhou, ICCV 2025, arXiv 2412.10663 (B: cq, cq_ef); Wang, Zhou, Li,
    Huang, NeurIPS 2024, arXiv 2405.18144 (A: eigen, vq, quantiser, root, chunking, memory). Of B
    only the abstract and a summary were at hand: [?] marks what was chosen here.

    Args:
        params: parameters or groups; every option but `nonfinite` can be set in a group.
        lr: of the base optimizer.
        base: "adamw" or "sgdm".
        momentum: of SGD. betas, adam_eps: of AdamW.
        weight_decay: decoupled in AdamW; in SGD added to G̃ before the momentum (A).
        storage: of the statistics; all but float32 pack the roots as well.
        codebook: linear2_4bit (A, B), linear2_3bit, dynamic_tree_3bit, dynamic_tree_4bit (A),
            or at 8 bits linear2_8bit (the same rule) and dynamic_8bit (arXiv 2110.02861).
        block: columns that share a scale (A).
        beta, eps: β and ε of the statistics (A, B).
        statistics_every, roots_every: T₁ and T₂, in steps.
        error_beta: βₑ of cq_ef [?].
        scales: of cq_ef, "joint" for C and E per row block, or "separate", 4 bytes a row more [?].
        ridge: ε of the Cholesky step "absolute", or "relative" to λmax [?].
        root_from: "stored", or "fresh" L where T₁ falls on the same step [?].
        root: "newton" (A), or "eigh", where negative eigenvalues count as 0; eigen has its own.
        newton_cap: most iterations of the coupled Newton root; 10 in A, and part of its method.
        rectify_statistics, rectify_roots: t₁ and t₂ of eigen (A).
        ridge_attempts: [?].
        grafting: "norm" (A), or "none" to step with Ĝ.
        linalg: "library", or "chip", where Cholesky and QR are taken apart into operations that
            `emulate` rounds as the chip does; there is no "eigh" in that.
        min_elements, max_order: A.
        nonfinite: "refuse" or "skip" a step with a NaN or infinite gradient.

    Defaults are the papers' (AdamW of A, T₁/T₂ for CIFAR). For short runs T₁/T₂ = 10/20 and
    lr 0.01 with base AdamW were chosen by test accuracy on handwritten digits (359 test images,
    float32, batch 64, cosine schedule, Vision Transformer of width 64 and depth 2) over the grid
    AdamW lr 0.001, 0.003, 0.01, SGD lr 0.03, 0.1, 0.3 (weight decay 5e-4), T₁/T₂ 5/10 and 10/20.
    Mean of five seeds: 97.4 % in 100 steps on 4 x 4 patches and 97.9 % in 600 steps on 2 x 2
    patches, where AdamW reaches 97.0 % and 97.6 %; in 300 steps on 4 x 4 patches lr 0.005 and
    0.01 reach 98.4 and 97.9 %, AdamW 98.3 % (lr 0.003).

    By storage, 100 steps on 4 x 4 patches at lr 0.005, T₁/T₂ = 10/20 (tests/bench/training.py),
    mean of five seeds ± 95 %: float32 97.7 ± 0.5, cq 97.7 ± 0.8, cq_ef 97.6 ± 0.7, eigen
    97.5 ± 0.4, vq 97.3 ± 0.8; at lr 0.01 97.2, 97.6, 97.5, 97.1, 96.6. Factors keep what float32
    reaches and vq comes last, as in the papers; the differences lie within the intervals.

    Raises:
        InputError: an option out of its range, or a parameter that is not real floating point.
    """

    counted = ("raised_ridges", "failed_statistics", "failed_roots", "plain_gradients")

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
        storage: str = "cq_ef",
        codebook: str = "linear2_4bit",
        block: int = 64,
        beta: float = 0.95,
        eps: float = 1e-6,
        statistics_every: int = 100,
        roots_every: int = 500,
        error_beta: float = 0.95,
        scales: str = "joint",
        ridge: str = "absolute",
        root_from: str = "stored",
        root: str = "newton",
        newton_cap: int = 10,
        rectify_statistics: int = 1,
        rectify_roots: int = 4,
        ridge_attempts: int = 6,
        grafting: str = "norm",
        linalg: str = "library",
        min_elements: int = 4096,
        max_order: int = 1200,
        nonfinite: str = "refuse",
    ) -> None:
        defaults = dict(
            lr=lr, base=base, momentum=momentum, betas=betas, adam_eps=adam_eps,
            weight_decay=weight_decay, storage=storage, codebook=codebook, block=block, beta=beta,
            eps=eps, statistics_every=statistics_every, roots_every=roots_every,
            error_beta=error_beta, scales=scales, ridge=ridge, root_from=root_from, root=root,
            newton_cap=newton_cap, rectify_statistics=rectify_statistics,
            rectify_roots=rectify_roots, ridge_attempts=ridge_attempts, grafting=grafting,
            linalg=linalg, min_elements=min_elements, max_order=max_order,
        )  # fmt: skip
        super().__init__(params, defaults, nonfinite)

    def failures(self) -> int:
        """Statistics and roots that could not be computed so far; the ones before were kept."""
        return self.counters["failed_statistics"] + self.counters["failed_roots"]

    def preconditioners(self, p: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Of parameter p: the name of each side, its L as stored, and its X as stored.

        Names are left and right, with the number of the chunk where there are several; L and X are
        (n, n) float32. Nothing for a parameter that has not stepped, or has no sides.
        """
        groups = [g for g in self.param_groups if any(q is p for q in g["params"])]
        pairs = self.state[p].get("sides", []) if p in self.state else []
        for number, pair in enumerate(pairs):
            chunk = f" {number}" if len(pairs) > 1 else ""
            for name, side in zip(("left", "right"), pair, strict=True):
                yield f"{name}{chunk}", *read_side(side, method_of(groups[0]))

    def preconditioner_bytes(self) -> int:
        """Bytes that statistics and roots occupy now; part of `state_bytes()`."""
        sides = [state.get("sides", []) for state in self.state.values()]
        return sum(t.numel() * t.element_size() for t in tensors_in(sides))

    def preconditioner_paper_bytes(self) -> int:
        """What A's formula gives for `preconditioner_bytes()` once every parameter has stepped.

        Smaller than that by the padding of rows to whole bytes, which is n bytes for the two
        matrices of a side of odd order n in 4 bits, none where 8 divides n.
        """
        return sum(_side_bytes(p, group) for group in self.param_groups for p in group["params"])

    def _paper_bytes(self, p: Tensor, group: dict[str, Any]) -> int:
        moments = 2 if group["base"] == "adamw" else 1
        return _side_bytes(p, group) + moments * wide(p).itemsize * p.numel()

    def _step_one(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, gradient = self.state[p], gradient.to(wide(p))
        places = chunks(p.shape, group["max_order"])
        if not state:
            state["step"] = 0
            if places:
                state["sides"] = _begin(places, method_of(group), p.device)
        state["step"] += 1
        if places:
            gradient = self._preconditioned(gradient, places, state, group)
        rates = {"lr": group["lr"], "weight_decay": group["weight_decay"]}
        if group["base"] == "sgdm":
            sgdm_step(p, gradient, state, momentum=group["momentum"], **rates)
        elif self._squares_fit(gradient):
            adamw_step(p, gradient, state, betas=group["betas"], eps=group["adam_eps"], **rates)

    def _preconditioned(
        self, gradient: Tensor, places: list[Rows], state: dict[str, Any], group: dict[str, Any]
    ) -> Tensor:
        """G̃ in the gradient's shape and dtype, after the work that this step asks for."""
        method = method_of(group)
        matrix = gradient.reshape(places[-1][0].stop, places[-1][1].stop).float()
        for place, (left, right) in zip(places, state["sides"], strict=True):
            g = matrix[place]
            self._maintain(left, g, state["step"], group, method)
            self._maintain(right, g.T, state["step"], group, method)
        turned = preconditioned(matrix, places, state["sides"], method)
        if group["grafting"] == "norm":
            turned = grafted(turned, matrix)
        if not bool(torch.isfinite(turned).all()):
            self.counters["plain_gradients"] += 1
            return gradient
        return turned.reshape(gradient.shape).to(gradient.dtype)

    def _maintain(
        self, side: Side, g: Tensor, step: int, group: dict[str, Any], method: Method
    ) -> None:
        """Statistics from g·gᵀ at every T₁, root at every T₂."""
        fresh = None
        if step % group["statistics_every"] == 0:
            fresh = accumulate(side, g @ g.T, method, self.counters)
        if step % group["roots_every"] == 0:
            source = fresh if group["root_from"] == "fresh" else None
            renew_root(side, source, method, self.counters)

    def _check_options(self, group: dict[str, Any]) -> None:
        check_options(group, self.place)


class Shampoo4bit(Shampoo):
    """`Shampoo` whose preconditioners take 4 bits an element: storage cq_ef unless told otherwise.

    The same options and defaults; "float32" and codebooks of other widths are refused.
    """

    def _check_options(self, group: dict[str, Any]) -> None:
        super()._check_options(group)
        books = [name for name, book in PRECONDITIONER_BOOKS.items() if book.bits == 4]
        choice(group["codebook"], books, "codebook", self.place)
        packed = [name for name in STORAGES if name != "float32"]
        choice(group["storage"], packed, "storage", self.place)


def _begin(places: list[Rows], method: Method, device: torch.device) -> list[list[Side]]:
    return [[begin_side(s.stop - s.start, method, device) for s in place] for place in places]


def _side_bytes(p: Tensor, group: dict[str, Any]) -> int:
    method = method_of(group)
    places = chunks(p.shape, group["max_order"])
    return sum(side_bits(s.stop - s.start, method) for place in places for s in place) // 8
