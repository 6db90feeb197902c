"""The matrix unit that a product goes to once some of its parts are back in float32.

What is not put back stays: the unit of the chip with its order and widths, now taking the float32
operand. Where no unit of that order takes it, float32 sums stand in, and a note says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...formats.errors import InputError
from ...formats.format import IntegerFormat
from ...simulator.matrix import Path
from ...simulator.recipe_rows import Operand
from ...simulator.tables import checked
from ...simulator.units import MatrixUnit

#: The order of the machine `ieee-float32`: c <- fma(a_k, b_k, c), k ascending.
CHAIN = {"order": "chain", "accumulator": "float32"}
#: The sum of integers and of what they are multiplied with: exact, rounded once.
EXACT = {"order": "exact", "accumulator": "float32"}
EVIDENCE = [
    {"basis": "assumed", "source": "put in place to find out what the chip's own part does"}
]


@dataclass(frozen=True)
class Product:
    """A kind of product as it is to be computed.

    Attributes:
        operands: as prepared, float32 where they are back in it.
        promote_every: as in the recipe; parts whose scales join outside of the unit.
        rows: tables of the unit, for either order of the operands.
        note: what could not be kept; "" if all was.
    """

    operands: tuple[Operand, Operand]
    promote_every: int | None
    rows: tuple[dict[str, Any], ...]
    note: str


def build_product(
    path: Path, operands: tuple[Operand, Operand], every: int | None, sums: bool, label: str
) -> Product:
    """The product of a path with other operands, its sums kept or (`sums`) in float32.

    every: the recipe's own `promote_every`; label: the instruction's name.

    Raises:
        InputError: no order takes these operands, which would be a fault of this module.
    """
    blocks = [row.blocks.block[-1] or 1 for row in operands if row.blocks is not None]
    refusals = []
    for dot, keeps in _orders(path, operands, sums):
        scaled = dot.get("scale") is not None
        parts = every if (not sums or blocks) else None
        if blocks and not scaled and parts is None:
            parts = min(blocks)  # scales of blocks join outside, part by part
        rows = _rows(path, operands, dot, keeps, label)
        try:
            for row in rows:
                checked(MatrixUnit, row, label)
        except InputError as error:
            refusals.append(str(error))
            continue
        exact = path.row.dot.order in ("integer", "exact")  # as is what stands in for it
        note = "" if keeps or sums or exact or not refusals else _note(operands)
        return Product(operands, parts, rows, note)
    raise InputError(f"{label}: no unit for these operands: {'; '.join(refusals)}")


def _orders(
    path: Path, operands: tuple[Operand, Operand], sums: bool
) -> Iterator[tuple[dict[str, Any], bool]]:
    """Orders to try, the chip's own first, with whether they are."""
    integers = [isinstance(row.fmt, IntegerFormat) for row in operands]
    own = path.row.dot.model_dump(mode="json")
    if not sums:
        if any(row.blocks is not None for row in operands):
            yield own, True
            if own.get("group") is not None:
                yield own | {"group": None}, True
        yield {key: own[key] for key in own if key not in ("scale", "group")}, True
    yield (EXACT if any(integers) else CHAIN), False


def _rows(
    path: Path, operands: tuple[Operand, Operand], dot: dict[str, Any], keeps: bool, label: str
) -> tuple[dict[str, Any], ...]:
    own = path.row.model_dump(mode="json")
    around = ("promotion", "k_order", "split_k") if keeps else ()
    row = {key: own[key] for key in around} | {"dot": dot, "instructions": [label]}
    row |= {"output": own["output"] if keeps else "float32", "evidence": EVIDENCE}
    a, b = (operand.fmt.name for operand in operands)
    pairs = [(a, b)] if a == b else [(a, b), (b, a)]
    return tuple(row | {"a": [x], "b": [y]} for x, y in pairs)


def _note(operands: tuple[Operand, Operand]) -> str:
    asked = " x ".join(row.format for row in operands)
    return f"no unit of the chip's order takes {asked}: its sums are float32, too"
