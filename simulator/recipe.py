"""A recipe: which format, scaling and rounding each operand role takes on a chip."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ..formats import FloatFormat, Rounding, Stochastic
from ..formats.errors import InputError, choice
from ..formats.format import FLOAT32, ArithmeticFormat, fits
from ..formats.rounding import get_overflow, get_rounding
from .chip import Chip
from .memory.rows import LossScalingRow, MemoryTable
from .tables import Row, checked, read_toml
from .units import arithmetic_format

RECIPES = Path(__file__).parent / "recipes"
OPERANDS = ("weight", "activation", "gradient", "attention", "optimizer", "exempt")


class Operand(Row):
    """How one operand of a matrix product is prepared.

    With `scaling`, s = fl(largest / amax) over the tensor or over each row (a row holds all
    elements that meet in one dot product), q = round(fl(x s)), and the product is multiplied by
    fl(1 / s): all in float32, nearest-even, but for `round`, which is `rounding` into `format`.
    amax = 0 takes s = 1.
    """

    format: str
    scaling: Literal["none", "tensor", "row"] = "none"
    rounding: str = "nearest_even"
    overflow: str = "saturate"

    @field_validator("format")
    @classmethod
    def _known_format(cls, name: str) -> str:
        return arithmetic_format(name).name

    @field_validator("rounding")
    @classmethod
    def _known_rounding(cls, name: str) -> str:
        return str(get_rounding(name)) if name != "stochastic" else name

    @model_validator(mode="after")
    def _consistent(self) -> "Operand":
        policy = get_overflow(self.overflow)
        integer = not isinstance(self.fmt, FloatFormat)
        if integer and (self.scaling == "none" or policy != "saturate"):
            raise InputError(f'{self.format} needs a scaling and overflow = "saturate"')
        if not fits(self.fmt, FLOAT32):
            raise InputError(f"{self.format}: float32 cannot hold every value of this operand")
        return self

    @property
    def fmt(self) -> ArithmeticFormat:
        """The operand's format."""
        return arithmetic_format(self.format)


class Outputs(Row):
    """Formats in which the results of matrix products are stored, nearest-even."""

    fprop: str = "float32"
    dgrad: str = "float32"
    wgrad: str = "float32"
    attention: str = "float32"
    optimizer: str = "float32"

    @field_validator("*")
    @classmethod
    def _known(cls, name: str) -> str:
        fmt = arithmetic_format(name)
        if not isinstance(fmt, FloatFormat) or not fits(fmt, FLOAT32) or not fmt.infinity:
            raise InputError(f"{name} is not a float format with infinity that float32 holds")
        return fmt.name


class RecipeTable(Row):
    """The TOML of a recipe.

    Attributes:
        weight, activation, gradient: operands of layers: activation x weight (fprop),
            gradient x weight (dgrad), activation x gradient (wgrad).
        attention: both operands of products of two activations, forward and backward.
        optimizer: both operands of products inside `optimizer.step()`.
        exempt: both operands of products of `exempt_modules` (shell patterns of module names).
        instruction: the matrix instruction of layers, where the chip has several.
        memory, loss_scaling: see `memory.rows`.
    """

    name: str
    summary: str
    source: str = Field(min_length=1)
    weight: Operand
    activation: Operand
    gradient: Operand
    attention: Operand
    optimizer: Operand
    exempt: Operand = Operand(format="float32")
    exempt_modules: tuple[str, ...] = ()
    instruction: str | None = None
    output: Outputs = Outputs()
    memory: MemoryTable = MemoryTable()
    loss_scaling: LossScalingRow | None = None


@dataclass(frozen=True)
class Recipe:
    """A recipe: its checked rows, and the table as used, to be kept with a run."""

    rows: RecipeTable
    table: dict[str, Any]
    place: str

    @property
    def name(self) -> str:
        """The recipe's name, as in `load_recipe`."""
        return self.rows.name

    def operand(self, role: str) -> Operand:
        """The row of an operand role, one of OPERANDS."""
        row: Operand = getattr(self.rows, choice(role, OPERANDS, "operand role", self.place))
        return row

    def rounding(self, role: str, chip: Chip) -> Rounding | Stochastic:
        """The rounding of a role, as the chip's conversion unit does it.

        Raises:
            InputError: the chip's conversion unit has no such mode.
        """
        name, unit = self.operand(role).rounding, chip.conversion_unit
        if self.operand(role).format == "float32":
            return Rounding.NEAREST_EVEN  # nothing is converted
        if name not in unit.roundings:
            raise InputError(
                f'{self.place}: {role} rounding = "{name}" is not one of '
                f"{', '.join(unit.roundings)}, the modes of {chip.name}'s conversion unit; "
                "override the recipe or choose another chip"
            )
        if name == "stochastic":
            return unit.stochastic(self.operand(role).format)
        return Rounding(name)


def list_recipes() -> list[str]:
    """The names of the library's recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def load_recipe(name: str | Path, override: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of that name, or of a TOML file of the user's own, with `override` merged in.

    `override` has the keys of the table; `rounding` at its top is short for the rounding of
    weight, activation and gradient.

    Raises:
        InputError: no such recipe, or a fault in its file or in the override.
    """
    path = Path(name)
    if path.suffix != ".toml":
        path = RECIPES / f"{choice(str(name), list_recipes(), 'recipe')}.toml"
    place = f"recipes/{path.name}" if path.parent == RECIPES else str(path)
    table = read_toml(path)
    if override:
        table = _merged(table, _spread(dict(override)))
        place += " with override"
    return Recipe(checked(RecipeTable, table, place), table, place)


def _spread(override: dict[str, Any]) -> dict[str, Any]:
    """`rounding` at the top, said for each layer operand."""
    if "rounding" not in override:
        return override
    rounding = override.pop("rounding")
    each = {role: {"rounding": rounding} for role in ("weight", "activation", "gradient")}
    return _merged(each, override)


def _merged(table: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`table` with the values of `over` in place of its own, tables merged key by key."""
    result = deepcopy(table)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), dict):
            result[key] = _merged(result[key], value)
        else:
            result[key] = deepcopy(value)
    return result
