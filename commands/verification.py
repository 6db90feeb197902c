"""Verification: profiles against silicon and files, and golden vectors for others to use."""

from pathlib import Path

import click

from .. import __version__
from .output import JSON, print_json, print_table, write_text


@click.command()
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

    from ..simulator import load_chip
    from ..simulator.verification import OUTPUTS, Policy, check_files, check_live, exit_code
    from ..simulator.verification.display import HEADS, rows_of, sentences
    from ..simulator.verification.progress import progress_bar

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


@click.command()
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
    from ..simulator import load_chip
    from ..simulator.verification import find_unit, golden_text, make_cases, simulate

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
    from ..formats import InputError

    if value < 1:
        raise InputError(f"{name} = {value} must be at least 1")
    return value
