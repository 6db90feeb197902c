"""The pages of number formats in a terminal: the list, the facts, the values, the spacing."""

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console

from ..formats.listing import (
    SHOWN_BITS,
    CodeRow,
    code_rows,
    facts_of,
    is_blocked,
    parts_of,
    summary_of,
)
from ..formats.spacing import SpacingRow, merged, spacing_rows

#: More binades than this are shown as runs of equal spacing.
BINADES = 40
#: Sources are listed where they have this much room.
_SOURCE = 20
_EIGHTHS = " ▏▎▍▌▋▊▉"
_RIGHT = {"bits", "largest", "normal", "smallest", "prec", "codes"}
_LABELS = {
    "aliases": "also called",
    "min_normal": "smallest normal",
    "min_subnormal": "smallest positive",
    "smallest": "smallest positive",
    "es": "exponent bits",
    "nan": "NaN",
}
_NAN = {
    "ieee": "top exponent, nonzero fraction",
    "all_ones": "all exponent and fraction bits one",
    "negative_zero": "the code of -0",
    "none": "none",
}
_UNSHOWN = {
    "name", "family", "bits", "values", "bias",
    "zero_codes", "infinity_codes", "nan_codes", "finite_values",
}  # fmt: skip
_LAST = (
    "precision", "largest", "lowest", "min_normal", "min_subnormal", "smallest", "codes", "source",
)  # fmt: skip


def print_list(formats: Sequence[Any], console: Console) -> None:
    """All formats, a line each; block formats in a table of their own."""
    heads = "name family bits largest normal smallest prec codes source".split()
    rows = [_summary(fmt) for fmt in formats if not is_blocked(fmt)]
    _print_columns(heads, rows, console)
    blocked = [fmt for fmt in formats if is_blocked(fmt)]
    if blocked:
        console.print()
        heads = ["block format", "bits", "element", "scale", "block", "rule", "source"]
        _print_columns(heads, [_block_summary(fmt) for fmt in blocked], console)


def print_format(fmt: Any, every: bool, console: Console) -> None:
    """One format: facts, codes with bits and values, relative spacing; blocks by their parts."""
    facts, rows = facts_of(fmt), code_rows(fmt, every)
    width = f"{facts['bits']} bit{'s' * (facts['bits'] != 1)}"
    console.print(f"{fmt.name}: {facts['family']}, {width}", style="bold")
    _print_lines(fact_lines(facts, console.width), console)
    if rows:
        console.print(f"\n{_codes_heading(fmt, every)}", style="bold")
        _print_lines(code_lines(rows, console.width), console)
    _print_spacing(spacing_rows(fmt), console)
    for part, row in parts_of(fmt).items():
        console.print(f"\n{part.replace('_', ' ')}: ", end="", style="bold")
        print_format(row, every, console)


def fact_lines(facts: dict[str, Any], width: int) -> Iterator[str]:
    """A fact a line, in the order of a data sheet: layout, range, codes, source."""
    texts = {key: fact_text(value) for key, value in facts.items() if key not in _UNSHOWN}
    if facts.get("nan") in _NAN:
        texts["nan"] = _NAN[facts["nan"]]
    if "nan_codes" in facts:
        special = [facts[f"{kind}_codes"] for kind in ("zero", "infinity", "nan")]
        other = facts["codes"] - sum(special)
        zero, infinite, lost = special
        texts["codes"] = (
            f"{facts['codes']}: {other} nonzero, {zero} zero, {infinite} infinite, {lost} NaN"
        )
    elif "codes" in facts:
        texts["codes"] = _count(facts["bits"])
    last = [key for key in _LAST if key in texts]
    order = [key for key in texts if key not in last] + last
    names = {key: _LABELS.get(key, key.replace("_", " ")) for key in order}
    room = max(map(len, names.values())) + 4
    for key in order:
        wrapped = textwrap.wrap(texts[key], max(20, width - room)) or [""]
        yield f"  {names[key]:<{room - 2}}{wrapped[0]}".rstrip()
        yield from (" " * room + line for line in wrapped[1:])


def fact_text(value: Any) -> str:
    """A fact as a reader wants it; numbers with their power of two where they are one."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        power, digits = power_text(value), repr(value).removesuffix(".0")
        return f"{power} = {digits}" if power else digits
    if isinstance(value, list):
        return ", ".join(fact_text(item) for item in value) or "none"
    return str(value)


def power_text(value: float) -> str:
    """ "2^-9" for powers of two other than those between 1/2 and 64; else nothing."""
    fraction, exponent = math.frexp(value)
    return f"2^{exponent - 1}" if fraction == 0.5 and not -1 <= exponent - 1 <= 6 else ""


def code_lines(rows: Sequence[CodeRow], width: int) -> Iterator[str]:
    """Codes in as many columns as fit, to be read downwards; codes with labels in one.

    Where that one is too wide, the bits have a line of their own.
    """
    digits = (len(rows[0].bits.replace(" ", "").replace(".", "")) + 3) // 4
    texts = [_value_text(row) for row in rows]
    widest = max(map(len, texts))
    labels = max(len(row.label) for row in rows)
    cells = [
        f"{row.label:{labels}}{'  ' if labels else ''}{row.code:0{digits}X}  {row.bits}"
        f"  {text:>{widest}}"
        for row, text in zip(rows, texts, strict=True)
    ]
    if labels and len(cells[0]) + 2 > width:
        for row, text in zip(rows, texts, strict=True):
            yield f"  {row.label:{labels}}  {row.code:0{digits}X}  {text:>{widest}}"
            yield f"    {row.bits}"
        return
    columns = 1 if labels else max(1, (width - 2 + 4) // (len(cells[0]) + 4))
    height = -(-len(cells) // columns)
    for line in range(height):
        yield "  " + "    ".join(cells[line::height])


def spacing_lines(rows: Sequence[SpacingRow], width: int, blocks: bool = True) -> Iterator[str]:
    """A bar for each binade, in doublings: its end is the widest gap / value of the binade."""
    shown = list(rows) if len(rows) <= BINADES else merged(list(rows))
    names = [binade_text(row) for row in shown]
    shares = [share_text(row.widest) for row in shown]
    room = max(10, width - 2 - max(map(len, names)) - max(map(len, shares)) - 4)
    logs = [math.log2(row.widest) for row in shown]
    low, high = min(logs) - 1, max(logs)
    for name, share, log in zip(names, shares, logs, strict=True):
        bar = _bar((log - low) / (high - low) * room, blocks)
        yield f"  {name:>{max(map(len, names))}}  {share:<{max(map(len, shares))}}  {bar}"


def binade_text(row: SpacingRow) -> str:
    """ "2^3", or "2^-14 to 2^15" for a run of binades."""
    return f"2^{row.first}" + (f" to 2^{row.last}" if row.last > row.first else "")


def share_text(share: float) -> str:
    """A relative spacing: the power of two where it is one, else a percentage."""
    fraction, exponent = math.frexp(share)
    if fraction == 0.5:
        return f"2^{exponent - 1}"
    return f"{100 * share:.3g}%"


def _print_spacing(rows: Sequence[SpacingRow], console: Console) -> None:
    if rows:
        console.print("\nRelative spacing: (next value - value) / value", style="bold")
        console.print("  the widest of each binade; a bar grows by doublings")
        blocks = console.encoding.lower().startswith("utf")
        _print_lines(spacing_lines(rows, console.width, blocks), console)


def _print_lines(lines: Iterable[str], console: Console) -> None:
    """Finished lines, at once and untouched: there may be many."""
    console.out("\n".join(lines), highlight=False)


def _codes_heading(fmt: Any, every: bool) -> str:
    if every or fmt.bits <= SHOWN_BITS:
        return "Codes: hexadecimal, bits, value"
    more = ", all with --all" if fmt.bits <= 16 else ""
    return f"Codes at the landmarks{more}: hexadecimal, bits, value"


def _value_text(row: CodeRow) -> str:
    text = "NaN" if math.isnan(row.value) else f"{row.value:.7g}"
    return f"{power_text(row.value)} = {text}" if row.label and power_text(row.value) else text


def _bar(length: float, blocks: bool) -> str:
    whole, rest = divmod(round(length * 8), 8)
    if not blocks:
        return "#" * max(1, round(length))
    return "█" * whole + _EIGHTHS[rest].strip()


def _count(bits: int) -> str:
    return str(2**bits) if bits <= 10 else f"2^{bits}"


def _summary(fmt: Any) -> tuple[str, ...]:
    row = summary_of(fmt)
    sizes = (row["largest"], row["min_normal"], row["min_subnormal"])
    return (
        row["name"],
        row["family"],
        str(row["bits"]),
        *("" if size is None else f"{size:.4g}" for size in sizes),
        "" if row["precision"] is None else str(row["precision"]),
        _count(row["bits"]),
        row["source"],
    )


def _block_summary(fmt: Any) -> tuple[str, ...]:
    parts = {part: row.name for part, row in parts_of(fmt).items()}
    shape = "x".join("all" if n is None else str(n) for n in getattr(fmt, "block", ())) or "all"
    rule, source = str(getattr(fmt, "rule", "")), str(getattr(fmt, "source", ""))
    return (fmt.name, str(fmt.bits), parts["element"], parts["scale"], shape, rule, source)


def _print_columns(heads: Sequence[str], rows: Sequence[tuple[str, ...]], console: Console) -> None:
    """Rows under heads, numbers to the right; the last column gets what room is left, or none."""
    lines = [tuple(heads), *rows]
    widths = [max(len(line[k]) for line in lines) for k in range(len(heads) - 1)]
    gap = " " if sum(widths) + 2 * len(widths) > console.width else "  "
    room = console.width - sum(widths) - len(gap) * len(widths)
    for number, line in enumerate(lines):
        cells = [
            f"{text:>{width}}" if head in _RIGHT else f"{text:<{width}}"
            for head, text, width in zip(heads, line, widths, strict=False)
        ]
        if room >= _SOURCE:
            cells.append(line[-1] if len(line[-1]) <= room else line[-1][: room - 1] + "…")
        style = "bold" if number == 0 else None
        console.print(gap.join(cells).rstrip(), style=style, soft_wrap=True)
