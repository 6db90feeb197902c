"""Recorded outputs of silicon in .npz files; which file speaks of what is data, in TOML.

`recordings.toml` beside this file names the published files and says what a table of it holds;
a folder with a recordings.toml of its own is read by that one.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...formats import InputError, quantize
from ...formats.format import ArithmeticFormat
from ..chip import Chip
from ..tables import Row, checked, read_toml
from ..units import arithmetic_format
from .cases import Cases
from .codes import Codes, to_codes, to_values
from .selection import Chosen, list_units

NAMES = "recordings.toml"
_BITS = {np.dtype(np.uint32): np.float32, np.dtype(np.uint64): np.float64}


class Output(Row):
    """One array of results in a file."""

    array: str
    output: str
    instruction: str | None = None
    c: Literal["recorded", "zero"] = "recorded"


class RecordedFile(Row):
    """A file, and what it speaks of."""

    file: str
    chips: tuple[str, ...]
    a: str
    b: str
    outputs: tuple[Output, ...]
    source: str


class RecordedFiles(Row):
    """The table of a recordings.toml."""

    recordings: tuple[RecordedFile, ...]


@dataclass(frozen=True)
class Recording:
    """Operands and the outputs that silicon gave for them."""

    chosen: Chosen
    cases: Cases
    results: Codes
    label: str
    source: str


def read_recordings(chip: Chip, path: Path, lenient: bool = False) -> list[Recording]:
    """What a file holds about a chip; nothing, if `lenient`, where it speaks of others.

    Raises:
        InputError: an unknown name, another chip's file, a damaged file, or values that are not
            of the formats.
    """
    own = path.parent / NAMES
    place = own if own.is_file() else Path(__file__).with_name(NAMES)
    rows = checked(RecordedFiles, read_toml(place), str(place)).recordings
    named = [row for row in rows if row.file == path.name]
    if not named and not lenient:
        raise InputError(f"{path}: {place} has no row for it; put a {NAMES} beside the file")
    mine = [row for row in named if chip.name in row.chips]
    if named and not mine and not lenient:
        others = ", ".join(sorted({name for row in named for name in row.chips}))
        raise InputError(f"{path}: speaks of {others}, not of {chip.name}")
    arrays = _load(path) if mine else {}
    return [_recording(chip, path, row, output, arrays) for row in mine for output in row.outputs]


def _load(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file as values."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read as .npz: {error}") from None
    return {name: x.view(_BITS.get(x.dtype, x.dtype)) for name, x in arrays.items()}


def _recording(
    chip: Chip, path: Path, row: RecordedFile, output: Output, arrays: dict[str, NDArray[Any]]
) -> Recording:
    chosen = _unit(chip, row, output)
    a, b, c = (arithmetic_format(x, str(path)) for x in (row.a, row.b, output.output))
    _check_shapes(path, arrays, output.array)
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
        start = arrays["c"].astype(np.float64) * (0.0 if output.c == "zero" else 1.0)
    if output.c == "zero":
        start = np.zeros_like(start)
    policy = "infinity" if c.grid.has_infinity else "saturate"
    cases = Cases(
        (a, b, c),
        _codes(path, "a", arrays["a"], a),
        _codes(path, "b", arrays["b"], b),
        to_codes(quantize(start, c, overflow=policy), c),
    )
    results = _codes(path, output.array, arrays[output.array], c)
    return Recording(chosen, cases, results, f"{path.name} {output.array}", row.source)


def _unit(chip: Chip, row: RecordedFile, output: Output) -> Chosen:
    """The chip's unit for the outputs, its default where no instruction is named."""
    wanted = chip.matrix_row(row.a, row.b, output.output, output.instruction)
    names = tuple(arithmetic_format(x).name for x in (row.a, row.b))
    found = next(u for u in list_units(chip) if u.row is wanted and (u.a, u.b) == names)
    name = output.instruction or found.instruction
    return Chosen(found.chip, found.number, found.row, name, found.a, found.b)


def _check_shapes(path: Path, arrays: dict[str, NDArray[Any]], result: str) -> None:
    """(n, K), (n, K), (n,), (n,), n at least 1."""
    missing = [name for name in ("a", "b", "c", result) if name not in arrays]
    if missing:
        raise InputError(f"{path}: has no array {', '.join(missing)}, only {', '.join(arrays)}")
    shapes = [arrays[name].shape for name in ("a", "b", "c", result)]
    n = len(arrays["c"]) if shapes[2] else 0
    if len(shapes[0]) != 2 or shapes != [shapes[0], shapes[0], (n,), (n,)] or shapes[0][0] != n:
        raise InputError(f"{path}: shapes {shapes} of a, b, c, {result} are not (n, K) and (n,)")
    if n == 0:
        raise InputError(f"{path}: holds no outputs")


def _codes(path: Path, name: str, values: NDArray[Any], fmt: ArithmeticFormat) -> Codes:
    """Codes of values that must be of the format."""
    with np.errstate(invalid="ignore"):
        wide = values.astype(np.float64)
    if np.isnan(wide).any() and not fmt.grid.has_nan:
        raise InputError(f"{path}: {name} holds NaN, which {fmt.name} has not")
    codes = to_codes(wide, fmt)
    back = to_values(codes, fmt)
    off = ~((back == wide) | (np.isnan(back) & np.isnan(wide)))
    if off.any():
        raise InputError(
            f"{path}: {name} holds {wide[off][0]!r}, not a value of {fmt.name} "
            f"({int(off.sum())} such elements)"
        )
    return codes
