"""Runs on disk: list, check, delete."""

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .output import JSON, print_json, print_table

if TYPE_CHECKING:
    from ..scenarios.listing import Row

UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}
STATUS = ["finished", "diverged", "unfinished", "waiting", "damaged", "foreign", "leftover"]
SHOWN = 50  # rows that a table shows unless --all


class Age(click.ParamType[float]):
    """`90m`, `12h`, `30d`, `4w` or a date `2026-11-28`, as seconds since 1970."""

    name = "age"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        text = str(value)
        try:
            if text[-1:] in UNITS:
                return datetime.now().timestamp() - float(text[:-1]) * UNITS[text[-1]]
            return datetime.fromisoformat(text).timestamp()
        except ValueError:
            self.fail(f"{text!r} is neither an age such as 12h or 30d nor a date as 2026-11-28")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default="runs")
@click.option("--status", multiple=True, type=click.Choice(STATUS), help="Only these; repeatable.")
@click.option("--optimizer", multiple=True, help="Only these; repeatable.")
@click.option("--column", multiple=True, help="Only these; repeatable.")
@click.option("--seed", multiple=True, type=int, help="Only these; repeatable.")
@click.option("--since", type=Age(), help="Changed since, as 12h, 30d or a date.")
@click.option("--before", type=Age(), help="Not changed since.")
@click.option("--verify", is_flag=True, help="Read every file of every run and check it.")
@click.option(
    "--clean",
    type=click.Choice(["runs", "checkpoints"]),
    help="Delete what is listed, or only its checkpoints; shows what, until --yes is given.",
)
@click.option("--yes", is_flag=True, help="With --clean: do it.")
@click.option("--all", "everything", is_flag=True, help=f"Print more than {SHOWN} rows.")
@JSON
def runs(
    folder: Path,
    status: tuple[str, ...],
    optimizer: tuple[str, ...],
    column: tuple[str, ...],
    seed: tuple[int, ...],
    since: float | None,
    before: float | None,
    verify: bool,
    clean: str | None,
    yes: bool,
    everything: bool,
    as_json: bool,
) -> int:
    """List the runs of all studies in FOLDER, or of the study that it is; check and clean them.

    Exits with 1 if a run is damaged. A run that a process is computing is never deleted.

    \b
    Examples:
      tapeout runs
      tapeout runs /shared/runs --status unfinished --column int4-nearest
      tapeout runs --verify --json
      tapeout runs --status diverged --before 30d --clean runs --yes
      tapeout runs --status finished --clean checkpoints
    """
    from ..scenarios.listing import list_runs

    filters = (status, optimizer, column, seed, since, before)
    if clean == "runs" and not any(filters):
        raise click.UsageError("--clean runs needs a filter, such as --status or --before")
    rows = list_runs(folder)
    if verify:
        rows = _verified(rows)
    rows = [
        row
        for row in rows
        if (not status or row.status in status)
        and (not optimizer or row.optimizer in optimizer)
        and (not column or row.column in column)
        and (not seed or row.seed in seed)
        and (since is None or (row.changed is not None and row.changed >= since))
        and (before is None or (row.changed is not None and row.changed < before))
    ]
    cleaned = _clean(rows, clean, yes) if clean else {}
    if as_json:
        print_json({"runs": [_plain(row) for row in rows], **cleaned})
    else:
        _print(rows, everything)
        for sentence in cleaned.get("told", []):
            click.echo(sentence)
    return int(any(row.status == "damaged" for row in rows))


def _verified(rows: "list[Row]") -> "list[Row]":
    from rich.console import Console
    from rich.progress import track

    from ..scenarios.cleaning import verify

    console = Console(stderr=True)
    return [verify(row) for row in track(rows, "verifying", console=console, transient=True)]


def _clean(rows: "list[Row]", what: str, yes: bool) -> dict[str, list[str]]:
    """Delete, or say what would be."""
    from ..scenarios.cleaning import delete_checkpoints, delete_runs, size_of

    if what == "checkpoints":
        chosen = [row for row in rows if row.status in ("finished", "diverged")]
        paths = [row.path / "checkpoints" for row in chosen]
    else:
        chosen = [row for row in rows if row.status != "waiting"]
        paths = [row.path for row in chosen]
    size = sum(size_of(path) for path in paths if path.exists()) / 1e6
    noun = (
        f"{what} of {len(chosen)} runs" if what == "checkpoints" else f"{len(chosen)} run folders"
    )
    if not yes:
        return {"told": [f"{noun}, {size:.1f} MB, would be deleted: add --yes"]}
    if what == "checkpoints":
        done = delete_checkpoints(chosen)
        return {"told": [f"deleted the checkpoints of {len(done)} runs, {size:.1f} MB"]}
    gone, busy = delete_runs(chosen)
    told = [f"deleted {len(gone)} run folders, {size:.1f} MB"]
    return {"told": told + [f"{row.path}: a process is computing it; left alone" for row in busy]}


def _plain(row: "Row") -> dict[str, object]:
    facts = asdict(row)
    del facts["home"], facts["name"]
    return {"path": str(row.path), "study": row.study, **facts}


def _print(rows: "list[Row]", everything: bool) -> None:
    """A table of runs, and how many there are of each status."""
    shown = rows if everything else rows[:SHOWN]
    table = [
        [
            row.study,
            row.column or row.path.name,
            row.optimizer,
            "" if row.seed is None else str(row.seed),
            row.status,
            "" if row.step is None else str(row.step),
            "" if row.final is None else f"{row.final:.4g}",
            "" if row.changed is None else f"{datetime.fromtimestamp(row.changed):%Y-%m-%d %H:%M}",
        ]
        for row in shown
    ]
    if table:
        names = ["study", "column", "optimizer", "seed", "status", "step", "final", "changed"]
        print_table(names, table)
    counts = {name: sum(row.status == name for row in rows) for name in STATUS}
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    rest = f" ({len(rows) - len(shown)} more rows: --all)" if len(rows) > len(shown) else ""
    click.echo(f"{len(rows)} runs{': ' if told else ''}{told}{rest}")
    for row in rows:
        if row.status == "damaged":
            click.echo(f"damaged: {row.path}: {row.reason}", err=True)
