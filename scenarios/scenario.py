"""The scenario file: which model learns which data, with which optimizers, on which chips."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from ..formats.errors import InputError, choice, hint
from ..simulator.tables import Row, checked, read_toml
from .columns import Column, Name
from .data import AnyDataSpec, DataSpec, load_data
from .data.digits import DigitsSpec
from .hyperparameters import NonNegative, Optimizer, check_optimizer
from .models import AnyModelSpec, ModelSpec
from .resources import ResourceSpec
from .settings import apply_settings
from .sweeping import SweepTable, expand_sweep
from .thresholds import Thresholds
from .train import TrainSpec

LIBRARY = Path(__file__).parent / "library"


class Scenario(Row):
    """A study: every optimizer in every column from every seed, judged against `reference`.

    Attributes:
        name, summary: what the study is called, and one line about it.
        metric: of the final evaluation, by which columns are compared.
        tolerance: the largest loss of the metric against the reference column that is no loss.
        reference: the column that the others are judged against, by its name.
        sweep: columns along axes; see `sweeping.SweepTable`.
        thresholds: what a column must reach for a GO.
    """

    name: Name
    summary: str
    seeds: tuple[Annotated[int, Field(strict=True, ge=0)], ...]
    model: ModelSpec
    data: DataSpec = DigitsSpec()
    metric: Literal["test_accuracy", "test_loss"] = Field("test_accuracy", validate_default=True)
    tolerance: NonNegative
    train: TrainSpec
    optimizers: tuple[Optimizer, ...]
    columns: tuple[Column, ...]
    reference: str
    sweep: SweepTable = SweepTable()
    thresholds: Thresholds = Thresholds()
    resources: ResourceSpec = ResourceSpec()

    @field_validator("model", "data", mode="before")
    @classmethod
    def _has_a_kind(cls, table: object, info: ValidationInfo) -> object:
        usual = "vit" if info.field_name == "model" else "digits"
        return {"kind": usual} | table if isinstance(table, dict) else table

    @field_validator("optimizers", mode="before")
    @classmethod
    def _are_known(cls, tables: object) -> object:
        if not isinstance(tables, list):
            return tables
        return [check_optimizer(table, number) for number, table in enumerate(tables, start=1)]

    @field_validator("seeds", "optimizers", "columns")
    @classmethod
    def _are_some_and_distinct(cls, rows: tuple[Any, ...]) -> tuple[Any, ...]:
        names = [str(getattr(row, "name", row)) for row in rows]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise InputError(f"{', '.join(repeated)} appears more than once: keep one of each")
        if not rows:
            raise InputError("the list is empty: give at least one")
        return rows

    @field_validator("train")
    @classmethod
    def _fits_the_data(cls, train: TrainSpec, info: ValidationInfo) -> TrainSpec:
        if "data" in info.data and "model" in info.data:
            check_fit(info.data["model"], info.data["data"], train)
        return train

    @field_validator("metric")
    @classmethod
    def _is_measured(cls, metric: str, info: ValidationInfo) -> str:
        data = info.data.get("data")
        if data is not None and metric == "test_accuracy":
            if load_data(data).objective == "regression":
                raise InputError('a regression has no test_accuracy: set metric = "test_loss"')
        return metric

    @field_validator("reference")
    @classmethod
    def _is_a_column(cls, reference: str, info: ValidationInfo) -> str:
        names = [column.name for column in info.data.get("columns", ())]
        if names and reference not in names:
            listed = ", ".join(names)
            raise InputError(
                f'"{reference}" is not one of the columns {listed}{hint(reference, names)}'
            )
        return reference

    @field_validator("thresholds")
    @classmethod
    def _can_be_judged(cls, thresholds: Thresholds, info: ValidationInfo) -> Thresholds:
        names = [optimizer.name for optimizer in info.data.get("optimizers", ())]
        if names and thresholds.baseline is not None:
            choice(thresholds.baseline, names, "baseline")
        sweep = info.data.get("sweep")
        if thresholds.lr_margin is not None and sweep is not None and len(sweep.lr_factors) == 1:
            raise InputError("lr_margin needs [sweep] lr_factors such as [0.25, 0.5, 1, 2, 4]")
        return thresholds


def list_scenarios() -> list[str]:
    """The names of the scenarios that come with Tapeout."""
    return sorted(path.stem for path in LIBRARY.glob("*.toml"))


def scenario_path(name_or_path: str | Path) -> Path:
    """The file of a library scenario, or of a path that ends in .toml or holds a separator.

    Raises:
        InputError: no scenario of the library has this name.
    """
    text = str(name_or_path)
    if text.endswith(".toml") or "/" in text:
        return Path(text)
    return LIBRARY / f"{choice(text, list_scenarios(), 'scenario')}.toml"


def load_scenario(name_or_path: str | Path, settings: Sequence[str] = ()) -> Scenario:
    """The checked scenario; its chips and recipes have been loaded once, so they exist.

    Nothing of the user's own code is imported. Relative paths in the file start from its folder.

    Args:
        settings: values that replace the file's, as "train.steps=100"; see `apply_settings`.

    Raises:
        InputError: one sentence about everything that is wrong, before anything runs.
    """
    path = scenario_path(name_or_path)
    place, folder = path.name, path.parent.resolve()
    table = read_toml(path)
    if settings:
        table, place = apply_settings(table, settings), f"{place} with --set"
    table = expand_sweep(table, place, folder)
    return checked(Scenario, table, place, {"folder": folder})


def check_fit(model: AnyModelSpec, data: AnyDataSpec, train: TrainSpec) -> None:
    """The model must take the data's inputs, and the data have enough of them.

    Raises:
        InputError: a size of the model, the batch or the probe does not fit.
    """
    examples = load_data(data)
    refusal = model.refusal(examples)
    if refusal:
        raise InputError(refusal)
    count = len(examples.train_inputs)
    for name, given in (("batch", train.batch), ("probe", train.probe)):
        if given > count:
            raise InputError(f"{name} = {given} is more than the {count} training examples")
