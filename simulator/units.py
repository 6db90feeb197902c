"""The units of a chip as frozen rows, each value with its evidence."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ..formats import FloatFormat, IntegerFormat, Rounding, Stochastic, get_format
from ..formats.errors import InputError, hint
from ..formats.format import FLOAT32, ArithmeticFormat, fits
from ..formats.rounding import get_rounding
from .dot_unit import DotUnit
from .order import AnyOrder, KOrder, Promotion, Sequence, SplitK
from .tables import Row

Basis = Literal["measured", "documented", "assumed"]


def arithmetic_format(name: str, where: str = "") -> ArithmeticFormat:
    """The float or integer format of that name.

    Raises:
        InputError: unknown, or of another family, which no unit computes on.
    """
    fmt = get_format(name, where)
    if not isinstance(fmt, FloatFormat | IntegerFormat):
        raise InputError(
            f"{where}: format {fmt.name} is no float or integer: no unit computes on it"
        )
    return fmt


class Evidence(Row):
    """Where values come from: `of` names them, or is ["*"] for all that no other entry names.

    "dot.chain" names a part of the value `dot` that is known otherwise than the rest of it.
    """

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
            value = name.split(".")[0]
            if value not in values:
                raise InputError(f'evidence of = "{name}" is not a value{hint(value, values)}')
            if named.count(name) > 1:
                raise InputError(f'evidence of = "{name}" stands twice')
        if not any("*" in entry.of for entry in self.evidence) and not values <= set(named):
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

    def evidence_of(self, value: str) -> Evidence:
        """The entry that covers a value, or a part of one that has an entry of its own."""
        named = (entry for entry in self.evidence if value in entry.of)
        return next(named, None) or next(e for e in self.evidence if "*" in e.of)

    def values(self) -> dict[str, Evidence]:
        """Each value that the unit has, and parts told apart, with the entry that covers it."""
        unset = {n for n, f in type(self).model_fields.items() if getattr(self, n) in (None, ())}
        names = [n for n in type(self).model_fields if n not in {"evidence", "default", *unset}]
        parts = [n for entry in self.evidence for n in entry.of if "." in n]
        return {name: self.evidence_of(name) for name in (*names, *parts)}

    @property
    def basis(self) -> Basis:
        """The weakest basis among the unit's values."""
        bases = {entry.basis for entry in self.evidence}
        return next(b for b in ("assumed", "documented", "measured") if b in bases)

    @property
    def source(self) -> str:
        """All sources, in order."""
        return "; ".join(entry.source for entry in self.evidence)


class MatrixUnit(Unit):
    """A matrix instruction: which operands it takes and how it accumulates.

    Attributes:
        instructions: those that behave alike, by their vendor's names.
        a, b: operand formats; any of a with any of b.
        dot: the accumulation order.
        promotion, k_order, split_k: what surrounds it; see `Promotion`, `Sequence`, `SplitK`.
        default: preferred among units with the same operands and output.
    """

    instructions: tuple[str, ...] = Field(min_length=1)
    a: tuple[str, ...] = Field(min_length=1)
    b: tuple[str, ...] = Field(min_length=1)
    output: str
    dot: AnyOrder
    promotion: Promotion | None = None
    k_order: KOrder = ()
    split_k: SplitK | None = None
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
            self.promotion.step if self.promotion else None, self.k_order, self.split_k, name,
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
        if isinstance(self.k_order, Sequence):
            text += f"; k order {self.k_order}"
        elif self.k_order:
            text += f"; k order {list(self.k_order)} in each {len(self.k_order)}"
        if self.promotion:
            text += f"; every {self.promotion.every} products added to {self.promotion.accumulator}"
        return text + (f"; {self.split_k.describe()}" if self.split_k else "")


class VectorUnit(Unit):
    """Elementwise arithmetic and reductions.

    Attributes:
        format: of every result: a float format that float32 holds, or float64.
        rounding: of every result; float64, than which nothing wider is at hand, is nearest_even.
        random_bits: k of rounding = "stochastic".
        rule: how those bits decide; see `formats.Stochastic`.
        flush: subnormals of the format that are zeros: none, inputs, outputs or both.
        functions: exp, tanh, ... "rounded_once" from float64, or "host", the library of the
            machine that runs the simulator.
        reduction: "tree" (x[i] + x[i + p] for p the largest power of two below the length, until
            one is left: the order of shuffles in a warp), or "sequential" (ascending).
        accumulator, accumulator_rounding: of a reduction's partial sums; the rounding is that of
            the unit where none is given.
        bias: where a bias joins a matrix product: as C of the "accumulator", or added by this
            unit in the "epilogue".
    """

    format: str
    rounding: str = "nearest_even"
    random_bits: int | None = Field(default=None, ge=1, le=27)
    rule: Literal["srff", "srf", "src"] | None = None
    flush: Literal["none", "inputs", "outputs", "both"] = "none"
    functions: Literal["rounded_once", "host"] = "rounded_once"
    reduction: Literal["tree", "sequential"] = "tree"
    accumulator: str
    accumulator_rounding: str | None = None
    bias: Literal["accumulator", "epilogue"] = "epilogue"

    @field_validator("format", "accumulator")
    @classmethod
    def _known_format(cls, name: str) -> str:
        fmt = arithmetic_format(name)
        held = fmt.name == "float64" or fits(fmt, FLOAT32)
        if not isinstance(fmt, FloatFormat) or not held or not fmt.signed or not fmt.zero:
            raise InputError(
                f"{fmt.name} is not one of float64 and the signed float formats that float32 holds"
            )
        return fmt.name

    @field_validator("rounding", "accumulator_rounding")
    @classmethod
    def _known_rounding(cls, name: str | None) -> str | None:
        return name if name in (None, "stochastic") else str(get_rounding(str(name)))

    @model_validator(mode="after")
    def _consistent(self) -> "VectorUnit":
        sums = self.accumulator_rounding or self.rounding
        given = self.random_bits is not None and self.rule is not None
        if ("stochastic" in (self.rounding, sums)) != given:
            raise InputError('random_bits and rule go with rounding = "stochastic"')
        for name, rounding in ((self.format, self.rounding), (self.accumulator, sums)):
            if name == "float64" and rounding != "nearest_even":
                raise InputError(f'float64 is rounded "nearest_even", not "{rounding}"')
        if self.format == "float64" and self.accumulator != "float64":
            raise InputError(f"a float64 unit accumulates in float64, not {self.accumulator}")
        if self.format == "float64" and self.flush != "none":
            raise InputError("flush is for formats narrower than float64; leave it out")
        if self.functions == "host" and not self.plain:
            raise InputError('functions = "host" is for float32 and float64 in IEEE arithmetic')
        return self

    @property
    def plain(self) -> bool:
        """Whether +, -, *, / and sqrt are the host's own: IEEE float32 or float64, nearest-even."""
        return (
            self.format in ("float32", "float64")
            and self.rounding == "nearest_even"
            and self.flush == "none"
        )

    def how(self, rounding: str) -> Rounding | Stochastic:
        """A rounding of this unit, with its random bits."""
        if rounding == "stochastic":
            return Stochastic(self.random_bits or 1, self.rule or "srff")
        return Rounding(rounding)


class ConversionUnit(Unit):
    """Conversion into the operand formats.

    Attributes:
        roundings: the modes the hardware has.
        random_bits: k of its stochastic rounding; None if it has none.
        random_bits_of: k by target format, where the hardware takes another number for some.
        rule: how those bits decide; see `formats.Stochastic`.
    """

    roundings: tuple[str, ...] = Field(min_length=1)
    random_bits: int | None = Field(default=None, ge=1, le=32)
    random_bits_of: dict[str, Annotated[int, Field(ge=1, le=32)]] = Field(default_factory=dict)
    rule: Literal["srff", "srf", "src"] = "srff"

    @field_validator("random_bits_of")
    @classmethod
    def _known_targets(cls, bits: dict[str, int]) -> dict[str, int]:
        return {arithmetic_format(name).name: k for name, k in bits.items()}

    @model_validator(mode="after")
    def _consistent(self) -> "ConversionUnit":
        if ("stochastic" in self.roundings) != (self.random_bits is not None):
            raise InputError('random_bits goes with "stochastic" among roundings')
        if self.random_bits_of and self.random_bits is None:
            raise InputError("random_bits_of goes with random_bits, the number for all others")
        return self

    def stochastic(self, fmt: str) -> Stochastic:
        """The stochastic rounding into a format.

        Raises:
            InputError: the unit has none.
        """
        if self.random_bits is None:
            raise InputError('the conversion unit has no rounding = "stochastic"')
        return Stochastic(self.random_bits_of.get(fmt, self.random_bits), self.rule)
