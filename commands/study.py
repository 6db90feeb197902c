"""Studies: run one, and report on it."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .output import JSON, print_json, print_table

if TYPE_CHECKING:
    from ..reports import Decision, Report, VerdictRow
    from ..scenarios import Study

PASSED = {"STABLE", "REFERENCE"}
#: What --fail-on stops at: the verdicts, or the decisions, that speak against a column.
GATES = {
    "unstable": {"UNSTABLE"},
    "at-risk": {"UNSTABLE", "AT RISK"},
    "inconclusive": {"UNSTABLE", "AT RISK", "INCONCLUSIVE"},
    "no-go": {"NO-GO"},
    "undecided": {"NO-GO", "UNDECIDED"},
}
SET = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace a value of the file, as train.steps=100; may be repeated.",
)
#: Below so many steps in all, measuring one first would take longer than the runs.
FEW_STEPS = 200
CHECK = click.option("--check", is_flag=True, help="The same as --fail-on inconclusive.")
FAIL_ON = click.option(
    "--fail-on",
    multiple=True,
    type=click.Choice(list(GATES)),
    help="Exit with 1 on such a verdict or a worse one; no-go and undecided look at the "
    "scenario's [thresholds]. May be given several times.",
)


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
@FAIL_ON
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
    fail_on: tuple[str, ...],
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
      tapeout run quickstart --json --fail-on at-risk > verdict.json
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
        print_json(describe(study.path, report) | {"failed": failed})
    else:
        print_verdicts(report.rows)
        print_decisions(report.decision)
        for sentence in failed:
            click.echo(f"failed: {sentence}", err=True)
        click.echo(f"report: {report.html}")
    stopped = bool(objections(study.path, report, fail_on, check))
    return int(bool(failed) or stopped)


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
@FAIL_ON
@CHECK
@JSON
def report(studies: tuple[Path, ...], fail_on: tuple[str, ...], check: bool, as_json: bool) -> int:
    """Write the report of each STUDY folder again, from what stands in it.

    report.html opens in any browser, report.md in any editor; report.json follows the schema that
    `tapeout schema report` prints.

    \b
    Examples:
      tapeout report runs/quickstart-1a2b3c4d
      tapeout report runs/* --json
      tapeout report runs/my-study-5e6f7a8b --fail-on unstable --fail-on no-go
    """
    from ..reports import write_report

    written = [(study, write_report(study)) for study in studies]
    if as_json:
        print_json([describe(study, report) for study, report in written])
    else:
        for _, report in written:
            print_verdicts(report.rows)
            print_decisions(report.decision)
            click.echo(f"report: {report.html}")
    return int(any([objections(study, report, fail_on, check) for study, report in written]))


def describe(study: Path, report: "Report") -> dict[str, Any]:
    """What a machine reads about one report."""
    return {
        "study": str(study),
        "report": str(report.html),
        "verdicts": [asdict(row) for row in report.rows],
        "decision": asdict(report.decision),
    }


def objections(study: Path, report: "Report", fail_on: Sequence[str], check: bool) -> list[str]:
    """What the gate stops at, each also said on the error stream.

    Raises:
        InputError: the gate looks at thresholds, and the study states none.
    """
    from ..formats import InputError

    gates = {*fail_on} | ({"inconclusive"} if check else set())
    if gates & {"no-go", "undecided"} and report.decision.overall is None:
        raise InputError(
            f"{study}: its scenario states no [thresholds], so nothing can be a NO-GO; add the "
            "table, or use --fail-on at-risk"
        )
    stops = set().union(*(GATES[gate] for gate in gates))
    places = [(row.optimizer, row.column, row.verdict) for row in report.rows]
    places += [(row.optimizer, row.column, row.decision) for row in report.decision.rows]
    found = [f"{word}: {optimizer} on {column}" for optimizer, column, word in places
             if word in stops]  # fmt: skip
    for sentence in found:
        click.echo(f"stopped by --fail-on: {sentence}", err=True)
    return found


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


def print_decisions(decision: "Decision") -> None:
    """The thresholds that are broken or open, and what follows for the study."""
    if decision.overall is None:
        return
    for row in decision.rows:
        for criterion in row.criteria:
            if criterion.decision != "GO":
                click.echo(
                    f"{criterion.decision} {row.optimizer} on {row.column}: {criterion.name} = "
                    f"{criterion.limit:g}, {criterion.figure}: {criterion.reason}"
                )
    click.echo(f"decision: {decision.overall}")
