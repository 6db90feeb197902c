"""`python -m tapeout.tests.bench.studies`: train what is missing, print what was found."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import torch

from tapeout.formats.jit import set_threads

from .contenders import CONTENDERS
from .page import PAGE, renewed
from .plan import chosen, missing, missing_narrow
from .results import RESULTS, Job, Results
from .tables import all_tables, markdown, sides_table
from .tasks import TASKS
from .training import train

FILE = click.option(
    "--results", "path", type=click.Path(path_type=Path, dir_okay=False), default=RESULTS,
    show_default=False, help="The file of rows; results.jsonl beside this module unless given.",
)  # fmt: skip
CHOSEN = click.option(
    "--task", "tasks", multiple=True, type=click.Choice(list(TASKS)), help="Only this task."
)


@click.group()
def main() -> None:
    """Optimizers tuned alike on three small tasks, compared over seeds."""


@main.command()
@FILE
@CHOSEN
@click.option(
    "--optimizer", "names", multiple=True, type=click.Choice(list(CONTENDERS)), help="Only this."
)
@click.option("--seeds", type=click.IntRange(1), default=10, show_default=True)
def run(path: Path, tasks: tuple[str, ...], names: tuple[str, ...], seeds: int) -> None:
    """Tune, then train fresh seeds; what the file already has is not run again.

    Example: OMP_NUM_THREADS=1 python -m tapeout.tests.bench.studies run --task vit
    """
    chosen = list(tasks or TASKS), list(names or CONTENDERS)
    _work(Results(path), lambda results: missing(results, *chosen, seeds))


@main.command()
@FILE
@CHOSEN
def narrow(path: Path, tasks: tuple[str, ...]) -> None:
    """Train under narrow forward products at the settings that float32 chose.

    Example: OMP_NUM_THREADS=1 python -m tapeout.tests.bench.studies narrow --task vit
    """
    _work(Results(path), lambda results: missing_narrow(results, list(tasks or TASKS)))


@main.command()
@FILE
@click.option("--json", "as_json", is_flag=True, help="Rows for a machine to read.")
def tables(path: Path, as_json: bool) -> None:
    """Print every table as Markdown, from the rows that there are.

    Example: python -m tapeout.tests.bench.studies tables --json
    """
    found = dict(all_tables(Results(path)))
    if as_json:
        named = {name: [dict(zip(h, row, strict=True)) for row in rows]
                 for name, (h, rows) in found.items()}  # fmt: skip
        click.echo(json.dumps(named, indent=1, ensure_ascii=False))
        return
    for name, table in found.items():
        click.echo(f"## {name}\n\n{markdown(table)}\n")


@main.command()
@FILE
def page(path: Path) -> None:
    """Renew the tables of docs/optimizers.md from the rows that there are.

    Example: python -m tapeout.tests.bench.studies page
    """
    PAGE.write_text(renewed(PAGE.read_text("utf-8"), Results(path)), "utf-8")


@main.command()
@FILE
@CHOSEN
@click.option("--lr", type=float, help="This rate, rather than the one that the grid chose.")
def sides(path: Path, tasks: tuple[str, ...], lr: float | None) -> None:
    """Print what storing does to the preconditioners of float32 Shampoo after training.

    Example: python -m tapeout.tests.bench.studies sides --task vit
    """
    torch.set_num_threads(1)
    results = Results(path)
    for name in tasks or TASKS:
        choice = chosen(TASKS[name], CONTENDERS["shampoo float32"], results)
        if lr is None and choice is None:
            raise click.UsageError(f"{name}: its float32 Shampoo is not tuned: give --lr, or run")
        setting = choice.setting if lr is None and choice is not None else {"lr": lr or 0.0}
        click.echo(f"## {name}\n\n{markdown(sides_table(TASKS[name], setting))}\n")


def _work(results: Results, plan: Callable[[Results], Iterator[Job]]) -> None:
    """Run the plan's jobs one by one, a line each."""
    torch.set_num_threads(1)
    set_threads(1)
    begun = time.monotonic()
    for done, job in enumerate(plan(results), 1):
        outcome = train(job.task, job.contender, job.values, job.arithmetic, job.fold, job.seed)
        results.add(job, outcome)
        row = job.facts() | outcome
        shown = " ".join(f"{name}={value:g}" for name, value in job.setting)
        click.echo(
            f"{done} after {time.monotonic() - begun:.0f} s: {row['task']}, {row['optimizer']}, "
            f"{shown}, {row['arithmetic']}, seed {row['seed']}: accuracy "
            f"{100 * row['accuracy']:.2f} %, loss {row['loss']}, {row['seconds']} s"
        )


if __name__ == "__main__":
    main()
