"""A column of a study: one chip that computes with one recipe."""

from pathlib import Path
from typing import Annotated, Any, Protocol, Self

from pydantic import Field, model_validator
from torch.nn import Module

from ..simulator import Chip, Recipe, emulate, load_chip, load_recipe
from .location import Located

Name = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
AxisValue = str | int | float | bool


class AnyColumn(Protocol):
    """What a run needs of its column: of a scenario, or thawed from frozen inputs."""

    @property
    def name(self) -> str:
        """Of the column."""
        ...

    def load(self) -> tuple[Chip, Recipe]:
        """The chip and the recipe."""
        ...


class Column(Located):
    """A `[[columns]]` table: one chip computing with one recipe.

    Attributes:
        chip, recipe: of the library, or TOML files of the user's own.
        override: values of the recipe that differ, as in `load_recipe`.
        chip_override: values of the chip that differ, as in `load_chip`; reports tell them as
            assumptions.
        axes: where the column stands in a sweep, by axis; the sweep writes it.
    """

    name: Name
    chip: str
    recipe: str
    override: dict[str, Any] = Field(default_factory=dict)
    chip_override: dict[str, Any] = Field(default_factory=dict)
    axes: dict[str, AxisValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        with emulate(*self.load(), model=Module()):
            return self  # entering refuses a recipe that needs what the chip lacks

    def load(self) -> tuple[Chip, Recipe]:
        """The chip and the recipe as their files stand now.

        Raises:
            InputError: no such chip or recipe, or one that contradicts itself.
        """
        return self.load_chip(), self.load_recipe()

    def load_chip(self) -> Chip:
        """The chip, with its override."""
        return load_chip(named(self.chip, self._folder), self.chip_override or None)

    def load_recipe(self) -> Recipe:
        """The recipe, with its override."""
        return load_recipe(named(self.recipe, self._folder), self.override or None)


def named(name: str, folder: Path) -> str:
    """A name of the library as it is, or the place of a file."""
    return str(folder / name) if name.endswith(".toml") else name
