"""Run folders named on the command line: by their path, or by study, column, optimizer and seed."""

import json
from pathlib import Path
from typing import Any


def find_run(
    target: Path, column: str | None = None, optimizer: str | None = None, seed: int | None = None
) -> Path:
    """A run folder itself, or the run of a study with this column, optimizer and (first) seed.

    Raises:
        InputError: `target` is neither, or the study has no such run; lists what it has.
    """
    from ..formats import InputError
    from ..formats.errors import choice

    if (target / "run.json").is_file():
        if column or optimizer:
            raise InputError(f"{target} is a run: --column and --optimizer select one of a study")
        return target
    rows = study_rows(target)
    columns = list(dict.fromkeys(row["column"] for row in rows))
    if column is None:
        raise InputError(f"{target} is a study: choose one of its columns with --column: "
                         f"{', '.join(columns)}")  # fmt: skip
    chosen = choice(column, columns, "--column", str(target))
    rows = [row for row in rows if row["column"] == chosen]
    names = list(dict.fromkeys(row["optimizer"] for row in rows))
    if optimizer is None and len(names) > 1:
        raise InputError(f"{target} has several optimizers: choose one with --optimizer: "
                         f"{', '.join(names)}")  # fmt: skip
    name = choice(optimizer or names[0], names, "--optimizer", str(target))
    rows = [row for row in rows if row["optimizer"] == name]
    seeds = [str(row["seed"]) for row in rows]
    wanted = choice(seeds[0] if seed is None else str(seed), seeds, "--seed", str(target))
    folder: str = next(row["folder"] for row in rows if str(row["seed"]) == wanted)
    return target / folder


def study_rows(study: Path) -> list[dict[str, Any]]:
    """The runs that a study.json lists, those at the scenario's own learning rates.

    Raises:
        InputError: there is none, or it is damaged.
    """
    from ..formats import InputError

    path = study / "study.json"
    if not path.is_file():
        raise InputError(f"{study}: is neither a run folder nor a study folder of `tapeout run`")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["runs"]
        return [row for row in rows if row.get("lr_factor", 1.0) == 1.0]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is damaged: {error}") from None


def find_pairs(
    a: Path, b: Path, optimizer: str | None, seed: int | None
) -> list[tuple[Path, Path]]:
    """Runs to hold against each other, the same optimizer and seed, and column of whole studies.

    Raises:
        InputError: a place is no run, study or STUDY/COLUMN, or nothing of the two fits together.
    """
    from ..formats import InputError

    places = [_runs_at(place) for place in (a, b)]
    if all(isinstance(found, Path) for found in places):
        return [(a, b)]
    if any(isinstance(found, Path) for found in places):
        raise InputError(f"{a} and {b}: compare two runs, two columns or two studies")
    left, right = ({_key(row, path): place / row["folder"] for place, path, row in found}
                   for found in places if isinstance(found, list))  # fmt: skip
    shared = [
        key for key in left
        if key in right and optimizer in (None, key[1]) and seed in (None, key[2])
    ]  # fmt: skip
    if not shared:
        asked = [f"optimizer {optimizer}"] if optimizer else []
        asked += [f"seed {seed}"] if seed is not None else []
        told = f" with {' and '.join(asked)}" if asked else ""
        raise InputError(f"{a} and {b} have no run in common{told}: nothing to compare")
    return [(left[key], right[key]) for key in shared]


def _runs_at(place: Path) -> Path | list[tuple[Path, bool, dict[str, Any]]]:
    """A run folder, or (study, whether one column was named, row) of each run."""
    from ..formats.errors import choice

    if (place / "run.json").is_file():
        return place
    if (place / "study.json").is_file() or not (place.parent / "study.json").is_file():
        return [(place, False, row) for row in study_rows(place)]
    study, rows = place.parent, study_rows(place.parent)
    columns = dict.fromkeys(row["column"] for row in rows)
    name = choice(place.name, columns, "column", str(study))
    return [(study, True, row) for row in rows if row["column"] == name]


def _key(row: dict[str, Any], column_named: bool) -> tuple[str, str, int]:
    return ("" if column_named else row["column"], row["optimizer"], row["seed"])
