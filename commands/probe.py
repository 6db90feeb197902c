"""Probing: an unknown dot product becomes a chip's file."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .output import JSON, print_json, write_text

if TYPE_CHECKING:
    from ..simulator.probing import Target


@click.command()
@click.option("--callable", "place", metavar="MODULE:FUNCTION", help="A Python function dot(a, b).")
@click.option("--chip", nargs=2, metavar="CHIP UNIT", help="A unit of the simulator.")
@click.option("--torch", "dtype", metavar="DTYPE", help="This machine's torch.matmul.")
@click.option("--a", default="float32", show_default=True, help="Format of a, for --callable.")
@click.option("--b", default="float32", show_default=True, help="Format of b, for --callable.")
@click.option("--output", default="float32", show_default=True, help="Of D, for --callable.")
@click.option("--takes-c", is_flag=True, help="The function of --callable is dot(a, b, c).")
@click.option("--k", type=int, default=64, show_default=True, help="Products in a sum, up to 128.")
@click.option("--cases", type=int, default=4096, show_default=True, help="Operands of the check.")
@click.option("--seed", type=int, default=0, show_default=True, help="Selects them.")
@click.option("--out", type=Path, help="Write the chip's TOML.")
@JSON
def probe(
    place: str | None, chip: tuple[str, str] | None, dtype: str | None, a: str, b: str, output: str,
    takes_c: bool, k: int, cases: int, seed: int, out: Path | None, as_json: bool,
) -> int:  # fmt: skip
    """Find out in which order, width and rounding a dot product is computed, from outputs alone.

    The target is one of --callable (a function of arrays (n, K), (n, K), that returns (n,); its
    module is imported, which runs its code), --chip, and --torch (float64, float32, bfloat16,
    float16). Masks M, -M and ones reveal the summation tree (FPRev); targeted vectors then find
    alignment bits, accumulator bits, roundings, subnormals and overflow. What could not be decided
    is said.

    \b
    In the tree: (x y) is an addition, {x y z} a fused one of several terms, [x y z] an exact one.

    \b
    Exit codes:
      0  the row reproduces the target on every compared output (signs of zeros are counted
         apart), or the target is stochastic, which no comparison of outputs can show
      1  it does not, or there is none: no order family matches
      2  bad input

    \b
    Examples:
      tapeout probe --torch float32 --k 32
      tapeout probe --chip nvidia-h100 wgmma:e4m3,e4m3,float32 --out found.toml
      tapeout probe --callable my_pkg.sums:dot --a bf16 --b bf16 --out my-chip.toml --json
    """
    from datetime import UTC, datetime

    from ..simulator import load_chip
    from ..simulator.probing import chip_text, facts, sentences
    from ..simulator.probing import probe as probe_target
    from .verification import at_least_one

    if sum(given is not None for given in (place, chip, dtype)) != 1:
        raise click.UsageError("name one target: --callable, --chip or --torch")
    at_least_one("cases", cases)
    found = probe_target(_target(place, chip, dtype, (a, b, output), takes_c), k, cases, seed)
    written = None
    if out is not None and found.row is not None:
        today = datetime.now(UTC).date().isoformat()
        write_text(out, chip_text(found, out.stem, today))
        load_chip(out)
        written = str(out)
    if as_json:
        print_json(facts(found) | {"file": written})
    else:
        for line in sentences(found):
            click.echo(line)
        if out is not None:
            click.echo(f"written: {written}" if written else f"{out} is not written: no row")
    return 0 if found.reproduced or (found.row and not found.agreement) else 1


def _target(
    place: str | None, chip: tuple[str, str] | None, dtype: str | None,
    formats: tuple[str, str, str], takes_c: bool,
) -> "Target":  # fmt: skip
    """The one that was named."""
    from ..simulator import load_chip
    from ..simulator.probing import function_target, torch_target, unit_target
    from ..simulator.verification import find_unit

    if place is not None:
        return function_target(place, *formats, takes_c=takes_c)
    if chip is not None:
        return unit_target(find_unit(load_chip(chip[0]), chip[1]).unit)
    return torch_target(dtype or "float32")
