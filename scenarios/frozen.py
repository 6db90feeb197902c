"""A run again from the inputs that its folder was frozen with, months later and without its files.

`run.json` holds chip and recipe written out, so neither their TOML nor the scenario is needed.
"""

from pathlib import Path
from typing import Any

from pydantic import create_model

from ..formats.errors import InputError
from ..simulator import Chip, Recipe, chip_from_table, recipe_from_table
from ..simulator.tables import Row, checked
from .data import AnyDataSpec, DataSpec, data_inputs
from .folder import SCHEMA
from .hyperparameters import check_optimizer
from .models import ModelSpec
from .scenario import TrainSpec
from .storage import read_json
from .study import Run

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
    path = folder / "run.json"
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
        InputError: as `read_inputs`; or the data are not what the run was trained on.
    """
    inputs, place = read_inputs(folder), str(folder / "run.json")
    column = FrozenColumn(name=inputs["column"], chip=inputs["chip"], recipe=inputs["recipe"])
    optimizer: Any = check_optimizer(dict(inputs["optimizer"]), 1)
    return Run(
        column=column,
        optimizer=optimizer,
        seed=int(inputs["seed"]),
        model=_of_kind(ModelSpec, inputs["model"], f"{place}, model"),
        data=_thaw_data(inputs["data"], place),
        train=checked(TrainSpec, inputs["train"], f"{place}, train"),
    )


def _thaw_data(table: dict[str, Any], place: str) -> AnyDataSpec:
    known = {key: value for key, value in table.items() if key != "sha256"}
    spec: AnyDataSpec = _of_kind(DataSpec, known, f"{place}, data")
    if data_inputs(spec) != table:
        raise InputError(f"{place}: the data have changed since the run: restore the file it read")
    return spec


def _of_kind(union: Any, table: dict[str, Any], place: str) -> Any:
    """A table as the specification that its `kind` names."""
    holder: Any = create_model("Holder", __base__=Row, table=(union, ...))
    return checked(holder, {"table": table}, place).table


__all__ = ["FrozenColumn", "read_inputs", "thaw"]
