"""The command line: `tapeout run | report | chips | formats | verify | vectors`.

Exit codes: 0 done, 1 a finding (a run failed, --check was asked and not passed, or a profile does
not give the outputs it is verified against), 2 bad input, 3 the machine lacks a unit that was to
be verified, 130 interrupted. Every bad input is one line on the error stream.
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


@cli.command()
@click.argument("chip")
@click.option("--vectors", type=Path, help="A file or folder to verify against, not this machine.")
@click.option("--unit", help="One unit: INSTRUCTION, a row's number, A,B[,OUTPUT], or x:A,B.")
@click.option("--cases", type=int, help="Outputs of a unit of this machine.  [default: 1048576]")
@click.option("--seed", type=int, default=0, show_default=True, help="Selects random operands.")
@click.option("--strict-nan", is_flag=True, help="Codes of NaN must be equal, too.")
@JSON
def verify(
    chip: str,
    vectors: Path | None,
    unit: str | None,
    cases: int | None,
    seed: int,
    strict_nan: bool,
    as_json: bool,
) -> int:
    """Hold the profile of CHIP against silicon: this machine's, or outputs in files.

    Without --vectors: the instructions of this machine's processor (AVX512-BF16, VNNI, AMX, FMA)
    or GPU that CHIP (a name, or a TOML file) describes. With it: golden vectors as `tapeout
    vectors` writes them (*.vectors in a folder), and .npz files of recorded outputs with arrays a
    (n, K), b (n, K), c (n) and results, where uint32 stands for the bits of float32. Which .npz
    speaks of which unit stands in a recordings.toml in the folder; the published ones
    (MATLAB-tensor-core) are known.

    Any NaN equals any NaN unless --strict-nan. +0 and -0 differ, except in .npz files, where they
    are counted apart.

    \b
    Exit codes:
      0  no output differs
      1  one does; the first is shown in bits
      2  bad input, such as a corrupted file
      3  no difference, but this machine lacks a unit that was to be verified

    \b
    Examples:
      tapeout verify intel-sapphire-rapids --unit vdpbf16ps
      tapeout verify nvidia-h100 --vectors recordings/
      tapeout verify my-chip.toml --vectors from-rtl.vectors --json
    """
    from rich.console import Console

    from .simulator import load_chip
    from .simulator.verification import OUTPUTS, Policy, check_files, check_live, exit_code
    from .simulator.verification.display import HEADS, rows_of, sentences
    from .simulator.verification.progress import progress_bar

    profile, policy = load_chip(chip), Policy(strict_nan)
    outputs = OUTPUTS if cases is None else at_least_one("cases", cases)
    with progress_bar(Console(stderr=True), f"verifying {profile.name}") as report:
        if vectors is not None:
            checks = check_files(profile, vectors, unit, policy, report)
        else:
            checks = check_live(profile, unit, outputs, seed, policy, report)
    code = exit_code(checks)
    if as_json:
        facts = [check.facts() for check in checks]
        totals = {key: sum(fact[key] for fact in facts) for key in ("compared", "differ")}
        print_json({"chip": profile.name, "seed": seed, "exit": code, **totals, "checks": facts})
        return code
    if rows := rows_of(checks):
        print_table(HEADS, rows)
    for line in sentences(checks):
        click.echo(line)
    return code


@cli.command()
@click.argument("chip")
@click.argument("unit")
@click.option("--cases", type=int, default=5000, show_default=True, help="Dot products.")
@click.option("--out", type=Path, required=True, help="The file to write.")
@click.option("--seed", type=int, default=0, show_default=True, help="Selects random operands.")
@click.option("--k", type=int, help="Products in each.  [default: twice the unit's period]")
@JSON
def vectors(
    chip: str, unit: str, cases: int, out: Path, seed: int, k: int | None, as_json: bool
) -> int:
    """Write golden vectors of UNIT of CHIP for a testbench: operands, C and D as hexadecimal codes.

    UNIT is an instruction, the number of its row in the chip's file, its formats A,B or
    A,B,OUTPUT, or both with a colon between. The file is text, one dot product a line: corner
    cases (signed zeros, subnormals, NaN, infinities, ties, alignment and block boundaries,
    cancellation, over- and underflow), then random operands. $readmemh reads it as it is. The
    same arguments give the same bytes.

    \b
    Examples:
      tapeout vectors nvidia-h100 wgmma:e4m3,e4m3,float32 --out h100.vectors
      tapeout vectors intel-sapphire-rapids vdpbf16ps --cases 10000 --k 2 --out dp.vectors
      tapeout vectors my-chip.toml 1 --out mine.vectors --json
    """
    from .simulator import load_chip
    from .simulator.verification import find_unit, golden_text, make_cases, simulate

    chosen = find_unit(load_chip(chip), unit)
    drawn = make_cases(chosen.unit, cases, seed, k)
    text = golden_text(chosen, drawn, simulate(chosen.unit, drawn, seed), seed, __version__)
    write_text(out, text)
    facts = {"file": str(out), "chip": chosen.chip, "unit": chosen.label, "k": drawn.k,
             "cases": cases, "seed": seed}  # fmt: skip
    if as_json:
        print_json(facts)
    else:
        click.echo(f"{out}: {cases} dot products of {drawn.k} by {chosen.chip}, {chosen.label}")
    return 0


def at_least_one(name: str, value: int) -> int:
    """The value, unless it is below 1."""
    from .formats import InputError

    if value < 1:
        raise InputError(f"{name} = {value} must be at least 1")
    return value


def write_text(path: Path, text: str) -> None:
    """A text file in one step: a killed command leaves no half of it."""
    from .formats import InputError

    try:
        half = path.with_name(f"{path.name}.part")
        half.write_bytes(text.encode("ascii"))
        half.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None


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
