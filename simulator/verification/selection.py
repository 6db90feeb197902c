"""Which unit of a chip is meant: `wgmma`, `5`, `e4m3,e4m3,float32`, or `mma.sync:e4m3,e5m2`."""

from dataclasses import dataclass

from ...formats import InputError
from ...formats.errors import hint
from ..chip import Chip
from ..dot_unit import DotUnit
from ..units import MatrixUnit, arithmetic_format


@dataclass(frozen=True)
class Chosen:
    """One matrix unit of a chip with one pair of operand formats.

    Attributes:
        number: the row's place in the chip's file, from 1.
        instruction: the name that was asked for, or all names of the row.
        a, b: canonical names of the operand formats.
    """

    chip: str
    number: int
    row: MatrixUnit
    instruction: str
    a: str
    b: str

    @property
    def unit(self) -> DotUnit:
        """The dot unit."""
        return self.row.unit(self.a, self.b, f"{self.chip}, {self.instruction}")

    @property
    def label(self) -> str:
        """As a user would ask for it."""
        return f"{self.instruction}:{self.a},{self.b},{self.row.output}"


def list_units(chip: Chip) -> list[Chosen]:
    """Every matrix unit with every pair of its operand formats."""
    return [
        Chosen(chip.name, number, row, row.instruction, a, b)
        for number, row in enumerate(chip.matrix_units, 1)
        for a in row.a
        for b in row.b
    ]


def find_units(chip: Chip, text: str) -> list[Chosen]:
    """The units that `text` names.

    text: an instruction or a row's number, operand formats `a,b` or `a,b,output`, or both with a
    colon between.

    Raises:
        InputError: an unknown format or instruction, or none such; lists what the chip has.
    """
    head, _, tail = text.partition(":")
    if "," in head and not tail:
        head, tail = "", text
    names = [arithmetic_format(name, f"unit {text}").name for name in tail.split(",") if tail]
    if tail and len(names) not in (2, 3):
        raise InputError(f'unit "{text}": formats are a,b or a,b,output, not {len(names)} names')
    units = list_units(chip)
    found = [
        Chosen(u.chip, u.number, u.row, head if head in u.row.instructions else u.instruction,
               u.a, u.b)
        for u in units
        if head in ("", str(u.number), u.instruction, *u.row.instructions)
        and (not names or [u.a, u.b, u.row.output][: len(names)] == names)
    ]  # fmt: skip
    if not found:
        known = [name for row in chip.matrix_units for name in row.instructions]
        raise InputError(
            f'{chip.place}: unit = "{text}" is not one of {offered(units)}{hint(head, known)}'
        )
    return found


def find_unit(chip: Chip, text: str) -> Chosen:
    """The one unit that `text` names; among units of the same formats the chip's default.

    Raises:
        InputError: none, or several; lists the choices.
    """
    found = find_units(chip, text)
    formats = {(u.a, u.b) for u in found}
    default = [u for u in found if u.row.default]
    if len(found) > 1 and len(formats) == 1 and len(default) == 1:
        return default[0]
    if len(found) > 1:
        raise InputError(
            f'{chip.place}: unit = "{text}" is ambiguous; say which of {offered(found)}'
        )
    return found[0]


def offered(units: list[Chosen]) -> str:
    """The units as they can be asked for, with their numbers."""
    return ", ".join(f"{u.number}:{u.a},{u.b},{u.row.output} ({u.instruction})" for u in units)
