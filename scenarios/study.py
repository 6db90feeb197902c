"""A study: the runs that a scenario asks for, and the folder they stand in."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..formats.errors import InputError
from ..simulator import Chip, Recipe, list_assumptions
from .columns import AnyColumn
from .data import AnyDataSpec, data_inputs
from .environment import processor, revision, versions
from .folder import SCHEMA, RunFolder
from .hyperparameters import Optimizer
from .layout import STUDY, digest, slug
from .models import AnyModelSpec, model_inputs
from .resources import ResourceSpec
from .scenario import Scenario, load_scenario, scenario_path
from .storage import DamagedFile, make_folder, read_json, write_json
from .train import TrainSpec, train_inputs


@dataclass(frozen=True)
class Run:
    """One optimizer on one chip from one seed: everything a worker needs to compute it."""

    column: AnyColumn
    optimizer: Optimizer
    seed: int
    model: AnyModelSpec
    data: AnyDataSpec
    train: TrainSpec
    lr_factor: float = 1.0

    @property
    def label(self) -> str:
        """The run in the words of the scenario, for progress and messages."""
        factor = "" if self.lr_factor == 1 else f" lr x{self.lr_factor:g}"
        return f"{self.column.name} {self.optimizer.name} seed {self.seed}{factor}"

    def inputs(self, chip: Chip, recipe: Recipe) -> dict[str, Any]:
        """What the numbers of this run depend on, chip and recipe written out: `run.json`."""
        return {
            "schema": SCHEMA,
            "column": self.column.name,
            "optimizer": self.optimizer.model_dump(mode="json"),
            "seed": self.seed,
            "lr_factor": self.lr_factor,
            "chip": chip.table,
            "recipe": recipe.table,
            "model": model_inputs(self.model),
            "data": data_inputs(self.data),
            "train": train_inputs(self.train),
            "assumed": list_assumptions(chip, recipe),
            "versions": versions(),
        }

    def folder_name(self, inputs: dict[str, Any]) -> str:
        """`<column>--<optimizer>--s<seed>--<hash8>`, readable and safe on every file system.

        A learning rate other than the table's own stands before the hash, as "lr0.5".
        """
        factor = [] if self.lr_factor == 1 else [f"lr{self.lr_factor:g}"]
        slugs = slug(self.column.name), self.optimizer.name, f"s{self.seed}", *factor
        return "--".join((*slugs, digest(inputs)[:8]))


@dataclass(frozen=True)
class Study:
    """The runs of a scenario and where they stand on disk."""

    path: Path
    runs: tuple[Run, ...]
    folders: tuple[RunFolder, ...]
    resources: ResourceSpec = field(default_factory=ResourceSpec)


def plan_runs(scenario: Scenario) -> tuple[Run, ...]:
    """Every column with every optimizer from every seed at every learning rate."""
    parts = (scenario.model, scenario.data, scenario.train)
    return tuple(
        Run(column, optimizer, seed, *parts, lr_factor=factor)
        for column in scenario.columns
        for optimizer in scenario.optimizers
        for seed in scenario.seeds
        for factor in scenario.sweep.lr_factors
    )


def open_study(
    name_or_path: str | Path, out: Path, settings: Sequence[str] = (), write: bool = True
) -> Study:
    """Load the scenario and make (or find again) its study folder, `study.json` included.

    Args:
        settings: values that replace the file's; see `load_scenario`.
        write: False makes nothing: only to see where everything would stand.

    Raises:
        InputError: the scenario is refused, or `out` cannot be written.
    """
    scenario, source = load_scenario(name_or_path, settings), scenario_path(name_or_path)
    runs = plan_runs(scenario)
    loaded = {column.name: column.load() for column in scenario.columns}
    names = [run.folder_name(run.inputs(*loaded[run.column.name])) for run in runs]
    _are_distinct(runs, names)
    inputs = _study_inputs(scenario, runs, names)
    path = out / f"{slug(scenario.name)}-{digest(inputs)[:8]}"
    record = {
        "command": reproducing_command(name_or_path, settings),
        "settings": list(settings),
        "cpu": processor(),
        "git": revision(),
        "scenario_toml": source.read_text(encoding="utf-8"),
    }
    if write:
        make_folder(path)
        if not _holds(path / STUDY, inputs):
            write_json(path / STUDY, inputs | record)
    return Study(path, runs, tuple(RunFolder(path / name) for name in names), scenario.resources)


def _are_distinct(runs: Sequence[Run], names: Sequence[str]) -> None:
    """Two runs of the same inputs, or whose 32 bits of hash are equal, would share a folder."""
    known: dict[str, Run] = {}
    for run, name in zip(runs, names, strict=True):
        if known.setdefault(name, run) is not run:
            raise InputError(f"{run.label} stands twice in the study, in one folder {name}")


def reproducing_command(name_or_path: str | Path, settings: Sequence[str]) -> str:
    """The command line that runs the same study again."""
    parts = ["tapeout", "run", str(name_or_path)]
    for setting in settings:
        parts += ["--set", setting]
    return shlex.join(parts)


def _study_inputs(scenario: Scenario, runs: Sequence[Run], names: Sequence[str]) -> dict[str, Any]:
    facts = {
        "name",
        "summary",
        "reference",
        "metric",
        "tolerance",
        "columns",
        "optimizers",
        "seeds",
    }
    rows = [
        {
            "folder": name,
            "column": run.column.name,
            "optimizer": run.optimizer.name,
            "seed": run.seed,
            "lr_factor": run.lr_factor,
        }
        for run, name in zip(runs, names, strict=True)
    ]
    table = scenario.model_dump(mode="json", include=facts)
    table["thresholds"] = scenario.thresholds.model_dump(mode="json", exclude_none=True)
    return {"schema": SCHEMA, **table, "runs": rows, "versions": versions()}


def _holds(path: Path, inputs: dict[str, Any]) -> bool:
    """Whether the file at `path` was written for the same inputs, be it on another machine."""
    try:
        held = read_json(path)
    except DamagedFile:
        return False  # its content is known: it is written again
    return digest({key: held.get(key) for key in inputs}) == digest(inputs)
