"""How a chip multiplies the operands of a recipe: by which unit, in which formats, scaled where.

A product is one of

    plain          the unit multiplies elements; factors of tensors or rows join its result
    parts          the unit sums `promote_every` products at a time; their scales join outside
    scaled         the unit takes elements and the scales of their blocks
    dequantised    the unit multiplies fl(element scale), rounded once into its format if it does
                   not hold that; factors of the tensor join its result

taken in this order where the recipe's formats have a unit: `parts` if the recipe says
promote_every, `scaled` if an operand has blocks, else `plain`. Where the chip has no such unit, a
variant of an element format that the chip has stands in for it (`variants` of the recipe). Where
that does not help either, operands are quantised as the recipe says and multiplied by the narrowest
unit whose formats hold them, as software emulation on such a chip does: integers by a wider integer
unit if there is one, floats by a float unit, blocks `dequantised`. Each of these is told in
`trace.assumptions()`, and refused under `substitute = false`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from ...formats import Rounding, Stochastic
from ...formats.errors import InputError
from ...formats.format import FloatFormat, fits
from ..chip import Chip
from ..dot_unit import DotUnit
from ..order import Scale
from ..recipe import Recipe
from ..recipe_rows import LAYER_GEMMS, Gemm, Operand
from ..units import MatrixUnit, arithmetic_format
from .holding import holder, is_exact

Kind = Literal["plain", "parts", "scaled", "dequantised"]


@dataclass(frozen=True)
class Path:
    """One kind of product on one chip.

    Attributes:
        operands: the rows as prepared, variants in place.
        row, unit: the matrix instruction.
        roundings: of the operands, by the chip's conversion unit or by software.
        every: products in a part, for `parts`.
        sentence: what stands in for a unit that the chip lacks; "" if nothing does.
    """

    kind: Kind
    operands: tuple[Operand, Operand]
    row: MatrixUnit
    unit: DotUnit
    every: int = 0
    roundings: tuple[Rounding | Stochastic, ...] = ()
    sentence: str = ""


def find_path(chip: Chip, recipe: Recipe, gemm: str, a: str, b: str) -> Path:
    """The path of a product of operand roles a and b.

    Raises:
        InputError: the chip has no unit for the formats, or no rounding, and nothing may stand
            in for it; or the recipe's operands do not go together.
    """
    own = recipe.gemm(gemm)
    operands = recipe.operand(a, gemm), recipe.operand(b, gemm)
    _check(operands, own, f"{recipe.place}, {gemm}")
    instruction = own.instruction
    if instruction is None and gemm in LAYER_GEMMS:
        instruction = recipe.rows.instruction
    search = _Search(chip, recipe, own, operands, instruction)
    path = search.native() or search.variant() or search.substitute()
    if path is None:
        raise InputError(search.refusal())
    unit = path.unit
    k_order = unit.k_order if own.k_order is None else own.k_order
    unit = replace(unit, k_order=k_order, split=own.split_k or unit.split)
    roundings = tuple(
        recipe.rounding(role, chip, gemm, row)
        for role, row in zip((a, b), path.operands, strict=True)
    )
    return replace(path, unit=unit, roundings=roundings)


def _check(operands: tuple[Operand, Operand], own: Gemm, place: str) -> None:
    a, b = operands
    if a.hadamard != b.hadamard:
        raise InputError(f"{place}: both operands need the same hadamard, not {a.hadamard} and "
                         f"{b.hadamard}")  # fmt: skip
    for row in operands if own.promote_every else ():
        if row.blocks is not None and (row.blocks.block[-1] or 1) % (own.promote_every or 1):
            raise InputError(
                f"{place}: promote_every = {own.promote_every} does not divide the "
                f"{row.blocks.block[-1]} elements in k that share a scale of {row.format}"
            )


def _scale(row: MatrixUnit) -> Scale | None:
    return getattr(row.dot, "scale", None)


class _Search:
    """A chip's units, asked for one product."""

    def __init__(
        self, chip: Chip, recipe: Recipe, own: Gemm, operands: tuple[Operand, Operand],
        instruction: str | None,
    ) -> None:  # fmt: skip
        self.chip, self.recipe, self.own = chip, recipe, own
        self.operands, self.instruction = operands, instruction
        self.blocks = any(row.blocks is not None for row in operands)

    def native(self) -> Path | None:
        """A unit for the formats as they are."""
        if self.own.promote_every or not self.blocks:
            return self._unscaled(self.operands)
        found = [u for u in self._rows(*(o.fmt.name for o in self.operands)) if self._takes(u)]
        if not found:
            return None
        best = min(found, key=lambda u: (-self._block(u), len(u.a) + len(u.b)))
        return self._path("scaled", self.operands, best)

    def variant(self) -> Path | None:
        """The chip's own variants of the formats, where elements go to the unit as they are."""
        if not self.recipe.rows.substitute or (self.blocks and not self.own.promote_every):
            return None
        has, variants = self.chip.operands(), self.recipe.rows.variants
        rows = [
            row.varied(variants[row.fmt.name])
            if row.fmt.name not in has and variants.get(row.fmt.name) in has
            else row
            for row in self.operands
        ]
        path = self._unscaled((rows[0], rows[1]))
        return path and replace(path, sentence=self._sentence(path))

    def substitute(self) -> Path | None:
        """The narrowest unit that holds the operands."""
        if not self.recipe.rows.substitute or self.instruction or self.own.accumulator:
            return None
        found = sorted(self._holding(), key=lambda entry: entry[0])
        if not found:
            return None
        _, row, names = found[0]
        kind: Kind = "parts" if self.own.promote_every else "plain"
        if self.blocks and not self.own.promote_every:
            kind = "dequantised"
        path = self._path(kind, self.operands, row, names)
        return replace(path, sentence=self._sentence(path))

    def _holding(self) -> Iterator[tuple[tuple[bool, int, bool, int], MatrixUnit, tuple[str, str]]]:
        """Units that hold both operands: (order of preference, row, formats)."""
        dequantised = self.blocks and not self.own.promote_every
        holds = [holder(o, dequantised) for o in self.operands]
        for place, row in enumerate(self.chip.matrix_units):
            sides = [
                sorted((f for f in map(arithmetic_format, names) if test(f)), key=lambda f: f.bits)
                for names, test in zip((row.a, row.b), holds, strict=True)
            ]
            if _scale(row) is None and all(sides):
                a, b = sides[0][0], sides[1][0]
                key = (isinstance(a, FloatFormat), a.bits + b.bits, not row.default, place)
                yield key, row, (a.name, b.name)

    def _unscaled(self, operands: tuple[Operand, Operand]) -> Path | None:
        rows = self._rows(*(o.fmt.name for o in operands))
        found = [row for row in rows if _scale(row) is None]
        if not found:
            return None
        best = next((row for row in found if row.default), found[0])
        return self._path("parts" if self.own.promote_every else "plain", operands, best)

    def _rows(self, a: str, b: str) -> list[MatrixUnit]:
        wanted = self.own.accumulator
        return [
            row
            for row in self.chip.matrix_units
            if a in row.a
            and b in row.b
            and (wanted is None or arithmetic_format(wanted).name == row.output)
            and (self.instruction is None or self.instruction in row.instructions)
        ]

    def _block(self, row: MatrixUnit) -> int:
        scale = _scale(row)
        return scale.block if scale else 0

    def _takes(self, row: MatrixUnit) -> bool:
        """Whether a unit takes the scales of both operands; those without blocks have ones."""
        scale = _scale(row)
        return scale is not None and all(
            operand.blocks is None
            or (
                fits(operand.blocks.scale, scale.fmt)
                and (operand.blocks.block[-1] or 1) % scale.block == 0
            )
            for operand in self.operands
        )

    def _path(
        self, kind: Kind, operands: tuple[Operand, Operand], row: MatrixUnit,
        names: tuple[str, str] | None = None,
    ) -> Path:  # fmt: skip
        a, b = names or (operands[0].fmt.name, operands[1].fmt.name)
        unit = row.unit(a, b, f"{self.chip.name}, {row.instruction}")
        return Path(kind, operands, row, unit, self.own.promote_every or 0)

    def _sentence(self, path: Path) -> str:
        formats = path.unit.a, path.unit.b
        pairs = list(zip(self.operands, formats, strict=True))
        told = sorted((row.format, fmt.name) for row, fmt in pairs)
        asked, done = (" x ".join(names) for names in zip(*told, strict=True))
        how = "multiplied as"
        if path.kind == "dequantised":
            exact = all(is_exact(row, fmt) for row, fmt in pairs)
            how = "dequantised, multiplied as" if exact else "dequantised and rounded once to"
        elif path.operands != self.operands:
            how = "quantised and multiplied as"
        return f"{self.chip.name} has no unit for {asked}: {how} {done} ({path.row.instruction})"

    def refusal(self) -> str:
        """What was asked for and what the chip has."""
        offered = "; ".join(
            f"{'/'.join(u.a)} x {'/'.join(u.b)} -> {u.output} ({u.instruction})"
            for u in self.chip.matrix_units
        )
        asked = " x ".join(row.format for row in self.operands)
        asked += f" -> {self.own.accumulator}" if self.own.accumulator else ""
        asked += f" by {self.instruction}" if self.instruction else ""
        return f"{self.chip.place}: no matrix unit for {asked}; the chip has {offered}"
