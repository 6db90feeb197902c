"""A chip's units against files: golden vectors, and recorded outputs."""

from collections.abc import Callable
from pathlib import Path

from ...formats import InputError
from ..chip import Chip
from .cases import simulate
from .checks import Check, difference
from .comparison import Policy, compare
from .golden import Vectors, order_row, read_vectors
from .recorded import Recording, read_recordings
from .scales import scale_of
from .selection import Chosen, find_units, list_units

#: Told how many outputs have been compared, and how many there are.
Progress = Callable[[int, int], None]


def check_files(
    chip: Chip, path: Path, unit: str | None, policy: Policy, progress: Progress
) -> list[Check]:
    """The chip against one file, or all .npz and .vectors files of a folder that speak of it.

    Raises:
        InputError: no such path; a file that is corrupted, or of another kind or chip; a folder
            with nothing about the chip.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    wanted = find_units(chip, unit) if unit else list_units(chip)
    found = sorted([*path.glob("*.npz"), *path.glob("*.vectors")]) if path.is_dir() else [path]
    checks: list[Check] = []
    for done, file in enumerate(found):
        progress(done, len(found))
        if file.suffix == ".npz":
            checks += check_recordings(chip, file, wanted, policy, path.is_dir())
        else:
            checks += check_vectors(chip, file, wanted, policy, path.is_dir())
    progress(len(found), len(found))
    if not checks:
        which = f"{chip.name}, unit {unit}" if unit else chip.name
        raise InputError(
            f"{path}: {len(found)} files of recorded outputs or golden vectors, none of {which}"
        )
    return checks


def check_vectors(
    chip: Chip, path: Path, wanted: list[Chosen], policy: Policy, lenient: bool = False
) -> list[Check]:
    """A golden file against the chip's unit of its header; [] for another unit's if `lenient`.

    Raises:
        InputError: the header names another chip, or a unit that the chip does not have.
    """
    vectors = read_vectors(path)
    header = vectors.header
    if header["chip"] != chip.name:
        if lenient:
            return []
        raise InputError(
            f"{path}, line 2: chip: {header['chip']} is not {chip.name}; verify it with that chip"
        )
    chosen = _unit_of(chip, path, header)
    if (chosen.number, chosen.a, chosen.b) not in {(u.number, u.a, u.b) for u in wanted}:
        if lenient:
            return []
        raise InputError(f"{path}: holds {chosen.label}, not the unit that was asked for")
    return [_compared(chosen, path, vectors, policy)]


def _unit_of(chip: Chip, path: Path, header: dict[str, str]) -> Chosen:
    """The chip's unit with the header's instruction, formats and scales."""
    names = header["instruction"].split(", ")
    for u in list_units(chip):
        row = scale_of(u.unit)
        scales = ("none", "0") if row is None else (row.fmt.name, str(row.block))
        if (
            set(names) <= set(u.row.instructions)
            and (u.a, u.b, u.row.output) == (header["a"], header["b"], header["output"])
            and scales == (header["scale"], header["scale_block"])
        ):
            return Chosen(u.chip, u.number, u.row, header["instruction"], u.a, u.b)
    asked = f"{header['instruction']}:{header['a']},{header['b']},{header['output']}"
    scaled = "" if header["scale"] == "none" else f" with {header['scale']} scales"
    raise InputError(f"{path}, line 3: {chip.place} has no unit {asked}{scaled}")


def _compared(chosen: Chosen, path: Path, vectors: Vectors, policy: Policy) -> Check:
    unit, cases = chosen.unit, vectors.cases
    got = simulate(unit, cases, int(vectors.header["seed"]))
    result = compare(vectors.results, got, unit.output, policy)
    first = None
    if (n := result.first) is not None:
        scales = {name: codes[n] for name, codes in cases.scales.items()}
        first = difference(
            chosen, n, (cases.a[n], cases.b[n], cases.c[n]), (vectors.results[n], got[n]), scales
        )
    note = vectors.header.get("origin", "")
    if vectors.header["order"] != order_row(chosen):
        told = "the file was written by another profile of this unit: " + vectors.header["order"]
        note = f"{note}; {told}" if note else told
    return Check(chosen, path.name, cases.k, result, first, note=note)


def check_recordings(
    chip: Chip, path: Path, wanted: list[Chosen], policy: Policy, lenient: bool = False
) -> list[Check]:
    """Recorded outputs against the units they speak of, the sign of zero counted beside."""
    kept = {(u.number, u.a, u.b) for u in wanted}
    loose = Policy(policy.strict_nan, signed_zero=False)
    return [
        _recorded(recording, loose)
        for recording in read_recordings(chip, path, lenient)
        if (recording.chosen.number, recording.chosen.a, recording.chosen.b) in kept
    ]


def _recorded(recording: Recording, policy: Policy) -> Check:
    chosen, cases = recording.chosen, recording.cases
    unit = chosen.unit
    got = simulate(unit, cases)
    result = compare(recording.results, got, unit.output, policy)
    first = None
    if (n := result.first) is not None:
        operands = cases.a[n], cases.b[n], cases.c[n]
        first = difference(chosen, n, operands, (recording.results[n], got[n]))
    return Check(chosen, recording.label, cases.k, result, first, note=recording.source)
