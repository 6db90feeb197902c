"""What commands print: JSON for machines, tables for readers, files in one step."""

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for a machine to read.")


def show(value: Any) -> str:
    """A fact as a reader wants it: six digits of a number, nothing for None."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(show(item) for item in value)
    return "" if value is None else str(value)


def print_json(value: Any) -> None:
    """One JSON document on the output stream."""
    click.echo(json.dumps(value, indent=1, allow_nan=False))


def print_rows(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Rows of facts as a table, or as JSON."""
    if as_json:
        print_json(rows)
        return
    print_table(list(rows[0]), [[show(value) for value in row.values()] for row in rows])


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table as wide as the terminal; what is too wide for its column goes on below."""
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(*(Column(head, overflow="fold") for head in heads), box=None)
    for row in rows:
        table.add_row(*row)
    Console(markup=False, highlight=False).print(table)


def page_width() -> int:
    """Columns of the terminal, at least those that a drawing takes."""
    from ..simulator.datasheet import LEAST_WIDTH

    return max(LEAST_WIDTH, shutil.get_terminal_size().columns)


def write_text(path: Path, text: str) -> None:
    """A text file in one step: a killed command leaves no half of it."""
    from ..formats import InputError

    try:
        half = path.with_name(f"{path.name}.part")
        half.write_bytes(text.encode("ascii"))
        half.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None
