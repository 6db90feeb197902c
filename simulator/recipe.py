"""A recipe: which format, scaling and rounding each operand role takes on a chip."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from ..formats import Rounding, Stochastic
from ..formats.errors import InputError, choice
from .chip import Chip
from .memory.rows import LossScalingRow, MemoryTable
from .recipe_rows import GEMMS, OPERANDS, Gemm, Gemms, Operand, Outputs, merged, with_operands
from .tables import Row, checked, read_toml
from .units import arithmetic_format

RECIPES = Path(__file__).parent / "recipes"
#: What stands in for an fp8 format on chips that have it with one zero alone (FNUZ).
VARIANTS = {"float8_e4m3fn": "float8_e4m3fnuz", "float8_e5m2": "float8_e5m2fnuz"}


class RecipeTable(Row):
    """The TOML of a recipe.

    Attributes:
        weight, activation, gradient: operands of layers: activation x weight (fprop),
            gradient x weight (dgrad), activation x gradient (wgrad).
        attention: both operands of products of two activations, forward and backward.
        optimizer: both operands of products inside `optimizer.step()`.
        exempt: both operands of products of `exempt_modules` (shell patterns of module names) and
            of the first `exempt_first` and last `exempt_last` layers, in the model's order.
        gemm: what fprop, dgrad, wgrad, attention, optimizer or exempt products do differently.
        instruction: the matrix instruction of layers, where the chip has several.
        output: the formats of results.
        substitute: whether a chip without a unit for the formats multiplies them in wider ones
            that it has, as `matrix.paths` says; false refuses.
        variants: formats that stand in for others on chips that have only them.
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
    exempt_first: int = Field(default=0, ge=0)
    exempt_last: int = Field(default=0, ge=0)
    gemm: Gemms = Gemms()
    instruction: str | None = None
    output: Outputs = Outputs()
    substitute: bool = True
    variants: dict[str, str] = Field(default_factory=lambda: dict(VARIANTS))
    memory: MemoryTable = MemoryTable()
    loss_scaling: LossScalingRow | None = None

    @model_validator(mode="before")
    @classmethod
    def _completed(cls, table: Any) -> Any:
        return with_operands(table) if isinstance(table, dict) else table

    @field_validator("variants")
    @classmethod
    def _known_variants(cls, names: dict[str, str]) -> dict[str, str]:
        return {arithmetic_format(k).name: arithmetic_format(v).name for k, v in names.items()}


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

    def operand(self, role: str, gemm: str | None = None) -> Operand:
        """The row of an operand role, one of OPERANDS, in a product of that kind."""
        row: Operand = getattr(self.rows, choice(role, OPERANDS, "operand role", self.place))
        own = None if gemm is None else getattr(self.gemm(gemm), role, None)
        return own or row

    def gemm(self, name: str) -> Gemm:
        """What a kind of product, one of GEMMS, does in its own way."""
        row: Gemm = getattr(self.rows.gemm, choice(name, GEMMS, "gemm", self.place))
        return row

    def rounding(
        self, role: str, chip: Chip, gemm: str | None = None, row: Operand | None = None
    ) -> Rounding | Stochastic:
        """The rounding of a role, as the chip's conversion unit does it, or software.

        `row` is the role's row where another one stands in for it, as on chips with variants.

        Raises:
            InputError: the chip's conversion unit has no such mode, and software may not stand in.
        """
        row, unit = row or self.operand(role, gemm), chip.conversion_unit
        if row.format == "float32":
            return Rounding.NEAREST_EVEN  # nothing is converted
        if row.rounding in unit.roundings:
            stochastic = row.rounding == "stochastic"
            return unit.stochastic(row.fmt.name) if stochastic else Rounding(row.rounding)
        if row.rounding_in == "unit":
            raise InputError(
                f'{self.place}: {role} rounding = "{row.rounding}" is not one of '
                f"{', '.join(unit.roundings)}, the modes of {chip.name}'s conversion unit; "
                'override the recipe (rounding_in = "software" rounds without the unit) or choose '
                "another chip"
            )
        if row.rounding == "stochastic":
            return Stochastic(row.random_bits)
        return Rounding(row.rounding)


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
        table = merged(table, _spread(dict(override)))
        place += " with override"
    return recipe_from_table(table, place)


def recipe_from_table(table: dict[str, Any], place: str) -> Recipe:
    """The recipe that a table describes, such as the one that a run was frozen with.

    Raises:
        InputError: a fault in it; `place` says where it stands.
    """
    return Recipe(checked(RecipeTable, table, place), table, place)


def _spread(override: dict[str, Any]) -> dict[str, Any]:
    """`rounding` at the top, said for each layer operand."""
    if "rounding" not in override:
        return override
    rounding = override.pop("rounding")
    each = {role: {"rounding": rounding} for role in ("weight", "activation", "gradient")}
    return merged(each, override)
