"""The command line: `tapeout run | report | chips | formats`.

Exit codes: 0 done, 1 a finding (a run failed, or --check was asked and not passed), 2 bad input,
130 interrupted. Every bad input is one line on the error stream.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from . import __version__

# torch, numba and rich are imported by the commands that need them: --help answers at once.
if TYPE_CHECKING:
    from .reports import VerdictRow
    from .simulator import Chip

PASSED = {"STABLE", "REFERENCE"}

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for a machine to read.")
CHECK = click.option("--check", is_flag=True, help="Exit with 1 unless every verdict is STABLE.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tapeout")
def cli() -> None:
    """See whether training survives a chip's arithmetic before you commit to the chip."""


@cli.command()
@click.argument("scenario")
@click.option("--out", type=Path, default=Path("runs"), show_default=True, help="Where to write.")
@click.option("--jobs", type=int, help="Runs at a time, one core each.  [default: all cores]")
@CHECK
@JSON
def run(scenario: str, out: Path, jobs: int | None, check: bool, as_json: bool) -> int:
    """Run every optimizer, chip and seed of SCENARIO, then judge and report.

    SCENARIO is a name from the library (quickstart, digits-vit) or a path to a TOML file.
    Runs that have finished before are not computed again; interrupted ones continue.

    \b
    Examples:
      tapeout run quickstart
      tapeout run my-study.toml --out /data/runs --jobs 8
      tapeout run quickstart --json --check > verdict.json
    """
    from rich.console import Console

    from .reports import write_report
    from .scenarios import make_display, open_study, run_study

    study = open_study(scenario, out)
    endings = run_study(study, make_display(Console(stderr=True)), jobs)
    report = write_report(study.path)
    failed = [f"{ending.run.label}: {ending.error}" for ending in endings if ending.error]
    if as_json:
        paths = {"study": str(study.path), "report": str(report.html)}
        print_json(paths | {"failed": failed, "verdicts": [asdict(row) for row in report.rows]})
    else:
        print_verdicts(report.rows)
        for sentence in failed:
            click.echo(f"failed: {sentence}", err=True)
        click.echo(f"report: {report.html}")
    return int(bool(failed) or (check and not passed(report.rows)))


@cli.command()
@click.argument("studies", nargs=-1, required=True, type=Path, metavar="STUDY...")
@CHECK
@JSON
def report(studies: tuple[Path, ...], check: bool, as_json: bool) -> int:
    """Write the report of each STUDY folder again, from what stands in it.

    \b
    Examples:
      tapeout report runs/quickstart-1a2b3c4d
      tapeout report runs/* --json
    """
    from .reports import write_report

    reports = [write_report(study) for study in studies]
    if as_json:
        print_json(
            [
                {
                    "study": str(study),
                    "report": str(report.html),
                    "verdicts": [asdict(row) for row in report.rows],
                }
                for study, report in zip(studies, reports, strict=True)
            ]
        )
    else:
        for report in reports:
            print_verdicts(report.rows)
            click.echo(f"report: {report.html}")
    return int(check and not all(passed(report.rows) for report in reports))


@cli.command()
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
    from .simulator import load_chip
    from .simulator.chip import chip_path

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


@cli.command()
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

    from .formats import InputError, get_format
    from .formats.listing import list_names, summary_of
    from .formats.spacing import table_of
    from .reports.format_page import print_format, print_list

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
        from .reports.format_figure import write_figure

        write_figure(fmt, figure)
    if document is not None:
        print_json(document)
        return 0
    print_format(fmt, every, console)
    if figure:
        click.echo(f"figure: {figure}")
    return 0


def list_all_chips(as_json: bool) -> None:
    """A row a chip: who makes it, what it multiplies, and how well its values are known."""
    from .simulator import datasheet, list_chips, load_chip

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


def page_width() -> int:
    """Columns of the terminal, at least those that a drawing takes."""
    from .simulator.datasheet import LEAST_WIDTH

    return max(LEAST_WIDTH, shutil.get_terminal_size().columns)


def print_chip(chip: "Chip", wanted: str | None) -> None:
    """The page of a chip: units in a table, the other units, assumptions, then each unit drawn."""
    from .simulator import datasheet

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


def show(value: Any) -> str:
    """A fact as a reader wants it: six digits of a number, nothing for None."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(show(item) for item in value)
    return "" if value is None else str(value)


def passed(verdicts: Iterable["VerdictRow"]) -> bool:
    """Whether no verdict speaks against a column."""
    return all(row.verdict in PASSED for row in verdicts)


def print_json(value: Any) -> None:
    """One JSON document on the output stream."""
    click.echo(json.dumps(value, indent=1, allow_nan=False))


def print_rows(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Rows of facts as a table, or as JSON."""
    if as_json:
        print_json(rows)
        return
    print_table(list(rows[0]), [[show(value) for value in row.values()] for row in rows])


def print_verdicts(verdicts: Sequence["VerdictRow"]) -> None:
    """The verdict table, final quality as mean and range over the seeds, and each objection."""
    rows = [
        [
            row.optimizer,
            row.column,
            row.verdict,
            "" if row.mean is None else f"{row.mean:.3f} ({row.low:.3f} to {row.high:.3f})",
            "" if row.gap is None else f"{row.gap:+.3f}",
        ]
        for row in verdicts
    ]
    print_table(["optimizer", "column", "verdict", "final", "gap"], rows)
    for row in verdicts:
        if row.verdict not in PASSED:
            click.echo(f"{row.verdict} {row.optimizer} on {row.column}: {row.reason}")


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table as wide as the terminal; what is too wide for its column goes on below."""
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(*(Column(head, overflow="fold") for head in heads), box=None)
    for row in rows:
        table.add_row(*row)
    Console(markup=False, highlight=False).print(table)


def main() -> NoReturn:
    """Run the command line; no mistake of the user's ends in a traceback."""
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted: the same command continues where this one stopped", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # The reader has closed its end, as `head` does; flushing at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except ValueError as error:
        from .formats import InputError

        if not isinstance(error, InputError):
            raise
        click.echo(f"error: {' '.join(str(error).split())}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
