"""Compare: where two runs part, and which operation made them."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .output import JSON, print_json, print_table
from .places import find_pairs

if TYPE_CHECKING:
    from ..reports.differences import Difference
    from ..scenarios.lockstep import Parting

PLACE = click.Path(path_type=Path)


@click.command()
@click.argument("a", type=PLACE)
@click.argument("b", type=PLACE)
@click.option("--optimizer", help="Of studies: only runs with this one.")
@click.option("--seed", type=int, help="Of studies: only runs from this one.")
@click.option("--tolerance", type=float, default=0.01, show_default=True,
              help="A difference that counts, as a share of A's loss.")  # fmt: skip
@click.option("--no-replay", is_flag=True, help="Only the curves: nothing is trained again.")
@JSON
def compare(
    a: Path, b: Path, optimizer: str | None, seed: int | None, tolerance: float, no_replay: bool,
    as_json: bool,
) -> int:  # fmt: skip
    """Find the first step at which A and B part, and the module and operation responsible.

    A and B are run folders; or columns of a study, as STUDY/COLUMN; or whole studies, whose runs
    of the same column, optimizer and seed are held against each other. The first pair that parts
    is trained again to that step, both runs in lockstep from their last common checkpoint, with a
    digest of every operation's result: the first that differs is shown, with the size of the
    difference.

    \b
    Exit codes:
      0  done, whether or not they part
      2  bad input

    \b
    Examples:
      tapeout compare runs/demo-1a2b/ieee-fp32 runs/demo-1a2b/h100-fp8 --optimizer adamw --seed 0
      tapeout compare runs/demo-1a2b/ieee-fp32--adamw--s0-5e6f runs/other/h100--adamw--s0-7a8b
      tapeout compare runs/demo-1a2b runs/demo-3c4d --no-replay --json
    """
    from ..reports.differences import compare_runs
    from ..scenarios.lockstep import differing_inputs

    pairs = find_pairs(a, b, optimizer, seed)
    differences = [compare_runs(*pair, tolerance) for pair in pairs]
    parted = [(p, d) for p, d in zip(pairs, differences, strict=True) if d.first is not None]
    inputs = differing_inputs(*(parted[0][0] if parted else pairs[0]))
    found = None
    if parted and not no_replay:
        pair, difference = parted[0]
        found = _replay(pair, difference.first or 1)
    if as_json:
        facts: dict[str, Any] = {"differing_inputs": inputs, "tolerance": tolerance}
        facts["pairs"] = [asdict(d) for d in differences]
        print_json(facts | {"parting": None if found is None else asdict(found)})
        return 0
    _print_differences(differences)
    click.echo(f"their inputs differ in: {', '.join(inputs) or 'nothing'}")
    if parted:
        _print_parting(parted[0][1], found, no_replay)
    return 0


def _replay(pair: tuple[Path, Path], step: int) -> "Parting | None":
    """Both runs in lockstep, with a bar."""
    from rich.console import Console
    from rich.progress import Progress

    from ..scenarios.lockstep import find_parting

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task(f"both runs to step {step}", total=None)
        if not console.is_terminal:
            console.print(f"training both runs again to step {step}", highlight=False)
        return find_parting(
            *pair, step, lambda done, of: bars.update(task, completed=done, total=of)
        )


def _print_differences(differences: "list[Difference]") -> None:
    heads = ["optimizer", "seed", "steps", "first bit", "beyond", "mean", "largest", "at", "final"]
    print_table(
        heads,
        [
            [
                d.optimizer,
                str(d.seed),
                str(d.steps),
                *("–" if x is None else str(x) for x in (d.first, d.beyond)),
                *("–" if x is None else f"{x:.3g}" for x in (d.mean, d.largest)),
                "–" if d.largest_at is None else str(d.largest_at),
                ", ".join(f"{metric} {value:+.3g}" for metric, value in d.final.items())
                or " and ".join(d.status),
            ]
            for d in differences
        ],
    )


def _print_parting(difference: "Difference", found: "Parting | None", skipped: bool) -> None:
    which = f"{difference.a} and {difference.b}"
    if skipped:
        click.echo(f"{which} part at step {difference.first}")
        return
    if found is None:
        click.echo(
            f"{which}: trained again they do not part: computed by another version of Tapeout?"
        )
        return
    role = f", {found.gemm}" if found.gemm else ""
    where = found.module or "outside of the modules"
    click.echo(f"{which} part at step {found.step}, {found.part}: {where}, {found.op}{role}")
    if not found.same_operation:
        click.echo("from there on they carry out other operations")
        return
    size = f"{found.differing} of {found.values} values differ"
    if found.largest is not None:
        size += f", the most by {found.largest:.3g}"
    if found.relative is not None:
        size += f"; |a - b| / |a| = {found.relative:.3g}"
    click.echo(size)
    if found.same_operands:
        click.echo("what went in was the same to the bit")
    else:
        click.echo("what went in differed already: in what is stored, or from the start")
