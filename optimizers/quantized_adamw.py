"""AdamW with its two moments kept in 8 or 4 bits."""

from typing import Any

import torch
from torch import Tensor

from ..formats.errors import choice
from .base import adamw_step, wide
from .checked import CheckedOptimizer
from .checks import betas_in_range, whole, within
from .codebooks import DYNAMIC_8BIT, DYNAMIC_8BIT_UNSIGNED, DYNAMIC_TREE_4BIT, LINEAR_4BIT
from .moments import Blocks, RankOne, StateCodec

Group = dict[str, Any]


class QuantizedAdamW(CheckedOptimizer):
    """AdamW on moments that are restored before every step and stored after it.

        m ← β₁·D(m̄) + (1 − β₁)·g;   v ← β₂·D(v̄) + (1 − β₂)·g²
        w ← w·(1 − η·δ) − η·m̂/(√v̂ + ε),  m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ)
        m̄ = Q(m);   v̄ = Q(v)

    The step uses m and v before they are stored. Subclasses choose the codecs.
    """

    @torch.no_grad()
    def _step_one(self, p: Tensor, gradient: Tensor, group: Group) -> None:
        gradient, state = gradient.to(wide(p)), self.state[p]
        if not self._squares_fit(gradient):
            return
        first, second = self._codecs(group)
        working: Group = {}
        if state:
            working["first"] = first.restore(state["first"], p)
            working["second"] = second.restore(state["second"], p)
            working["base_step"] = state["step"]
        rates = {key: group[key] for key in ("lr", "betas", "eps", "weight_decay")}
        adamw_step(p, gradient, working, **rates)
        state["step"] = working["base_step"]
        state["first"] = first.store(working["first"])
        state["second"] = second.store(working["second"])

    def _paper_bytes(self, p: Tensor, group: Group) -> int:
        return sum(codec.bytes(tuple(p.shape)) for codec in self._codecs(group))

    def _check_options(self, group: Group) -> None:
        group["betas"] = betas_in_range(group["betas"], self.place)
        within(group["lr"], 0.0, 10.0, "lr", self.place)
        within(group["eps"], 0.0, 1.0, "eps", self.place, open_ends=True)
        within(group["weight_decay"], 0.0, 100.0, "weight_decay", self.place)
        whole(group["block"], 1, "block", self.place)
        whole(group["min_elements"], 0, "min_elements", self.place)

    def _codecs(self, group: Group) -> tuple[StateCodec, StateCodec]:
        """How m and v are kept."""
        raise NotImplementedError


class AdamW8bit(QuantizedAdamW):
    """AdamW with 8-bit moments: dynamic codebooks, a float32 scale per block.

    m is kept with the signed, v with the unsigned dynamic map, each element divided by the
    largest magnitude of its block; see `QuantizedAdamW` for the step. Tensors with fewer than
    `min_elements` elements keep float32 moments. A parameter whose g² overflows is not stepped
    (`counters["overflowed_squares"]`).

    Source: Dettmers, Lewis, Shleifer, Zettlemoyer, ICLR 2022, arXiv 2110.02861; block 256 and
    4096 elements as in bitsandbytes (the paper has block 2048).

    Args:
        params: parameters or groups; every option but `nonfinite` can be set in a group.
        lr, betas, eps, weight_decay: of torch.optim.AdamW, with its defaults.
        block: elements that share a scale, in memory order.
        min_elements: the least number of elements that is packed.
        nonfinite: "refuse" or "skip" a step with a NaN or infinite gradient.

    Raises:
        InputError: an option out of its range, or a parameter that is not real floating point.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        block: int = 256,
        min_elements: int = 4096,
        nonfinite: str = "refuse",
    ) -> None:
        defaults = dict(
            lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, block=block,
            min_elements=min_elements,
        )  # fmt: skip
        super().__init__(params, defaults, nonfinite)

    def _codecs(self, group: Group) -> tuple[StateCodec, StateCodec]:
        block, least = group["block"], group["min_elements"]
        return Blocks(DYNAMIC_8BIT, block, least), Blocks(DYNAMIC_8BIT_UNSIGNED, block, least)


class AdamW4bit(QuantizedAdamW):
    """AdamW with 4-bit moments: m in blocks, v without a zero and with rank-1 scales.

    m is kept with the signed dynamic map per block. v is kept as (i + 1)/16 times a scale: the
    map has no zero, so that no m is divided by ε alone. The scale of an element of v is the least
    of the largest values along its dimensions, for a matrix min(row maximum, column maximum);
    vectors have a scale per block. See `QuantizedAdamW` for the step. Tensors with fewer than
    `min_elements` elements keep float32 moments. A parameter whose g² overflows is not stepped
    (`counters["overflowed_squares"]`).

    Source: Li, Chen, Zhu, NeurIPS 2023, arXiv 2309.01507 (block 128, rank-1); 4096 elements as
    in its authors' code. Rounding is to the nearest codeword.

    Args:
        params: parameters or groups; every option but `nonfinite` can be set in a group.
        lr, betas, eps, weight_decay: of torch.optim.AdamW, with its defaults.
        block: elements that share a scale, in memory order.
        scales: of v, "rank1", or "block" as for m.
        min_elements: the least number of elements that is packed.
        nonfinite: "refuse" or "skip" a step with a NaN or infinite gradient.

    Raises:
        InputError: an option out of its range, or a parameter that is not real floating point.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        block: int = 128,
        scales: str = "rank1",
        min_elements: int = 4096,
        nonfinite: str = "refuse",
    ) -> None:
        defaults = dict(
            lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, block=block, scales=scales,
            min_elements=min_elements,
        )  # fmt: skip
        super().__init__(params, defaults, nonfinite)

    def _check_options(self, group: Group) -> None:
        super()._check_options(group)
        choice(group["scales"], ("rank1", "block"), "scales", self.place)

    def _codecs(self, group: Group) -> tuple[StateCodec, StateCodec]:
        block, least = group["block"], group["min_elements"]
        second = RankOne if group["scales"] == "rank1" else Blocks
        return Blocks(DYNAMIC_TREE_4BIT, block, least), second(LINEAR_4BIT, block, least)
