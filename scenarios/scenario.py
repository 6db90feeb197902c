"""The scenario file: which model learns which data, with which optimizers, on which chips."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from torch.nn import Module

from ..formats.errors import InputError, choice, hint
from ..simulator import Chip, Recipe, emulate, load_chip, load_recipe
from ..simulator.tables import Row, checked, read_toml
from .data import AnyDataSpec, DataSpec, load_data
from .data.digits import DigitsSpec
from .hyperparameters import Count, NonNegative, Optimizer, check_optimizer
from .models import AnyModelSpec, ModelSpec
from .resources import ResourceSpec

LIBRARY = Path(__file__).parent / "library"

Name = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=60)]


class DivergenceRule(Row):
    """A run has diverged when its loss is not finite, or stays above `factor` times the first.

    "Stays" means in `patience` consecutive steps.
    """

    factor: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 3.0
    patience: Count = 20


class TrainSpec(Row):
    """The `[train]` table; every count is in optimizer steps, `batch` and `probe` in examples.

    The trace counts every `trace_every`-th step, the first one included.
    """

    steps: Count
    batch: Count = 64
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: Annotated[int, Field(strict=True, ge=0)] = 0
    evaluate_every: Count = 50
    checkpoint_every: Count = 50
    trace_every: Count = 50
    probe: Count = 256
    divergence: DivergenceRule = DivergenceRule()

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> Self:
        if self.warmup >= self.steps:
            raise InputError(f"warmup = {self.warmup} must be below steps = {self.steps}")
        return self


class Column(Row):
    """A `[[columns]]` table: one chip computing with one recipe, changed by `override`."""

    name: Name
    chip: str
    recipe: str
    override: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        with emulate(*self.load(), model=Module()):
            return self  # entering refuses a recipe that needs what the chip lacks

    def load(self) -> tuple[Chip, Recipe]:
        """The chip and the recipe as their files stand now.

        Raises:
            InputError: no such chip or recipe, or one that contradicts itself.
        """
        return load_chip(self.chip), load_recipe(self.recipe, override=self.override or None)


class Scenario(Row):
    """A study: every optimizer in every column from every seed, judged against `reference`."""

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


def load_scenario(name_or_path: str | Path) -> Scenario:
    """The checked scenario; its chips and recipes have been loaded once, so they exist.

    Raises:
        InputError: one sentence about everything that is wrong, before anything runs.
    """
    path = scenario_path(name_or_path)
    return checked(Scenario, read_toml(path), path.name)


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
