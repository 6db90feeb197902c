"""LMD: log-normal multiplicative dynamics."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from ..formats.errors import InputError
from .checked import CheckedOptimizer
from .checks import step_allowed, whole
from .components import PLACE, begin
from .lmd_blocks import Block, Total, accumulate, blocks_of
from .lmd_evaluation import evaluated
from .lmd_options import check_options
from .lmd_plain import add_plain, step_plain
from .lmd_steps import draw, shares, step
from .noise import ROUNDING, START, TRAINING, Draws, Place


class LMD(CheckedOptimizer):
    """Multiplicative steps on two positive log-normal components of every weight.

    With w = w⁺ − w⁻, w± = m±·ε±, ε± = exp(σz±), z± ~ N(0, 1), g = dLoss/dw, one step is

        u±      = mean over S samples of ±w±·g
        v_temp± = β₁·v± + (1 − β₁)·u±
        m±      ← m±·exp(−η·(sign(v_temp±) + λ·R(m±)))
        v±      ← β₂·v± + (1 − β₂)·u±

    The parameters hold a noisy sample w from construction on: a forward pass needs nothing
    else, and each step leaves the next sample there. Evaluate inside `eval_weights()`. Where the
    two signs oppose, m⁺·m⁻ is conserved: a step is about 2ηc near w = 0 and η·|w| far from it.

    State is m± and v±, four vectors in float32 (float64 for float64 parameters), and w±, two
    more, unless `keep_sample` is off: then w± is drawn again from the generator's recorded
    state. Medians stay within 2^±94.5 (`medians.limits`).

    Source: Nishida, Kiral, Bannai, Khan, Möllenhoff, arXiv 2506.17768. Its Algorithm 1 was not
    at hand. Marks: [P] in its abstract, [R] told by its readers, [A] in its ancestor (arXiv
    2303.04397), [D] derived here, [?] a choice of this reconstruction.

    Args:
        params: parameters or groups; every option below but samples, seed, keep_sample,
            fused and nonfinite can be set in a group.
        lr: η, the relative change of a median in one step.
        betas: β₁, β₂ of v_temp and v [?]; equal ones give the rule with one momentum, sign(v).
        decay: λ, in units of the sign step.
        sigma: σ of log ε; may be changed between steps.
        floor: c > 0, what either component has beyond |w| at the start [?].
        regularizer: R; lognormal log(m/m₀), constant 1, gaussian m²·E[ε²], exponential m·E[ε].
            Noise and decay are multiplicative [P], decay is kept out of the momentum [R]; which
            R is [?].
        prior: m₀ of the log-normal R: one number, c/E[ε] (the median of w = 0), or the initial
            medians, two more vectors [?].
        momentum: of u± per component, two vectors, or one shared by both, of g itself [?]. The
            sign of a momentum and the gradient scaled by the weight are [R].
        update: "sign" [R]; "plain" leaves the sign out [A].
        init: "exact" m± = (max(±w, 0) + c)/E[ε], so that E[w] is the given w [R, D];
            "independent" |p±| + 1e-5 with p± ~ N(0, mean w²) [A], which does not keep w.
        noise: "lognormal" [P], "rayleigh" [A].
        temperature: τ/N of the ancestor, subtracted from u± [A].
        samples: S [R]; more than one needs a closure in `step`.
        seed: of the noise generator, whose state, a seed and a count, is part of
            `state_dict()`; see `noise` for the numbers themselves.
        storage: of m±: "median" as it is; "log" its logarithm, where the update is an addition
            [D]; or a logarithmic format such as "lns15g128", codes where it is one integer add
            [D, ?]: see `medians.CodedMedians`, also for `storage_rounding`.
        keep_sample: keep w± from drawing to the next step, rather than drawing it twice.
        fused: step float32 medians on the CPU in one compiled pass, with the exp and log of
            `elementary`: within 1.28 ulp, the same bits on every machine and number of threads.
            Off, inside an emulation or under another torch dispatch mode, and for codes, float64
            and other devices, every operation is torch's, so that a chip rounds each.
        nonfinite: "refuse" or "skip" a step with a NaN or infinite gradient; those are counted
            in `counters`.
        rule: "adamw" in a group makes it a plain AdamW group without noise; lr, betas, `eps`
            and `weight_decay` are then AdamW's.

    No hyper-parameters of the paper are known. Defaults were chosen by test accuracy on
    handwritten digits (359 test images, float32, batch 64, cosine schedule, evaluated at the
    median) among η 0.005 to 0.04, c 0.003 to 0.1, λ 0, 0.01, 0.1 and σ 0.05, 0.1, not in every
    combination. A Vision Transformer of width 64 and depth 2, mean of five seeds: η 0.02, c
    0.03, λ 0.1 reach 96.8 % in 100 steps on 4 x 4 patches and 97.2 % in 600 steps on 2 x 2
    patches (η 0.015: 97.6 %), where AdamW reaches 97.0 % and 97.6 %; in 300 steps on 4 x 4
    patches η 0.015, 0.02, 0.03 reach 97.3, 96.8, 96.9 %, AdamW 98.3 % (lr 0.003). With λ 0.01,
    η 0.04 trains in 100 steps on 2 x 2 patches (93 to 95 %) and fails in 600 (54 to 82 %).

    Raises:
        InputError: an option out of its range, or a parameter that is not real floating point.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.02,
        betas: tuple[float, float] = (0.9, 0.99),
        decay: float = 0.1,
        sigma: float = 0.1,
        floor: float = 0.03,
        *,
        regularizer: str = "lognormal",
        prior: str = "floor",
        momentum: str = "components",
        update: str = "sign",
        init: str = "exact",
        noise: str = "lognormal",
        temperature: float = 0.0,
        storage: str = "median",
        storage_rounding: str = "stochastic",
        keep_sample: bool = True,
        fused: bool = True,
        samples: int = 1,
        seed: int = 0,
        nonfinite: str = "refuse",
    ) -> None:
        self.samples = whole(samples, 1, "samples", PLACE)
        self.seed = whole(seed, 0, "seed", PLACE)
        self.keep_sample = keep_sample
        self.fused = fused
        self.generator = Draws(seed)
        self._sample_start = 0
        defaults = dict(
            lr=lr, betas=betas, decay=decay, sigma=sigma, floor=floor, regularizer=regularizer,
            prior=prior, momentum=momentum, update=update, init=init, noise=noise,
            temperature=temperature, storage=storage, storage_rounding=storage_rounding,
            rule="lmd", eps=1e-8, weight_decay=0.01,
        )  # fmt: skip
        self._constructed = False
        self._made: list[Block] | None = None
        super().__init__(params, defaults, nonfinite)
        self._constructed = True
        self._draw_sample(renew=True)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to those given at construction; all weights then take a new noisy sample."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        group["drawn_sigma"] = group["sigma"]
        if group["rule"] == "lmd":
            for p in group["params"]:
                self.state[p] = begin(p, group, self.generator.take(START))
        self._made = None
        if self._constructed:
            self._draw_sample(renew=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step from the gradients at hand, or from `samples` evaluations of `closure`.

        Raises:
            InputError: several samples without a closure; a sparse gradient.
            NonFiniteGradientError: nothing has been changed.
        """
        if closure is None and self.samples > 1:
            raise InputError(f"LMD: samples = {self.samples} needs step(closure): pass one")
        totals = dict[Block, list[Total]]() if self.samples > 1 else None
        sums = dict[Tensor, Tensor]()
        loss, start = None, self._sample_start
        try:
            for sample in range(self.samples):
                if sample:
                    self._draw_sample()
                if closure is not None:
                    with torch.enable_grad():
                        loss = closure()
                if not step_allowed(self.param_groups, PLACE, self.nonfinite):
                    self.counters["skipped_steps"] += 1
                    self._return_to(start)
                    return loss
                if totals is not None:
                    accumulate(totals, self._shares())
                add_plain(sums, self.param_groups)
        except InputError:
            self._return_to(start)
            raise
        self._advance(totals)
        step_plain(sums, self.param_groups, self.state, self.samples)
        return loss

    def eval_weights(
        self, mode: str = "median", draw: int = 0, draws: int = 16
    ) -> AbstractContextManager[None]:
        """Inside, the parameters hold weights to evaluate with; on leaving, the sample again.

        Args:
            mode: "median" m⁺ − m⁻; "mean" (m⁺ − m⁻)·E[ε]; "average" the mean of `draws` fresh
                samples; "sample" one of them, so that predictions averaged over `draw` = 0, 1,
                ... are a Monte-Carlo average.
            draw: which sample is the first; training's random numbers are not touched.

        Raises:
            InputError: an unknown mode.
        """
        return evaluated(self._blocks(), mode, draw, draws, self.seed)

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles; the blocks are made anew."""
        kept = (
            "samples", "seed", "keep_sample", "fused", "generator", "_sample_start", "_constructed",
        )  # fmt: skip
        own = {name: getattr(self, name) for name in kept}
        return super().__getstate__() | own | {"_made": None}

    def state_dict(self) -> dict[str, Any]:
        """torch's state_dict, the state of the generator, and the draw of the current sample."""
        return super().state_dict() | {
            "generator": self.generator.state(),
            "sample_start": self._sample_start,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`; load the parameters too, they hold the current sample.

        Raises:
            InputError: it is not the state of an LMD optimizer, or of one with another generator.
        """
        missing = {"generator", "sample_start"} - state_dict.keys()
        if missing:
            raise InputError(
                f'LMD: the state_dict has no "{min(missing)}": it is not the state of an LMD'
            )
        generator = Draws.restored(state_dict["generator"])
        super().load_state_dict(state_dict)
        self._made, self.generator = None, generator
        self._sample_start = int(state_dict["sample_start"])
        self._blocks()  # laid out now, not as a part of the next step

    def _blocks(self) -> list[Block]:
        """The blocks of all LMD groups, in the order in which they draw their noise."""
        if self._made is None or not all(block.whole() for block in self._made):
            self._made = []
            for group in (group for group in self.param_groups if group["rule"] == "lmd"):
                first = self._made[-1].stop if self._made else 0
                self._made += blocks_of(group, self.state, first)
        return self._made

    @torch.no_grad()
    def _draw_sample(self, renew: bool = False) -> None:
        """Write the next noisy sample into the parameters and remember which draw it is.

        A changed σ counts from the first sample of a step on, which is drawn with `renew`.
        """
        place = self._next_draw()
        for block in self._blocks():
            sigma = block.group["sigma" if renew else "drawn_sigma"]
            draw(block, place, sigma, self.keep_sample, self.fused)
        if renew:
            self._note_sigmas()

    def _next_draw(self) -> Place:
        self._sample_start = self.generator.position
        return self.generator.take(TRAINING)

    def _note_sigmas(self) -> None:
        for group in self.param_groups:
            group["drawn_sigma"] = group["sigma"]

    def _return_to(self, start: int) -> None:
        """Draw the sample of draw `start` again, unless it is the current one."""
        if start != self._sample_start:
            self.generator.position = start
            self._draw_sample()

    def _shares(self) -> Iterator[Total]:
        """Every cut's share of u± from this sample, and which parameters have a gradient."""
        place = self.generator.place(TRAINING, self._sample_start)
        for block in self._blocks():
            yield from shares(block, place, self.samples)

    def _advance(self, totals: dict[Block, list[Total]] | None) -> None:
        """One step of all blocks, from `totals` or from the gradients; then the next sample."""
        old = self.generator.place(TRAINING, self._sample_start)
        rounding = self.generator.place(ROUNDING, self.generator.position)
        new = self._next_draw()
        for block in self._blocks():
            ours = None if totals is None else totals.get(block, [])
            step(block, ours, (old, new, rounding), self.keep_sample, self.fused)
        self._note_sigmas()

    def _check_options(self, group: dict[str, Any]) -> None:
        check_options(group)

    def _paper_bytes(self, p: Tensor, group: dict[str, Any]) -> int:
        """m± and v±, "one additional vector" to Adam's and the weight; two of AdamW's groups."""
        lmd = 3 if group["momentum"] == "shared" else 4
        return 4 * p.numel() * (lmd if group["rule"] == "lmd" else 2)
