"""The pages of the documentation that are data: a page a chip, tables of recipes and formats.

Each build writes them anew into docs/catalogue/, which git ignores: nothing in them can fall
behind the files they are made of.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tapeout.formats import get_format
from tapeout.formats.listing import list_names, summary_of
from tapeout.simulator import Chip, datasheet, list_chips, list_recipes, load_chip, load_recipe

FOLDER = Path(__file__).parent / "catalogue"
WIDTH = 96  # columns of a drawing, as many as the page shows without scrolling


def write_catalogue() -> None:
    """All pages, so that a chip, recipe or format that was removed leaves none behind."""
    pages = {"chips.md": chips_page(), "recipes.md": recipes_page(), "formats.md": formats_page()}
    pages |= {f"chips/{name}.md": chip_page(load_chip(name)) for name in list_chips()}
    for path in FOLDER.rglob("*.md"):
        if path.relative_to(FOLDER).as_posix() not in pages:
            path.unlink()
    for name, text in pages.items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")  # an unchanged page is not built again


def chips_page() -> str:
    """Every chip with the operands of its matrix units and how well its values are known."""
    rows = []
    for name in list_chips():
        chip = load_chip(name)
        counts = chip.count_evidence()
        known = [str(counts[basis]) for basis in ("measured", "documented", "assumed")]
        rows.append((f"[{name}](chips/{name}.md)", chip.rows.summary, *known))
    names = "\n".join(f"chips/{name}" for name in list_chips())
    return (
        "# Chips\n\nHow many of a chip's values are measured (equal to recorded outputs of the "
        "silicon), documented (the vendor says so) or assumed. `tapeout chips NAME --toml` prints "
        "a chip's file; your own starts from a copy.\n\n"
        + table(("chip", "what it is", "measured", "documented", "assumed"), rows)
        + f"\n\n```{{toctree}}\n:hidden:\n\n{names}\n```\n"
    )


def chip_page(chip: Chip) -> str:
    """What `tapeout chips NAME` prints: units, evidence, assumptions, datapaths."""
    numbers = datasheet.select_units(chip, None)
    lines = datasheet.summarize_units(chip)
    heads = ("", "operands", "output", "instruction", "accumulation", "basis")
    return "\n\n".join(
        (
            f"# {chip.rows.name}",
            block(datasheet.write_head(chip, WIDTH)),
            "## Matrix units",
            "An asterisk marks the unit that is chosen unless an instruction is named.",
            table(heads, [tuple(map(str, vars(line).values())) for line in lines]),
            "## Other units",
            block(datasheet.write_other_units(chip, WIDTH)),
            "## What is assumed",
            block(datasheet.write_assumptions(chip, numbers, WIDTH)),
            "## Datapaths",
            block(datasheet.write_units(chip, numbers, WIDTH)) + "\n",
        )
    )


def recipes_page() -> str:
    """Every recipe with its publication."""
    rows = []
    for name in list_recipes():
        recipe = load_recipe(name)
        rows.append((f"`{name}`", recipe.rows.summary, str(recipe.table.get("source", ""))))
    head = "# The library's recipes\n\nWhat their keys mean: [Recipes](../recipes.md).\n\n"
    return head + table(("recipe", "what it does", "source"), rows) + "\n"


def formats_page() -> str:
    """Every format of the catalog; families go on from there by name."""
    found = [summary_of(get_format(name)) for name in list_names()]
    keys = ("name", "family", "bits", "largest", "min_normal", "min_subnormal", "source")
    heads = tuple(key.replace("_", " ") for key in keys)
    rows = [tuple(fact(row[key]) for key in keys) for row in found]
    head = (
        "# The catalog of formats\n\nNames of families go on from here: `eXmY[bN][suffix]`, "
        "`binaryKpP{s,u}{e,f}`, `intN`, `qM.N`, `positNesE`, `lnsNgG`; `tapeout formats NAME` "
        "prints every code of one.\n\n"
    )
    return head + table(heads, rows) + "\n"


def fact(value: Any) -> str:
    """A number to six digits, nothing for None."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; bars within a cell would end it."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def block(text: str) -> str:
    """Text as it stands, in letters of one width."""
    return f"```text\n{text}\n```"
