"""Blame: which part of the arithmetic is guilty of a gap."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .output import JSON, print_json, print_table

if TYPE_CHECKING:
    from ..reports.blame_record import BlameRecord


@click.command()
@click.argument("target", type=Path, metavar="RUN|STUDY")
@click.option("--column", help="Of a STUDY: which machine.")
@click.option("--optimizer", help="Of a STUDY: which optimizer.  [default: its only one]")
@click.option("--steps", type=int, help="A shorter training.  [default: as in the run]")
@click.option("--seeds", type=int, default=3, show_default=True, help="How many.")
@click.option("--only", multiple=True, help="One ingredient; may be given again.  [default: all]")
@click.option("--jobs", type=int, help="Runs at a time, one core each.  [default: all cores]")
@JSON
def blame(
    target: Path, column: str | None, optimizer: str | None, steps: int | None, seeds: int,
    only: tuple[str, ...], jobs: int | None, as_json: bool,
) -> int:  # fmt: skip
    """Find the part of a run's arithmetic that its gap to float32 comes from.

    The run is trained again with one part at a time back in float32: the format of each operand
    role, each kind of product, the accumulator, the results, what is stored in memory, the vector
    unit, the products of each group of layers; with all but that part in float32; and with the
    other rounding. `explained` is the share of the gap in training loss that goes, `alone` the
    share that the part causes by itself, each with a 90 % interval over the seeds.

    Everything is rebuilt from the run's frozen inputs, so a run can be blamed when its scenario
    and chip files are gone. Runs stand in blame/ beside it and are not computed twice; the result
    goes to blame.json and into the study's report.

    \b
    Exit codes:
      0  done
      1  a run could not be computed
      2  bad input

    \b
    Examples:
      tapeout blame runs/quickstart-1a2b3c4d --column int4-nearest --optimizer lmd
      tapeout blame runs/quickstart-1a2b3c4d/int4-nearest--adamw--s0-5e6f7a8b --steps 50
      tapeout blame runs/my-study-1a2b3c4d --column mine --only gradient --only accumulator --json
    """
    from rich.console import Console

    from ..reports import write_report
    from ..reports.blame import judge_blame
    from ..reports.blame_record import write_blame
    from ..scenarios import make_display, run_study
    from ..scenarios.blame import Options, open_blame
    from .places import find_run

    folder = find_run(target, column, optimizer)
    plan = open_blame(folder, Options(steps, seeds, only))
    endings = run_study(plan.study, make_display(Console(stderr=True)), jobs)
    failed = [f"{ending.run.label}: {ending.error}" for ending in endings if ending.error]
    for sentence in failed:
        click.echo(f"failed: {sentence}", err=True)
    found = judge_blame(plan.study.path)
    path = write_blame(folder.parent, found)
    report = write_report(folder.parent).html if (folder.parent / "study.json").is_file() else None
    places = {"blame": str(path), "runs": str(plan.study.path), "report": report and str(report)}
    if as_json:
        print_json(places | {"failed": failed} | found.model_dump(mode="json"))
    else:
        print_blame(found)
        for what, place in places.items():
            if place:
                click.echo(f"{what}: {place}")
    return int(bool(failed))


def print_blame(found: "BlameRecord") -> None:
    """The ranking as a table, and the sentence that it comes to."""
    from ..reports.blame_words import conclude, percent, percent_range

    heads = ["", "part", "explained", "90 % interval", "alone", "90 % interval", "of final"]
    rows = [
        [
            str(place) if row.kind != "rounding" else "",
            row.name,
            percent(row.explained),
            percent_range(row.explained_interval),
            percent(row.alone),
            percent_range(row.alone_interval),
            percent(row.final_explained),
        ]
        for place, row in enumerate(found.rows, start=1)
    ]
    print_table(heads, rows)
    click.echo(conclude(found))
    for row in found.rows:
        for note in row.notes:
            click.echo(f"{row.name}: {note}")
