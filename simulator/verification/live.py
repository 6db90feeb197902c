"""A chip's units against the silicon in front of the user."""

from collections.abc import Iterator
from dataclasses import replace

from ..chip import Chip
from . import cuda, x86
from .batch import make_batch, multiply
from .cases import make_cases
from .checks import Check, difference
from .comparison import NOTHING, Policy, compare
from .files import Progress
from .library import check_product
from .selection import Chosen, find_units, list_units
from .x86_instructions import Instruction

#: Outputs of a unit that are compared unless the user says otherwise.
OUTPUTS = 2**20
#: Cases of one run: 16 of them make 256 outputs.
CASES = 2**14


def check_live(
    chip: Chip, unit: str | None, outputs: int, seed: int, policy: Policy, progress: Progress
) -> list[Check]:
    """Every unit that this machine has, at least `outputs` outputs each; the others as missing."""
    wanted = find_units(chip, unit) if unit else list_units(chip)
    checks: list[Check] = []
    gpu = cuda.missing(chip)
    for done, chosen in enumerate(wanted):
        for part, check in enumerate(_checks(chip, chosen, gpu, outputs, seed, policy)):
            progress(100 * done + min(10 * part, 90), 100 * len(wanted))
            checks.append(check)
    progress(100 * len(wanted), 100 * len(wanted))
    return _without_repetition(checks)


def _checks(
    chip: Chip, chosen: Chosen, gpu: str | None, outputs: int, seed: int, policy: Policy
) -> Iterator[Check]:
    rows, calls = x86.instructions_of(chosen), cuda.calls_of(chip, chosen)
    for row in rows:
        yield from check_instruction(chosen, row, outputs, seed, policy)
    if rows:
        return
    if calls and chip.rows.vendor == "NVIDIA":
        for call in calls:
            if gpu is not None:
                yield Check(chosen, call.name, 0, missing=gpu)
                continue
            yield from check_product(chosen, cuda.make_product(call), outputs, seed, policy)
        return
    reason = "no live check of this instruction exists"
    yield Check(chosen, "silicon", 0, missing=reason, unknown=True)


def check_instruction(
    chosen: Chosen, row: Instruction, outputs: int, seed: int, policy: Policy
) -> Iterator[Check]:
    """One check for each length worth running."""
    name, _ = x86.processor()
    against = f"{row.form}, {row.name}"
    reason = x86.missing(row)
    if reason:
        yield Check(chosen, against, 0, missing=reason)
        return
    lengths = x86.lengths(row)
    for k in lengths:
        share = -(-outputs // len(lengths))
        yield replace(_instruction(chosen, row, against, k, share, seed, policy), note=name)


def _instruction(
    chosen: Chosen, row: Instruction, against: str, k: int, outputs: int, seed: int, policy: Policy
) -> Check:
    unit, result, first, turn = chosen.unit, NOTHING, None, 0
    while result.compared < outputs:
        needed = -(-(outputs - result.compared) // 256) * 16
        batch = make_batch(make_cases(unit, min(CASES, needed), seed + turn, k))
        try:
            expected = x86.outputs(row, batch)
        except RuntimeError as error:
            return Check(chosen, against, k, missing=str(error))
        got = multiply(unit, batch)
        found = compare(expected, got, unit.output, policy)
        if first is None and found.first is not None:
            n = found.first
            results = expected.reshape(-1)[n], got.reshape(-1)[n]
            first = difference(chosen, result.compared + n, batch.place(n), results)
        result, turn = result + found, turn + 1
    return Check(chosen, against, k, result, first)


def _without_repetition(checks: list[Check]) -> list[Check]:
    """One missing check for each row and reason, not one for each pair of its formats."""
    seen: set[tuple[int, str, str]] = set()
    kept = []
    for check in checks:
        key = check.chosen.number, check.against, check.missing or ""
        if check.missing is None or key not in seen:
            kept.append(check)
        seen.add(key)
    return kept
