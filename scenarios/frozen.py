"""A run again from the inputs that its folder was frozen with, months later and without its files.

`run.json` holds chip and recipe written out, so neither their TOML nor the scenario is needed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import create_model

from ..formats.errors import InputError
from ..simulator import Chip, Recipe, chip_from_table, recipe_from_table
from ..simulator.tables import Row, checked
from .data import DataSpec, data_inputs
from .folder import SCHEMA
from .hyperparameters import check_optimizer
from .layout import INPUTS
from .models import ModelSpec, model_inputs
from .storage import read_json
from .study import Run
from .train import TrainSpec, train_inputs

KEYS = ("column", "optimizer", "seed", "chip", "recipe", "model", "data", "train")


class FrozenColumn(Row):
    """A column whose chip and recipe are tables rather than names of files."""

    name: str
    chip: dict[str, Any]
    recipe: dict[str, Any]

    def load(self) -> tuple[Chip, Recipe]:
        """The chip and the recipe of the tables.

        Raises:
            InputError: a table that this version of Tapeout refuses.
        """
        chip = chip_from_table(self.chip, f"{self.name}, chip {self.chip.get('name')}")
        recipe = recipe_from_table(self.recipe, f"{self.name}, recipe {self.recipe.get('name')}")
        return chip, recipe


def read_inputs(folder: Path) -> dict[str, Any]:
    """The table in `run.json` of a run folder.

    Raises:
        InputError: it is missing, damaged, or of another schema; says which.
    """
    path = folder / INPUTS
    if not path.is_file():
        raise InputError(f"{folder}: holds no run.json; give a run folder that `tapeout run` wrote")
    inputs = read_json(path)
    if inputs.get("schema") != SCHEMA:
        raise InputError(f"{path}: schema = {inputs.get('schema')!r} is not {SCHEMA}")
    missing = [key for key in KEYS if key not in inputs]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}")
    return inputs


def thaw(folder: Path) -> Run:
    """The run whose frozen inputs stand in `folder`.

    Raises:
        InputError: as `read_inputs`; or a file that the run read has changed.
    """
    inputs, place = read_inputs(folder), str(folder / INPUTS)
    column = FrozenColumn(name=inputs["column"], chip=inputs["chip"], recipe=inputs["recipe"])
    optimizer: Any = check_optimizer(dict(inputs["optimizer"]), 1)
    return Run(
        column=column,
        optimizer=optimizer,
        seed=int(inputs["seed"]),
        model=_thaw(ModelSpec, inputs["model"], model_inputs, f"{place}, model"),
        data=_thaw(DataSpec, inputs["data"], data_inputs, f"{place}, data"),
        train=_thaw(TrainSpec, inputs["train"], train_inputs, f"{place}, train"),
        lr_factor=float(inputs.get("lr_factor", 1.0)),
    )


def _thaw(kind: Any, table: dict[str, Any], inputs: Callable[[Any], Any], place: str) -> Any:
    """A table as the specification that it was written from; what that reads is still the same.

    Files of the user's own are looked for from the folder in which Tapeout was started.
    """
    known = {key: value for key, value in table.items() if key != "sha256"}
    holder: Any = create_model("Holder", __base__=Row, table=(kind, ...))
    held: Any = checked(holder, {"table": known}, place)
    spec = held.table
    if inputs(spec) != table:
        raise InputError(
            f"{place}: what it reads has changed since the run: restore it, and start Tapeout in "
            "the folder of the scenario"
        )
    return spec


__all__ = ["FrozenColumn", "read_inputs", "thaw"]
