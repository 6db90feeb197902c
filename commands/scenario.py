"""Scenario files: one to start from, and the schema of what they may say."""

from pathlib import Path

import click

from .output import JSON, print_json


@click.command()
@click.argument("folder", type=Path, default=Path(), required=False)
@click.option(
    "--template",
    default="study",
    show_default=True,
    metavar="NAME",
    help="study (every key explained), quickstart, sweep, own (your model), or poc.",
)
@click.option("--chip", default="nvidia-h100", show_default=True, help="The candidate's chip.")
@click.option("--recipe", default="fp8", show_default=True, help="The candidate's recipe.")
@JSON
def init(folder: Path, template: str, chip: str, recipe: str, as_json: bool) -> int:
    """Write scenario files to start from into FOLDER; nothing is overwritten.

    "poc" writes an evaluation: smoke test, early training, full comparison, with go / no-go
    thresholds and a sheet to decide on.

    \b
    Examples:
      tapeout init
      tapeout init --template poc --chip amd-mi300x evaluation
      tapeout init --template own my-study --json
    """
    from ..scenarios.template import SCHEMA, write_template

    paths = write_template(template, folder, chip, recipe)
    if as_json:
        print_json([str(path) for path in paths])
        return 0
    for path in paths:
        click.echo(f"wrote {path}")
    first = next(p for p in paths if p.suffix == ".toml" and p.stem in ("smoke", template))
    click.echo(f"next: edit {first}, then: tapeout run {first}")
    click.echo(f"{SCHEMA} lets editors check and complete the files")
    return 0


@click.command()
@click.argument("name", metavar="scenario|chip|recipe")
@click.option("--out", type=Path, help="Write it there instead of printing it.")
@JSON
def schema(name: str, out: Path | None, as_json: bool) -> int:
    """Print the JSON schema of a scenario, chip or recipe file.

    Editors that know TOML (taplo, Even Better TOML) read it where the file begins with
    "#:schema PATH". It is JSON with or without --json.

    \b
    Examples:
      tapeout schema scenario --out scenario.schema.json
      tapeout schema chip | less
    """
    from ..scenarios.schema import json_schema
    from .output import write_text

    table = json_schema(name)
    if out is None:
        print_json(table)
        return 0
    import json

    write_text(out, json.dumps(table, indent=1) + "\n")
    click.echo(f"wrote {out}")
    return 0
