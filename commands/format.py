"""Number formats: all of them, or one in every detail."""

from pathlib import Path

import click

from .output import JSON, print_json


@click.command()
@click.argument("name", required=False)
@click.option("--all", "every", is_flag=True, help="Print every code of up to 16 bits.")
@click.option("--figure", type=Path, metavar="FILE.svg|png", help="Draw the relative spacing.")
@JSON
def formats(name: str | None, every: bool, figure: Path | None, as_json: bool) -> int:
    """List the number formats, or show the format NAME: its facts, codes and spacing.

    NAME is any name or alias of the list, or the spelling of a family, as e5m10 or int6.

    \b
    Examples:
      tapeout formats
      tapeout formats e4m3
      tapeout formats bfloat16 --all
      tapeout formats e5m10 --json --figure spacing.svg
    """
    from rich.console import Console

    from ..formats import InputError, get_format
    from ..formats.listing import list_names, summary_of
    from ..formats.spacing import table_of
    from ..reports.format_page import print_format, print_list

    console = Console(markup=False, highlight=False, emoji=False)
    if name is None:
        if every or figure:
            option = "--all" if every else "--figure"
            raise InputError(f"formats: {option} needs the NAME of one format")
        found = [get_format(row) for row in list_names()]
        if as_json:
            print_json([summary_of(fmt) for fmt in found])
        else:
            print_list(found, console)
        return 0
    fmt = get_format(name)
    document = table_of(fmt, every) if as_json else None
    if figure:
        from ..reports.format_figure import write_figure

        write_figure(fmt, figure)
    if document is not None:
        print_json(document)
        return 0
    print_format(fmt, every, console)
    if figure:
        click.echo(f"figure: {figure}")
    return 0
