"""The `[sweep]` table: columns that differ along declared axes, and learning rates to try."""

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from ..formats.errors import InputError, choice
from ..simulator import load_chip, load_recipe
from ..simulator.recipe_rows import merged
from ..simulator.tables import Row, checked
from .axes import AXES, OWN, axis_change
from .columns import AxisValue, Column, named
from .hyperparameters import Positive


class Part(Row):
    """Keys of a column that a value of an axis, or the base of all columns, gives."""

    chip: str | None = None
    recipe: str | None = None
    override: dict[str, Any] = Field(default_factory=dict)
    chip_override: dict[str, Any] = Field(default_factory=dict)

    def keys(self) -> dict[str, Any]:
        """The keys that are given."""
        return {key: value for key, value in self if value}


class SweepTable(Row):
    """Columns made of every combination of values along `axes`, and of those in `list`.

    Attributes:
        name: what the columns' names begin with; the base's chip and recipe if left out.
        base: what the columns have in common.
        axes: values by axis: known ones (`axes.AXES`), or names from `choices`. "own" leaves
            what chip and recipe do.
        choices: what the values of an axis mean, as keys of a column, by axis and name.
        combinations: `list`, single combinations: one value for each axis.
        lr_factors: factors on every optimizer's learning rate; 1 is one of them, because
            verdicts rest on it.
    """

    name: str | None = None
    base: Part = Part()
    axes: dict[str, tuple[AxisValue, ...]] = Field(default_factory=dict)
    choices: dict[str, dict[str, Part]] = Field(default_factory=dict)
    combinations: tuple[dict[str, AxisValue], ...] = Field(default=(), alias="list")
    lr_factors: tuple[Positive, ...] = (1.0,)

    @field_validator("lr_factors")
    @classmethod
    def _rest_on_one(cls, factors: tuple[float, ...]) -> tuple[float, ...]:
        if 1.0 not in factors or len(set(factors)) < len(factors):
            raise InputError(
                f"lr_factors = {list(factors)} must hold 1, on which verdicts rest, and each once"
            )
        return factors

    @field_validator("axes")
    @classmethod
    def _are_some(cls, axes: dict[str, tuple[AxisValue, ...]]) -> dict[str, tuple[AxisValue, ...]]:
        for axis, values in axes.items():
            if not values or len({str(value) for value in values}) < len(values):
                raise InputError(f"axes {axis} = {list(values)} must hold values, and each once")
        return axes

    def points(self) -> Iterator[dict[str, AxisValue]]:
        """Every combination: the product of the axes, the last one fastest, then the list."""
        if self.axes:
            for values in product(*self.axes.values()):
                yield dict(zip(self.axes, values, strict=True))
        yield from self.combinations


def expand_sweep(table: dict[str, Any], place: str, folder: Path) -> dict[str, Any]:
    """A scenario's table with the columns of its `[sweep]` after those in `[[columns]]`.

    Raises:
        InputError: an axis or a value that is unknown, or a combination that does not work; names
            the column.
    """
    if not isinstance(table.get("sweep"), dict):
        return table
    sweep = checked(SweepTable, table["sweep"], f"{place}, sweep")
    columns = [make_column(sweep, point, place, folder) for point in sweep.points()]
    written = table.get("columns", [])
    return table | {"columns": [*written, *columns]} if isinstance(written, list) else table


def make_column(
    sweep: SweepTable, point: Mapping[str, AxisValue], place: str, folder: Path
) -> Column:
    """The column at one point of the sweep: the base, changed axis by axis.

    Chip and recipe come first, the other axes as they are written, because what "order" changes
    depends on the units that the formats go to.
    """
    where = f"{place}, sweep column {point_name(sweep, point)}"
    axes = sorted(point, key=lambda axis: ("chip", "recipe", axis).index(axis))
    try:
        keys = sweep.base.keys()
        for axis in axes:
            keys = merged(keys, _change(sweep, axis, point[axis], keys, folder))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    table = {"name": point_name(sweep, point), **keys, "axes": dict(point)}
    return checked(Column, table, where, {"folder": folder})


def _change(
    sweep: SweepTable, axis: str, value: AxisValue, keys: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    own = sweep.choices.get(axis, {})
    if value == OWN and (own or axis in AXES):
        return {}
    if value in own or (own and axis not in AXES):
        return own[choice(str(value), own, axis)].keys()
    if axis in ("chip", "recipe"):
        return {axis: value}
    for key in ("chip", "recipe"):
        if key not in keys:
            raise InputError(f"has no {key}: give it in [sweep.base] or as an axis")
    chip = load_chip(named(keys["chip"], folder), keys.get("chip_override"))
    recipe = load_recipe(named(keys["recipe"], folder), keys.get("override"))
    return axis_change(axis, value, chip, recipe)


def point_name(sweep: SweepTable, point: Mapping[str, AxisValue]) -> str:
    """`<base>-<value>-...`: numbers and "own" with the name of their axis."""
    base = sweep.name
    if base is None:
        given = [getattr(sweep.base, key) for key in ("chip", "recipe") if key not in point]
        base = "-".join(name.rpartition("/")[2].removesuffix(".toml") for name in given if name)
    parts = [
        value.rpartition("/")[2].removesuffix(".toml")
        if isinstance(value, str) and value != OWN
        else f"{axis}-{value}"
        for axis, value in point.items()
    ]
    return "-".join(part for part in (base, *parts) if part)
