"""The moving parts of a run: model, optimizer, data, and what a checkpoint keeps of them."""

import random
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import torch

from .data import load_data
from .divergence import DivergenceWatch
from .measures import counting_activations
from .models import build_model
from .own_step import OwnStep, StepContext
from .study import Run


@dataclass
class Session:
    """The moving parts of one run between two steps; `state` is what a checkpoint keeps.

    Everything is a function of the run alone: weights, batches, noise and random bits come from
    its seed, on one thread or many.
    """

    run: Run
    step: int = 0
    emulation: dict[str, Any] | None = None
    reason: str = ""
    stopped: bool = False
    skipped: int = 0
    coverage: dict[str, dict[str, int]] = field(default_factory=dict)
    macs: int = 0
    memory: dict[str, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        run = self.run
        random.seed(run.seed)
        torch.manual_seed(run.seed)
        self.chip, recipe = run.column.load()
        self.recipe = counting_activations(recipe)
        self.data = load_data(run.data)
        self.model = build_model(run.model, run.seed)
        self.optimizer = run.optimizer.build(self.model, run.seed)
        groups = self.optimizer.param_groups
        self.base_rates = [float(group["lr"]) * run.lr_factor for group in groups]
        self.watch = DivergenceWatch(run.train.divergence)
        self.own_step: OwnStep | None = None
        if run.train.function is not None:
            parts = self.model, self.optimizer, self.data
            context = StepContext(*parts, seed=run.seed, steps=run.train.steps)
            self.own_step = OwnStep(run.train, context)

    @property
    def ended(self) -> bool:
        """Whether the last step is done, or the run has diverged."""
        return bool(self.reason) or self.step >= self.run.train.steps

    def skips(self, gradient_norm: float) -> bool:
        """Whether the emulation skips a step with this gradient, and the run goes on."""
        scaling = self.recipe.rows.loss_scaling
        self.skipped = 0 if isfinite(gradient_norm) else self.skipped + 1
        return self.skipped > 0 and scaling is not None and self.skipped <= scaling.patience

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, as tensors and plain scalars."""
        return {
            "step": self.step,
            "emulation": self.emulation,
            "reason": self.reason,
            "skipped": self.skipped,
            "coverage": self.coverage,
            "macs": self.macs,
            "memory": self.memory,
            "watch": [self.watch.first, self.watch.above],
            "own_step": None if self.own_step is None else self.own_step.context.state,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "torch_random": torch.get_rng_state(),
            "python_random": random.getstate(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`, which `load_checkpoint` returned."""
        self.step, self.emulation = state["step"], state["emulation"]
        self.reason, self.coverage = state["reason"], state["coverage"]
        self.macs, self.memory = state["macs"], state["memory"]
        self.skipped = state["skipped"]
        self.watch.first, self.watch.above = state["watch"]
        if self.own_step is not None:
            self.own_step.context.state = state["own_step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["torch_random"])
        random.setstate(state["python_random"])
