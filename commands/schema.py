"""Schemas of the files that Tapeout writes for other programs."""

import click

from .output import print_json

DOCUMENTS = ("report",)


@click.command()
@click.argument("document", type=click.Choice(DOCUMENTS))
def schema(document: str) -> int:
    """Print the JSON Schema (draft 2020-12) of DOCUMENT: `report` is report.json.

    \b
    Examples:
      tapeout schema report > report.schema.json
    """
    from ..reports.document import schema_of_report

    print_json(schema_of_report())
    return 0
