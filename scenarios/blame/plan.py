"""The runs that blame needs, as a study of their own inside the study that they are about."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

from ...formats.errors import InputError
from ...simulator import Chip, Recipe
from ..environment import processor, revision, versions
from ..folder import SCHEMA, RunFolder
from ..frozen import FrozenColumn, thaw
from ..layout import STUDY, digest, slug
from ..models import build_model
from ..storage import DamagedFile, make_folder, read_json, write_json
from ..study import Run, Study
from ..train import TrainSpec
from .ingredient import Ingredient, list_ingredients, pick
from .part import everything
from .restoration import Restored, restore

AS_RUN, REFERENCE = "as-run", "all-float32"
SEEDS = 3
#: The share of the steps, at the end, whose mean training loss is the measure.
TAIL = 0.25


@dataclass(frozen=True)
class Options:
    """What is asked for: the number of steps (None: the run's own), of seeds, and the suspects."""

    steps: int | None = None
    seeds: int = SEEDS
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Suspect:
    """An ingredient with the columns that are computed for it; alone is None for a rounding."""

    ingredient: Ingredient
    without: str
    alone: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Blame:
    """The study of blame's runs, and who is suspected."""

    study: Study
    suspects: tuple[Suspect, ...]


class _Columns:
    """Columns by name; pairs of equal tables are computed once."""

    def __init__(self) -> None:
        self.rows: dict[str, FrozenColumn] = {}
        self._names: dict[str, str] = {}

    def add(self, name: str, chip: Chip, recipe: Recipe) -> str:
        """The name under which this pair is computed."""
        key = digest([chip.table, recipe.table])
        if key not in self._names:
            self._names[key] = name
            self.rows[name] = FrozenColumn(name=name, chip=chip.table, recipe=recipe.table)
        return self._names[key]


def open_blame(folder: Path, options: Options) -> Blame:
    """Plan the runs for the run in `folder`, and make (or find again) their study folder.

    It stands in `blame/` beside the run folder. The runs are ordinary ones: named by their inputs,
    found again when they have been computed before, from this run or from another seed of it.

    Raises:
        InputError: `folder` holds no run, an option is out of its range, or nothing in the run's
            arithmetic is narrower than float32.
    """
    run = thaw(folder)
    chip, recipe = run.column.load()
    train = _shortened(run.train, options.steps)
    columns = _Columns()
    columns.add(AS_RUN, chip, recipe)
    reference = restore(chip, recipe, everything(recipe))
    if columns.add(REFERENCE, reference.chip, reference.recipe) == AS_RUN:
        raise InputError(f"{folder}: nothing in this run is narrower than float32: nobody to blame")
    model = build_model(run.model, run.seed)
    ingredients = pick(list_ingredients(recipe, model), options.only)
    suspects = _suspects(ingredients, chip, recipe, columns)
    seeds = _seeds(folder, run, options.seeds)
    runs = tuple(
        replace(run, column=column, seed=seed, train=train)
        for column in columns.rows.values()
        for seed in seeds
    )
    study = _make_study(folder, run, runs, suspects, options)
    return Blame(study, suspects)


def _suspects(
    ingredients: Sequence[Ingredient], chip: Chip, recipe: Recipe, columns: _Columns
) -> tuple[Suspect, ...]:
    """Those that change anything, with their columns."""
    products = frozenset(p for p in everything(recipe) if p.kind in ("operand", "sums", "result"))
    narrow = _differs(restore(chip, recipe, products), chip, recipe)
    found = []
    for ingredient in ingredients:
        without = ingredient.without(chip, recipe)
        if not _differs(without, chip, recipe) or (ingredient.kind == "layers" and not narrow):
            continue
        alone = ingredient.alone(chip, recipe)
        notes = (*without.notes, *(alone.notes if alone else ()))
        found.append(
            Suspect(
                ingredient,
                columns.add(f"without-{ingredient.name}", without.chip, without.recipe),
                columns.add(f"only-{ingredient.name}", alone.chip, alone.recipe) if alone else None,
                tuple(dict.fromkeys(notes)),
            )
        )
    return tuple(found)


def _differs(pair: Restored, chip: Chip, recipe: Recipe) -> bool:
    return pair.chip.table != chip.table or pair.recipe.table != recipe.table


def _shortened(train: TrainSpec, steps: int | None) -> TrainSpec:
    """The same training in `steps` steps, its schedule compressed; only evaluated at the end."""
    if steps is not None and steps < 2:
        raise InputError(f"steps = {steps} must be at least 2")
    count = train.steps if steps is None else steps
    table = train.model_dump() | {"steps": count, "evaluate_every": count, "trace_every": count}
    table["warmup"] = min(train.warmup, count // 4) if steps is not None else train.warmup
    table["checkpoint_every"] = count
    return TrainSpec.model_validate(table)


def _seeds(folder: Path, run: Run, count: int) -> tuple[int, ...]:
    """The run's own seed, those of the study around it, then the numbers that follow."""
    if count < 1:
        raise InputError(f"seeds = {count} must be at least 1")
    try:
        around = [int(seed) for seed in read_json(folder.parent / STUDY).get("seeds", [])]
    except DamagedFile:
        around = []
    follow = range(run.seed, run.seed + count + len(around) + 1)
    return tuple(dict.fromkeys([run.seed, *around, *follow]))[:count]


def _make_study(
    folder: Path,
    run: Run,
    runs: tuple[Run, ...],
    suspects: tuple[Suspect, ...],
    options: Options,
) -> Study:
    names = [one.folder_name(one.inputs(*one.column.load())) for one in runs]
    inputs = _study_inputs(folder, run, runs, names, suspects)
    # Named after what is blamed, not by how many seeds or suspects: those come and go.
    about = replace(run, seed=0, train=runs[0].train).inputs(*run.column.load())
    title = f"{slug(run.column.name)}--{run.optimizer.name}"
    path = folder.parent / "blame" / f"{title}--{digest(about)[:8]}"
    make_folder(path)
    record = {"command": _command(folder, options), "cpu": processor(), "git": revision()}
    write_json(path / STUDY, inputs | record)
    return Study(path, runs, tuple(RunFolder(path / name) for name in names))


def _command(folder: Path, options: Options) -> str:
    """The command line that does all this again."""
    words = ["tapeout", "blame", str(folder), "--seeds", str(options.seeds)]
    words += [] if options.steps is None else ["--steps", str(options.steps)]
    return shlex.join([*words, *(word for name in options.only for word in ("--only", name))])


def _study_inputs(
    folder: Path, run: Run, runs: tuple[Run, ...], names: list[str], suspects: tuple[Suspect, ...]
) -> dict[str, Any]:
    """A study.json like any other, and under `blame` who is suspected."""
    steps, columns = runs[0].train.steps, {one.column.name: one.column for one in runs}
    rows = zip(names, runs, strict=True)
    loaded = {name: column.load() for name, column in columns.items()}
    return {
        "schema": SCHEMA,
        "name": f"blame {run.column.name} {run.optimizer.name}",
        "summary": f"{run.column.name} with parts of its arithmetic put back to float32",
        "reference": REFERENCE,
        "metric": _metric(folder, run),
        "tolerance": 0.0,
        "columns": [
            {"name": name, "chip": chip.name, "recipe": recipe.name}
            for name, (chip, recipe) in loaded.items()
        ],
        "optimizers": [run.optimizer.model_dump(mode="json")],
        "seeds": list(dict.fromkeys(one.seed for one in runs)),
        "runs": [
            {"folder": name, "column": one.column.name, "optimizer": one.optimizer.name,
             "seed": one.seed}
            for name, one in rows
        ],
        "blame": {
            "column": run.column.name,
            "optimizer": run.optimizer.name,
            "as_run": AS_RUN,
            "steps": steps,
            "first": steps - max(1, ceil(TAIL * steps)) + 1,
            "suspects": [_row(suspect) for suspect in suspects],
        },
        "versions": versions(),
    }  # fmt: skip


def _row(suspect: Suspect) -> dict[str, Any]:
    one = suspect.ingredient
    return {
        "name": one.name,
        "kind": one.kind,
        "title": one.title,
        "without": suspect.without,
        "alone": suspect.alone,
        "parts": one.size,
        "notes": list(suspect.notes),
    }


def _metric(folder: Path, run: Run) -> str:
    """The study's metric, where the run stands in one; else the loss."""
    try:
        return str(read_json(folder.parent / STUDY).get("metric", "test_loss"))
    except DamagedFile:
        return "test_loss"
