"""A run that was cut and resumed, and one on another number of threads, end with the same bytes."""

from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tapeout.formats import InputError
from tapeout.formats.jit import set_threads
from tapeout.optimizers import LMD, Shampoo4bit
from tapeout.scenarios import open_study
from tapeout.scenarios.checkpoint import load_checkpoint, save_checkpoint
from tapeout.scenarios.session import Session
from tapeout.scenarios.training import train_stretches
from tapeout.simulator import Chip, Recipe, emulate, list_recipes, load_chip, load_recipe

CHIPS = ("nvidia-h100", "nvidia-b200", "generic-int4", "generic-fp8-sr")
OPTIMIZERS: dict[str, Any] = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "lmd": lambda p: LMD(p, lr=0.02, seed=1),
    "shampoo": lambda p: Shampoo4bit(p, lr=0.01, statistics_every=2, roots_every=4),
}


class Network(nn.Module):
    """Layers wide enough for blocks of 32, a normalisation, and an attention of two products."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.norm, self.last = nn.Linear(32, 96), nn.LayerNorm(32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.first(x).chunk(3, -1)
        scores: Tensor = self.last(self.norm(x + torch.softmax(q @ k.mT, -1) @ v))
        return scores


class Running:
    """A run between two steps: everything that the next one depends on."""

    def __init__(self, optimizer: str) -> None:
        self.model = Network()
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.emulation: dict[str, Any] | None = None
        self.rows: list[Any] = []
        self.memory: list[Any] = []

    def train(self, chip: Chip, recipe: Recipe, first: int, stop: int) -> None:
        emulation = emulate(chip, recipe, model=self.model, seed=11, state=self.emulation)
        with emulation as trace:
            for step in range(first, stop):
                x = torch.randn((4, 8, 32), generator=torch.Generator().manual_seed(step))
                loss = F.cross_entropy(self.model(x).flatten(0, 1), torch.arange(32) % 4)
                if step == 4:
                    loss = loss * 1e38  # what loss scaling meets
                self.optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                if step != 4 or recipe.rows.loss_scaling is not None:
                    self.optimizer.step()
            self.rows += trace.take()
            self.emulation, self.memory = trace.state_dict(), trace.memory()

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "emulation": self.emulation,
        }


def leaves(node: Any, place: str = "") -> list[tuple[str, Any]]:
    """Every leaf of a tree by its place; tensors as bytes."""
    if isinstance(node, Tensor):
        return [(place, node.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())]
    if isinstance(node, dict):
        return [found for key in node for found in leaves(node[key], f"{place}.{key}")]
    if isinstance(node, list | tuple):
        return [found for i, value in enumerate(node) for found in leaves(value, f"{place}.{i}")]
    return [(place, repr(node))]


def chip_for(recipe: Recipe) -> Chip:
    """The first chip that runs a recipe."""
    refused: list[InputError] = []
    for name in CHIPS:
        chip = load_chip(name)
        try:
            with emulate(chip, recipe, model=Network()):
                return chip
        except InputError as error:
            refused.append(error)
    raise refused[-1]


RUNS = [*((name, "adamw") for name in list_recipes()), ("bf16-sr", "lmd"), ("fp8-lm", "shampoo"),
        ("fp16", "lmd")]  # fmt: skip


@pytest.mark.parametrize(("recipe", "optimizer"), RUNS)
def test_a_cut_and_resumed_run_ends_with_the_same_bytes(
    recipe: str, optimizer: str, tmp_path: Path
) -> None:
    used = load_recipe(recipe)
    chip = chip_for(used)
    whole = Running(optimizer)
    whole.train(chip, used, 0, 6)

    cut = Running(optimizer)
    cut.train(chip, used, 0, 3)
    save_checkpoint(tmp_path / "checkpoint", cut.state())
    state = load_checkpoint(tmp_path / "checkpoint")

    resumed = Running(optimizer)
    resumed.model.load_state_dict(state["model"])
    resumed.optimizer.load_state_dict(state["optimizer"])
    resumed.emulation = state["emulation"]
    resumed.train(chip, used, 3, 6)

    assert leaves(resumed.state()) == leaves(whole.state())
    assert cut.rows + resumed.rows == whole.rows
    assert resumed.memory == whole.memory
    assert leaves(cut.state()["model"]) != leaves(whole.state()["model"])
    if used.rows.loss_scaling is not None:
        assert whole.emulation is not None
        assert whole.emulation["loss_scaling"]["scale"] == used.rows.loss_scaling.initial / 2


@pytest.mark.parametrize("recipe", ["bf16-sr", "fp8-lm"])
def test_one_and_two_threads_give_the_same_bytes(recipe: str) -> None:
    used = load_recipe(recipe)
    ends = []
    for threads in (1, 2):
        set_threads(threads)
        run = Running("adamw")
        run.train(load_chip("nvidia-h100"), used, 0, 2)
        ends.append((leaves(run.state()), run.rows, run.memory))
    assert ends[0] == ends[1]


def test_evaluating_between_leaves_training_as_it_was() -> None:
    """With the state of training; what it draws and rounds goes with it."""
    used, chip = load_recipe("bf16-sr", {"memory": {"master": {}}}), load_chip("nvidia-h100")
    ends = []
    for evaluates in (False, True):
        run = Running("lmd")
        run.train(chip, used, 0, 2)
        if evaluates:
            before = leaves(run.state())
            emulation = emulate(chip, used, model=run.model, seed=1 << 32, state=run.emulation)
            with emulation, run.optimizer.eval_weights(), torch.no_grad():
                out = run.model(torch.ones(1, 8, 32))
                stored = run.model.last.weight.detach().clone()
            assert out.isfinite().all() and torch.equal(stored, stored.bfloat16().float())
            assert leaves(run.state()) == before
        run.train(chip, used, 2, 4)
        ends.append((leaves(run.state()), run.rows))
    assert ends[0] == ends[1]


def test_a_scenario_goes_on_through_skipped_steps_and_a_cut(
    write_tiny: Callable[..., Path], tmp_path: Path
) -> None:
    """The scale starts where float16 gradients overflow; each skip divides it by 64."""
    scaling = "override = { loss_scaling = { initial = 16777216, backoff = 0.015625 } }"
    column = 'chip = "nvidia-h100"\nrecipe = "fp16"\n' + scaling
    path = write_tiny(
        tmp_path, ('chip = "generic-int4"\nrecipe = "int4"', column), optimizers="lmd"
    )
    run = open_study(path, tmp_path / "runs").runs[1]

    def report(step: int, loss: float) -> None:
        pass

    whole = Session(run)
    norms = [row["grad_norm"] for rows in train_stretches(whole, report) for row in rows["metrics"]]
    assert not isfinite(norms[0]) and isfinite(norms[-1])
    assert (whole.reason, whole.step, whole.skipped) == ("", 5, 0)

    cut = Session(run)
    next(iter(train_stretches(cut, report)))
    assert cut.step == 2
    save_checkpoint(tmp_path / "checkpoint", cut.state())
    resumed = Session(run)
    resumed.restore(load_checkpoint(tmp_path / "checkpoint"))
    assert sum(len(rows["metrics"]) for rows in train_stretches(resumed, report)) == 3
    assert leaves(resumed.state()) == leaves(whole.state())
