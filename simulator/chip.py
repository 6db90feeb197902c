"""What a chip is: its units read from TOML, and how they are chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import Field

from ..formats.errors import InputError, choice
from .chip_override import overridden
from .dot_unit import DotUnit
from .tables import Row, checked, read_toml
from .units import Basis, ConversionUnit, MatrixUnit, Unit, VectorUnit, arithmetic_format

CHIPS = Path(__file__).parent / "chips"


class ChipTable(Row):
    """The TOML of a chip.

    Attributes:
        aliases: other names for it: products whose arithmetic is the same.
        architecture: the vendor's name for the generation.
    """

    name: str
    aliases: tuple[str, ...] = ()
    vendor: str
    architecture: str = ""
    summary: str
    matrix_units: tuple[MatrixUnit, ...] = Field(min_length=1)
    vector_unit: VectorUnit
    conversion_unit: ConversionUnit


@dataclass(frozen=True)
class Chip:
    """A chip: its checked rows, and the table they were read from, to be kept with a run."""

    rows: ChipTable
    table: dict[str, Any]
    place: str

    @property
    def name(self) -> str:
        """The chip's name, as in `load_chip`."""
        return self.rows.name

    @property
    def summary(self) -> str:
        """One line about the chip."""
        return self.rows.summary

    @property
    def matrix_units(self) -> tuple[MatrixUnit, ...]:
        """The matrix instructions."""
        return self.rows.matrix_units

    @property
    def vector_unit(self) -> VectorUnit:
        """Elementwise arithmetic and reductions."""
        return self.rows.vector_unit

    @property
    def conversion_unit(self) -> ConversionUnit:
        """Conversion into the operand formats."""
        return self.rows.conversion_unit

    def matrix_unit(
        self, a: str, b: str, output: str | None = None, instruction: str | None = None
    ) -> DotUnit:
        """The unit for operands of formats a and b; the chip's default where several match.

        Raises:
            InputError: the chip multiplies no such operands, or not with that output or
                instruction; lists what it has.
        """
        row = self.matrix_row(a, b, output, instruction)
        return row.unit(a, b, f"{self.name}, {row.instruction}")

    def matrix_row(
        self, a: str, b: str, output: str | None = None, instruction: str | None = None
    ) -> MatrixUnit:
        """The row behind `matrix_unit`, with its evidence; arguments and errors as there."""
        names = arithmetic_format(a, self.place).name, arithmetic_format(b, self.place).name
        wanted = None if output is None else arithmetic_format(output, self.place).name
        found = [
            unit
            for unit in self.matrix_units
            if names[0] in unit.a
            and names[1] in unit.b
            and wanted in (None, unit.output)
            and (instruction is None or instruction in unit.instructions)
        ]
        if not found:
            raise InputError(self._no_unit(*names, wanted, instruction))
        return next((unit for unit in found if unit.default), found[0])

    def _no_unit(self, a: str, b: str, output: str | None, instruction: str | None) -> str:
        asked = f"{a} x {b}"
        asked += f" -> {output}" if output else ""
        asked += f" by {instruction}" if instruction else ""
        offered = "; ".join(
            f"{'/'.join(u.a)} x {'/'.join(u.b)} -> {u.output} ({u.instruction})"
            for u in self.matrix_units
        )
        return f"{self.place}: no matrix unit for {asked}; the chip has {offered}"

    def units(self) -> list[tuple[str, Unit]]:
        """Every unit under the name that messages and reports give it."""
        return [
            *((f"matrix unit {u.instruction} ({u.output})", u) for u in self.matrix_units),
            ("vector unit", self.vector_unit),
            ("conversion unit", self.conversion_unit),
        ]

    def count_evidence(self) -> dict[Basis, int]:
        """How many of the chip's values are measured, documented and assumed."""
        found = [entry.basis for _, unit in self.units() for entry in unit.values().values()]
        return {basis: found.count(basis) for basis in get_args(Basis)}

    def operands(self) -> list[str]:
        """The operand formats of the matrix units, in the order of the file."""
        return list(dict.fromkeys(name for u in self.matrix_units for name in (*u.a, *u.b)))

    def assumptions(self, used: Sequence[MatrixUnit] | None = None) -> list[str]:
        """One sentence for each value that is neither measured nor documented.

        `used` narrows it to some of the matrix units.
        """
        units = [
            (what, unit)
            for what, unit in self.units()
            if used is None or not isinstance(unit, MatrixUnit) or unit in used
        ]
        told = (f"{self.name}, {what}: {text}" for what, u in units for text in u.assumptions())
        return list(dict.fromkeys(told))


def list_chips() -> list[str]:
    """The names of the library's chips, without their aliases."""
    return sorted(path.stem for path in CHIPS.glob("*.toml"))


@cache
def list_aliases() -> dict[str, str]:
    """Other names under which the library's chips load, each with the chip's own."""
    tables = {name: read_toml(CHIPS / f"{name}.toml") for name in list_chips()}
    return {alias: name for name, table in tables.items() for alias in table.get("aliases", [])}


def chip_path(name: str | Path) -> Path:
    """The file of a chip of the library, by name or alias, or of the user's own.

    Raises:
        InputError: no such chip.
    """
    path = Path(name)
    if path.suffix == ".toml":
        return path
    known = list_chips()
    if str(name) not in known:
        aliases = list_aliases()
        return CHIPS / f"{aliases.get(choice(str(name), [*known, *aliases], 'chip'))}.toml"
    return CHIPS / f"{name}.toml"


def load_chip(name: str | Path, override: Mapping[str, Any] | None = None) -> Chip:
    """The chip of that name or alias, or of a TOML file of the user's own.

    A chip loaded by an alias carries that name. `override` changes some of its values; see
    `chip_override.overridden`.

    Raises:
        InputError: no such chip, or a fault in its file or in the override, each with its place.
    """
    path = chip_path(name)
    table = read_toml(path)
    if path.parent == CHIPS and str(name) in table.get("aliases", []):
        table = table | {"name": str(name)}
    place = f"chips/{path.name}" if path.parent == CHIPS else str(path)
    chip = chip_from_table(table, place)
    if not override:
        return chip
    return chip_from_table(overridden(chip, override), f"{place} with chip_override")


def chip_from_table(table: dict[str, Any], place: str) -> Chip:
    """The chip that a table describes, such as the one that a run was frozen with.

    Raises:
        InputError: a fault in it; `place` says where it stands.
    """
    return Chip(checked(ChipTable, table, place), table, place)
