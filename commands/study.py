"""Studies: run one, and report on it."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .output import JSON, print_json, print_table

if TYPE_CHECKING:
    from ..reports import VerdictRow
    from ..scenarios import Study

PASSED = {"STABLE", "REFERENCE"}
SET = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace a value of the file, as train.steps=100; may be repeated.",
)
#: Below so many steps in all, measuring one first would take longer than the runs.
FEW_STEPS = 200
CHECK = click.option("--check", is_flag=True, help="Exit with 1 unless every verdict is STABLE.")


@click.command()
@click.argument("scenario")
@click.option("--out", type=Path, default=Path("runs"), show_default=True, help="Where to write.")
@click.option("--jobs", type=int, help="Runs at a time.  [default: as many as there are cores]")
@SET
@click.option("--estimate", is_flag=True, help="Only say what the runs will cost.")
@click.option(
    "--engine",
    default="local",
    show_default=True,
    metavar="local|ray|ray://HOST:PORT",
    help="Where to compute: this machine, its Ray, or a Ray cluster.",
)
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard event files too.")
@CHECK
@JSON
def run(
    scenario: str,
    out: Path,
    jobs: int | None,
    settings: tuple[str, ...],
    estimate: bool,
    engine: str,
    tensorboard: bool,
    check: bool,
    as_json: bool,
) -> int:
    """Run every optimizer, chip and seed of SCENARIO, then judge and report.

    SCENARIO is a name from the library (quickstart, digits-vit, quadratic) or a path to a TOML
    file. Runs that have finished before are not computed again; interrupted ones continue. Ctrl-C
    finishes the steps under way and saves; twice stops at once.

    \b
    Examples:
      tapeout run quickstart
      tapeout run my-study.toml --out /data/runs --jobs 8
      tapeout run my-study.toml --set train.steps=100 --set optimizers.adamw.lr=0.01
      tapeout run my-study.toml --estimate
      tapeout run my-study.toml --out /shared/runs --engine ray://head:10001
      tapeout run quickstart --json --check > verdict.json
    """
    from rich.console import Console

    from ..formats import InputError
    from ..reports import write_report
    from ..scenarios import make_display, open_study, run_study

    if jobs is not None and jobs < 1:
        raise InputError(f"jobs = {jobs} must be at least 1")
    study = open_study(scenario, out, settings, write=not estimate)
    if estimate:
        return print_estimate(study, jobs, as_json)
    steps = sum(run.train.steps for run in study.runs)
    if steps >= FEW_STEPS:
        tell_estimate(study, jobs)
    display = make_display(Console(stderr=True))
    endings = run_study(study, display, jobs, engine=engine, tensorboard=tensorboard)
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


def print_estimate(study: "Study", jobs: int | None, as_json: bool) -> int:
    """What the study will cost, on the output stream."""
    from ..scenarios.estimate import estimate_study

    found = estimate_study(study, jobs, lambda text: click.echo(text, err=True))
    if as_json:
        print_json(asdict(found) | {"study": str(study.path), "hours": found.hours})
    else:
        click.echo(found.describe())
    return 0


def tell_estimate(study: "Study", jobs: int | None) -> None:
    """What the study will cost, on the error stream, before it starts.

    A run that fails in its first step is no reason to keep the others from starting.
    """
    from ..formats import InputError
    from ..scenarios.estimate import estimate_study

    def note(text: str) -> None:
        click.echo(text, err=True)

    try:
        note(estimate_study(study, jobs, note).describe())
    except InputError as error:
        note(f"no estimate: {error}")


@click.command()
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
    from ..reports import write_report

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


def passed(verdicts: Iterable["VerdictRow"]) -> bool:
    """Whether no verdict speaks against a column."""
    return all(row.verdict in PASSED for row in verdicts)


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
