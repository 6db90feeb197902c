"""A chip as a page of text: its units in one table, then each drawn, with who vouches for what."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import wrap

from ..formats.catalog import ALIASES
from ..formats.errors import InputError
from .chip import Chip
from .drawing import draw_datapath
from .stages import draw_unit
from .units import MatrixUnit, Unit

LEAST_WIDTH = 80
ROUNDINGS = {"nearest_even": "RNE", "toward_zero": "RZ", "stochastic": "SR"}
LEGEND = (
    "D = A B + C, from the operands down to D. e(x) = floor(log2 |x|), subnormals at the exponent "
    "of the smallest normal. What enters a box from the right: first the value named, then, along "
    "the line, what comes back. In the table, RNE is nearest_even, RZ toward_zero, SR stochastic; "
    "F the fraction bits kept in the alignment."
)


@dataclass(frozen=True)
class Line:
    """One matrix unit in the table at the head of the page."""

    number: int
    operands: str
    output: str
    instruction: str
    accumulation: str
    basis: str


def short_name(fmt: str) -> str:
    """The shortest name a format is known by."""
    return min((alias for alias, name in ALIASES.items() if name == fmt), key=len, default=fmt)


def short_operands(unit: MatrixUnit) -> str:
    """`e4m3 e5m2`, or `uint8 x int8` where the sides differ."""
    a, b = (" ".join(short_name(name) for name in side) for side in (unit.a, unit.b))
    return a if a == b else f"{a} x {b}"


def short_order(unit: MatrixUnit) -> str:
    """The accumulation in a few words: family, products at once, F, rounding, what surrounds it."""
    order = unit.dot.model_dump()
    many = order.get("group") if order["order"] == "tree" else order.get("block")
    scale, lanes = order.get("scale"), order.get("lanes") or 1
    rounding = str(order.get("rounding") or order["overflow"])
    words = [
        f"{order['order']} {many or ''}".strip(),
        f"F {order['fraction_bits']}" if "fraction_bits" in order else "",
        ROUNDINGS.get(rounding, rounding),
        f"{lanes} lanes" if lanes > 1 else "",
        f"scale {short_name(scale['format'])}/{scale['block']}" if scale else "",
        f"split {unit.split_k.parts}" if unit.split_k else "",
        f"promoted /{unit.promotion.every}" if unit.promotion else "",
    ]
    return ", ".join(word for word in words if word)


def arithmetic_basis(unit: MatrixUnit) -> str:
    """Who vouches for the sums: the basis of `dot`; "partly" where something beside is weaker."""
    bases = {
        name: entry.basis
        for name, entry in unit.values().items()
        if name.split(".")[0] not in ("a", "b", "output")
    }
    basis = bases["dot"]
    weaker = basis != "assumed" and "assumed" in bases.values()
    return f"partly {basis}" if weaker else basis


def summarize_units(chip: Chip) -> list[Line]:
    """A line a matrix unit, numbered from 1 as `--unit` takes them; a star marks a default."""
    return [
        Line(
            number,
            short_operands(unit),
            short_name(unit.output),
            ", ".join(unit.instructions) + (" *" if unit.default else ""),
            short_order(unit),
            arithmetic_basis(unit),
        )
        for number, unit in enumerate(chip.matrix_units, 1)
    ]


def select_units(chip: Chip, wanted: str | None) -> list[int]:
    """The numbers of the units that `wanted` names: a number, an instruction or a format.

    Raises:
        InputError: it names none; says what there is.
    """
    units = dict(enumerate(chip.matrix_units, 1))
    if wanted is None:
        return list(units)
    full = ALIASES.get(wanted, wanted)
    found = [
        n for n, u in units.items() if wanted == str(n) or full in (*u.instructions, *u.a, *u.b)
    ]
    if not found:
        names = dict.fromkeys(n for u in units.values() for n in (*u.instructions, *u.a, *u.b))
        raise InputError(
            f'{chip.place}: unit = "{wanted}" is not one of 1 to {len(units)}, {", ".join(names)}'
        )
    return found


def write_head(chip: Chip, width: int) -> str:
    """Name, maker, summary, other names, and how many values are known how well."""
    counts = ", ".join(f"{n} {basis}" for basis, n in chip.count_evidence().items())
    maker = f"{chip.rows.vendor} {chip.rows.architecture}".strip()
    lines = [f"{chip.name} ({maker}): {chip.summary}", f"values, by who vouches for them: {counts}"]
    lines += [f"also {', '.join(chip.rows.aliases)}"] if chip.rows.aliases else []
    return "\n".join(line for text in lines for line in _hang(text, width, 2))


def write_units(chip: Chip, numbers: Sequence[int], width: int) -> str:
    """The drawings and evidence of some matrix units."""
    parts = [*wrap(LEGEND, width), ""]
    for number in numbers:
        unit = chip.matrix_units[number - 1]
        head = f"[{number}] {unit.instruction}: {short_operands(unit)} -> {short_name(unit.output)}"
        parts += [*wrap(head, width), "", draw_datapath(draw_unit(unit)), "", evidence(unit, width)]
        parts += [""]
    return "\n".join(parts).rstrip()


def write_other_units(chip: Chip, width: int) -> str:
    """The vector unit and the conversion unit, each value with its evidence."""
    return "\n\n".join(
        f"{name}\n{evidence(unit, width)}"
        for name, unit in (
            ("VECTOR UNIT", chip.vector_unit),
            ("CONVERSION UNIT", chip.conversion_unit),
        )
    )


def write_assumptions(chip: Chip, numbers: Sequence[int], width: int) -> str:
    """What a result of these units rests on without measurement or document."""
    units: list[tuple[str, Unit]] = [(f"[{n}]", chip.matrix_units[n - 1]) for n in numbers]
    units += [("vector unit", chip.vector_unit), ("conversion unit", chip.conversion_unit)]
    told: dict[str, list[str]] = {}
    for name, unit in units:
        for sentence in unit.assumptions():
            told.setdefault(sentence, []).append(name)
    lines = [
        line
        for sentence, names in told.items()
        for line in _hang(f"- {', '.join(names)} {sentence}", width, 2)
    ]
    return "\n".join(["ASSUMPTIONS, which every report repeats", *(lines or ["none"])])


def write_listing(chips: Iterable[Chip], width: int) -> str:
    """All chips by vendor: architecture, who vouches for how many values, operands, aliases."""
    by_vendor: dict[str, list[Chip]] = {}
    for chip in chips:
        by_vendor.setdefault(chip.rows.vendor, []).append(chip)
    lines = []
    for vendor, found in by_vendor.items():
        lines.append({"none": "Design points and references"}.get(vendor, vendor))
        for chip in found:
            counts = ", ".join(f"{n} {basis}" for basis, n in chip.count_evidence().items())
            lines.append(f"  {chip.name:23}{chip.rows.architecture:17}{counts}")
            operands = " ".join(short_name(name) for name in chip.operands())
            also = f"; also {', '.join(chip.rows.aliases)}" if chip.rows.aliases else ""
            lines += [
                f"    {line}" for line in wrap(operands + also, width - 4, break_on_hyphens=False)
            ]
    return "\n".join(lines)


def evidence(unit: Unit, width: int) -> str:
    """A table of value, setting, basis and source; values that share a source share a line."""
    rows = [(", ".join(names), basis, source) for (basis, source), names in _grouped(unit).items()]
    lines: list[str] = []
    for names, basis, source in rows:
        lines += _hang(f"{basis:11} {names}: {source}", width - 2, 12)
    return "\n".join(f"  {line}" for line in lines)


def _grouped(unit: Unit) -> dict[tuple[str, str], list[str]]:
    groups: dict[tuple[str, str], list[str]] = {}
    values = unit.values()
    for name in sorted(values, key=lambda name: name in ("instructions", "a", "b", "output")):
        entry = values[name]
        groups.setdefault((entry.basis, entry.source), []).append(_setting(unit, name))
    return groups


def _setting(unit: Unit, name: str) -> str:
    """`reduction = tree` for what is one word; the name alone for what a drawing shows."""
    value = getattr(unit, name, None)
    if isinstance(unit, MatrixUnit) or value is None:
        return name
    if isinstance(value, dict):
        return f"{name} = " + ", ".join(f"{key} {item}" for key, item in value.items())
    shown = " ".join(value) if isinstance(value, tuple) else value
    return f"{name} = {shown}"


def _hang(text: str, width: int, indent: int) -> Iterable[str]:
    return wrap(text, max(width, 40), subsequent_indent=" " * indent, break_on_hyphens=False)
