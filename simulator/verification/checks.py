"""One comparison of a unit with something outside of the simulator, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .codes import Codes, as_hex
from .comparison import NOTHING, Comparison
from .selection import Chosen

#: What `tapeout verify` exits with.
SAME, DIFFERENT, NOT_HERE = 0, 1, 3


@dataclass(frozen=True)
class Difference:
    """The first output that differs: operands, C, what was expected and what the profile gave.

    Codes in hexadecimal; `index` counts outputs of the check from 0.
    """

    index: int
    a: tuple[str, ...]
    b: tuple[str, ...]
    scales: dict[str, tuple[str, ...]]
    c: str
    expected: str
    got: str


@dataclass(frozen=True)
class Check:
    """A unit against recorded outputs, golden vectors, or silicon.

    Attributes:
        against: the file, or the instruction and the machine.
        k: products in each output.
        missing: why nothing was compared; None if something was.
        unknown: nothing was compared because no such check exists, on whatever machine.
        note: what the reader must know to judge the result; "" if nothing.
    """

    chosen: Chosen
    against: str
    k: int
    comparison: Comparison = NOTHING
    first: Difference | None = None
    missing: str | None = None
    unknown: bool = False
    note: str = ""

    @property
    def status(self) -> str:
        """`missing`, `unknown`, `different` or `equal`."""
        if self.missing is not None:
            return "unknown" if self.unknown else "missing"
        return "different" if self.comparison.differ else "equal"

    def facts(self) -> dict[str, Any]:
        """The check as plain values, for JSON."""
        first = None
        if self.first is not None:
            first = {
                "index": self.first.index, "a": list(self.first.a), "b": list(self.first.b),
                "scales": {name: list(codes) for name, codes in self.first.scales.items()},
                "c": self.first.c, "expected": self.first.expected, "got": self.first.got,
            }  # fmt: skip
        return {
            "unit": self.chosen.label, "number": self.chosen.number, "a": self.chosen.a,
            "b": self.chosen.b, "output": self.chosen.row.output, "k": self.k,
            "against": self.against, "status": self.status,
            "compared": self.comparison.compared, "differ": self.comparison.differ,
            "zero_signs": self.comparison.zero_signs, "first": first,
            "missing": self.missing, "note": self.note,
        }  # fmt: skip


def exit_code(checks: Sequence[Check]) -> int:
    """1 if an output differs, else 3 if something was not there to compare with, else 0.

    Units that no check exists for make no 3 of a 0, unless nothing else was compared.
    """
    found = {check.status for check in checks}
    if "different" in found:
        return DIFFERENT
    return SAME if found <= {"equal", "unknown"} and "equal" in found else NOT_HERE


def difference(
    chosen: Chosen,
    index: int,
    operands: tuple[Codes, Codes, Any],
    results: tuple[Any, Any],
    scales: dict[str, Codes] | None = None,
) -> Difference:
    """A difference from the codes of its operands (a, b, c) and results (expected, got)."""
    unit = chosen.unit
    row: Any = getattr(unit, "scale", None)
    return Difference(
        index,
        tuple(as_hex(x, unit.a) for x in operands[0]),
        tuple(as_hex(x, unit.b) for x in operands[1]),
        {name: tuple(as_hex(x, row.fmt) for x in codes) for name, codes in (scales or {}).items()},
        as_hex(operands[2], unit.output),
        as_hex(results[0], unit.output),
        as_hex(results[1], unit.output),
    )
