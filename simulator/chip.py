"""What a chip is: its units as frozen rows read from TOML, each value with its evidence."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ..formats import FloatFormat, IntegerFormat, get_format
from ..formats.errors import InputError, choice, hint
from ..formats.format import ArithmeticFormat
from .dot_unit import DotUnit
from .order import AnyOrder, Chain
from .tables import Row, checked, read_toml

CHIPS = Path(__file__).parent / "chips"
Basis = Literal["measured", "documented", "assumed"]


def arithmetic_format(name: str, where: str = "") -> ArithmeticFormat:
    """The float or integer format of that name.

    Raises:
        InputError: unknown, or a codebook, which no unit computes on.
    """
    fmt = get_format(name, where)
    if not isinstance(fmt, FloatFormat | IntegerFormat):
        raise InputError(f"{where}: format {fmt.name} is a codebook, which no unit computes on")
    return fmt


class Evidence(Row):
    """Where values come from: `of` names them, or is ["*"] for all that no other entry names."""

    of: tuple[str, ...] = ("*",)
    basis: Basis
    source: str = Field(min_length=1)


class Unit(Row):
    """A hardware unit: a table of values, every one covered by an entry of `evidence`."""

    evidence: tuple[Evidence, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _every_value_has_evidence(self) -> "Unit":
        values = set(type(self).model_fields) - {"evidence", "default"}
        named = [name for entry in self.evidence for name in entry.of if name != "*"]
        for name in named:
            if name not in values:
                raise InputError(f'evidence of = "{name}" is not a value{hint(name, values)}')
            if named.count(name) > 1:
                raise InputError(f'evidence of = "{name}" stands twice')
        if not any("*" in entry.of for entry in self.evidence) and set(named) != values:
            missing = ", ".join(sorted(values - set(named)))
            raise InputError(f'no evidence for {missing}; name them, or use of = ["*"]')
        return self

    def assumptions(self) -> list[str]:
        """One sentence for each assumed entry."""
        return [
            f"{', '.join(entry.of).replace('*', 'all other values')}: {entry.source}"
            for entry in self.evidence
            if entry.basis == "assumed"
        ]

    @property
    def basis(self) -> Basis:
        """The weakest basis among the unit's values."""
        bases = {entry.basis for entry in self.evidence}
        return next(b for b in ("assumed", "documented", "measured") if b in bases)

    @property
    def source(self) -> str:
        """All sources, in order."""
        return "; ".join(entry.source for entry in self.evidence)


class Promotion(Row):
    """The outer accumulator: every `every` products the inner sum is added to it."""

    every: int = Field(ge=4)
    accumulator: str
    rounding: str = "nearest_even"
    flush: bool = False

    @cached_property
    def step(self) -> Chain:
        """The addition, as the chain step it is."""
        return Chain(
            order="chain", accumulator=self.accumulator, rounding=self.rounding, flush=self.flush
        )


class MatrixUnit(Unit):
    """A matrix instruction: which operands it takes and how it accumulates.

    Attributes:
        instructions: those that behave alike, by their vendor's names.
        a, b: operand formats; any of a with any of b.
        default: preferred among units with the same operands and output.
    """

    instructions: tuple[str, ...] = Field(min_length=1)
    a: tuple[str, ...] = Field(min_length=1)
    b: tuple[str, ...] = Field(min_length=1)
    output: str
    dot: AnyOrder
    promotion: Promotion | None = None
    k_order: tuple[int, ...] = ()
    default: bool = False

    @field_validator("a", "b")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(arithmetic_format(name).name for name in names)

    @field_validator("output")
    @classmethod
    def _known_output(cls, name: str) -> str:
        return arithmetic_format(name).name

    @model_validator(mode="after")
    def _buildable(self) -> "MatrixUnit":
        for a in self.a:
            for b in self.b:
                self.unit(a, b, "unit")
        return self

    def unit(self, a: str, b: str, name: str) -> DotUnit:
        """The dot unit for operands of formats a and b."""
        return DotUnit(
            arithmetic_format(a), arithmetic_format(b), arithmetic_format(self.output), self.dot,
            self.promotion.every if self.promotion else None,
            self.promotion.step if self.promotion else None, self.k_order, name,
        )  # fmt: skip

    @property
    def instruction(self) -> str:
        """The instructions that behave so, in one line."""
        return ", ".join(self.instructions)

    @property
    def order(self) -> str:
        """The family of the accumulation order."""
        return self.dot.order

    def describe(self) -> str:
        """One line: the accumulation, and what surrounds it."""
        text = self.dot.describe()
        if self.k_order:
            text += f"; k order {list(self.k_order)} in each {len(self.k_order)}"
        if self.promotion:
            text += f"; every {self.promotion.every} products added to {self.promotion.accumulator}"
        return text


class VectorUnit(Unit):
    """Elementwise arithmetic and reductions.

    Attributes:
        format, rounding: of every result; the one offered is float32, nearest-even, subnormals
            kept, which the host's own instructions round correctly.
        functions: exp, tanh, ... "rounded_once" from float64, or "host", the float32 library
            of the machine that runs the simulator.
        reduction: "tree" (x[i] + x[i + p] for p the largest power of two below the length, until
            one is left: the order of shuffles in a warp), or "sequential" (ascending).
        accumulator: format of a reduction's partial sums.
        bias: where a bias joins a matrix product: as C of the "accumulator", or added by this
            unit in the "epilogue".
    """

    format: Literal["float32"]
    rounding: Literal["nearest_even"] = "nearest_even"
    functions: Literal["rounded_once", "host"] = "rounded_once"
    reduction: Literal["tree", "sequential"] = "tree"
    accumulator: Literal["float32"]
    bias: Literal["accumulator", "epilogue"] = "epilogue"


class ConversionUnit(Unit):
    """Conversion into the operand formats.

    Attributes:
        roundings: the modes the hardware has.
        random_bits: k of its stochastic rounding; None if it has none.
        rule: how those bits decide; see `formats.Stochastic`.
    """

    roundings: tuple[str, ...] = Field(min_length=1)
    random_bits: int | None = Field(default=None, ge=1, le=32)
    rule: Literal["srff", "srf", "src"] = "srff"

    @model_validator(mode="after")
    def _consistent(self) -> "ConversionUnit":
        if ("stochastic" in self.roundings) != (self.random_bits is not None):
            raise InputError('random_bits goes with "stochastic" among roundings')
        return self


class ChipTable(Row):
    """The TOML of a chip."""

    name: str
    vendor: str
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
        row = next((unit for unit in found if unit.default), found[0])
        return row.unit(*names, f"{self.name}, {row.instruction}")

    def _no_unit(self, a: str, b: str, output: str | None, instruction: str | None) -> str:
        asked = f"{a} x {b}"
        asked += f" -> {output}" if output else ""
        asked += f" by {instruction}" if instruction else ""
        offered = "; ".join(
            f"{'/'.join(u.a)} x {'/'.join(u.b)} -> {u.output} ({u.instruction})"
            for u in self.matrix_units
        )
        return f"{self.place}: no matrix unit for {asked}; the chip has {offered}"

    def assumptions(self) -> list[str]:
        """One sentence for each value that is neither measured nor documented."""
        units: list[tuple[str, Unit]] = [
            *((f"matrix unit {u.instruction} ({u.output})", u) for u in self.matrix_units),
            ("vector unit", self.vector_unit),
            ("conversion unit", self.conversion_unit),
        ]
        return [f"{self.name}, {what}: {text}" for what, u in units for text in u.assumptions()]


def list_chips() -> list[str]:
    """The names of the library's chips."""
    return sorted(path.stem for path in CHIPS.glob("*.toml"))


def load_chip(name: str | Path) -> Chip:
    """The chip of that name, or of a TOML file of the user's own.

    Raises:
        InputError: no such chip, or a fault in its file, each with its place.
    """
    path = Path(name)
    if path.suffix != ".toml":
        path = CHIPS / f"{choice(str(name), list_chips(), 'chip')}.toml"
    table = read_toml(path)
    place = f"chips/{path.name}" if path.parent == CHIPS else str(path)
    return Chip(checked(ChipTable, table, place), table, place)
