"""Chips: what they compute, and on whose word."""

from typing import TYPE_CHECKING

import click

from .output import JSON, page_width, print_json, print_table, show

if TYPE_CHECKING:
    from ..simulator import Chip


@click.command()
@click.argument("name", required=False)
@click.option("--unit", help="Only these matrix units: a number, an instruction or a format.")
@click.option("--toml", is_flag=True, help="Print the chip's file, to start your own from.")
@JSON
def chips(name: str | None, unit: str | None, toml: bool, as_json: bool) -> int:
    """List the chips, or draw what the chip NAME (or a TOML file) computes, and on whose word.

    \b
    Examples:
      tapeout chips
      tapeout chips nvidia-h100
      tapeout chips nvidia-h100 --unit e4m3
      tapeout chips nvidia-h100 --toml > my-chip.toml
      tapeout chips my-chip.toml --json
    """
    from ..simulator import load_chip
    from ..simulator.chip import chip_path

    if name is None:
        if unit or toml:
            raise click.UsageError("--unit and --toml go with the NAME of a chip")
        list_all_chips(as_json)
        return 0
    chip = load_chip(name)
    if toml:
        click.echo(chip_path(name).read_text(encoding="utf-8"), nl=False)
    elif as_json:
        print_json(chip.table)
    else:
        print_chip(chip, unit)
    return 0


def list_all_chips(as_json: bool) -> None:
    """A row a chip: who makes it, what it multiplies, and how well its values are known."""
    from ..simulator import datasheet, list_chips, load_chip

    found = [load_chip(name) for name in list_chips()]
    if as_json:
        fields_of = ("name", "aliases", "vendor", "architecture", "summary")
        print_json(
            [
                {key: getattr(chip.rows, key) for key in fields_of}
                | {"operands": chip.operands(), "evidence": chip.count_evidence()}
                for chip in found
            ]
        )
        return
    click.echo(datasheet.write_listing(found, page_width()))
    click.echo("\nThe counts are values by who vouches for them: tapeout chips NAME shows each.")


def print_chip(chip: "Chip", wanted: str | None) -> None:
    """The page of a chip: units in a table, the other units, assumptions, then each unit drawn."""
    from ..simulator import datasheet

    width, numbers = page_width(), datasheet.select_units(chip, wanted)
    lines = [line for line in datasheet.summarize_units(chip) if line.number in numbers]
    click.echo(datasheet.write_head(chip, width))
    click.echo("\nMATRIX UNITS (* chosen unless an instruction is named)")
    heads = ["", "operands", "output", "instruction", "accumulation", "basis"]
    print_table(heads, [[show(value) for value in vars(line).values()] for line in lines])
    if wanted is None:
        click.echo(f"\n{datasheet.write_other_units(chip, width)}")
    click.echo(f"\n{datasheet.write_assumptions(chip, numbers, width)}")
    click.echo(f"\nDATAPATHS\n\n{datasheet.write_units(chip, numbers, width)}")
