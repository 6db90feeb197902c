"""What a check says to a reader, line by line."""

from collections.abc import Sequence

from ...formats.catalog import ALIASES
from .checks import Check

HEADS = ("unit", "operands", "against", "K", "outputs", "differ", "")
_SHORT = {name: alias for alias, name in reversed(ALIASES.items())}


def rows_of(checks: Sequence[Check]) -> list[list[str]]:
    """One row of a table for each check that compared something."""
    return [
        [
            check.chosen.instruction, formats_of(check), check.against, str(check.k),
            f"{check.comparison.compared:,}", f"{check.comparison.differ:,}",
            check.status.upper(),
        ]
        for check in checks
        if check.missing is None
    ]  # fmt: skip


def formats_of(check: Check) -> str:
    """A, B and D by their shortest names."""
    names = (check.chosen.a, check.chosen.b, check.chosen.row.output)
    return ",".join(_SHORT.get(name, name) for name in names)


def sentences(checks: Sequence[Check]) -> list[str]:
    """First differences, zeros of unequal sign, notes, what is missing, and the sum of it."""
    lines: list[str] = []
    for check in checks:
        where = f"{check.chosen.label}, {check.against}, K = {check.k}"
        if check.first is not None:
            lines += [f"first difference of {where}:", *_difference(check)]
        if check.comparison.zero_signs:
            lines.append(f"{where}: {check.comparison.zero_signs} zeros of the other sign")
    lines += [f"note: {note}" for note in dict.fromkeys(c.note for c in checks if c.note)]
    lines += [
        f"{check.status}: {check.chosen.label}, {check.against}: {check.missing}"
        for check in checks
        if check.missing is not None
    ]
    compared = sum(check.comparison.compared for check in checks)
    differ = sum(check.comparison.differ for check in checks)
    absent = sum(check.status == "missing" for check in checks)
    missing = f", {absent} checks not possible here" if absent else ""
    return [*lines, f"{compared:,} outputs compared, {differ:,} differ{missing}"]


def _difference(check: Check) -> list[str]:
    first = check.first
    assert first is not None
    scales = [f"  {name:8} {' '.join(codes)}" for name, codes in first.scales.items()]
    return [
        f"  output   {first.index}", f"  a        {' '.join(first.a)}",
        f"  b        {' '.join(first.b)}", *scales, f"  c        {first.c}",
        f"  expected {first.expected}", f"  got      {first.got}",
    ]  # fmt: skip
