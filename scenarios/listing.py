"""What stands in a folder of studies, one row a run: read from small files, never written down.

An index that is kept could be wrong; ten thousand results are read within two seconds. So nothing
here imports torch, reads a segment or computes a hash: `cleaning.verify` does the latter two.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic_core import from_json

from .layout import DELETING, INPUTS, RESULT, STUDY, TEMPORARY

Status = Literal["finished", "diverged", "unfinished", "waiting", "damaged", "foreign", "leftover"]
STATUSES: dict[Status, str] = {
    "finished": "trained to its last step",
    "diverged": "ended early by the rule of its scenario, or with a loss that is not finite",
    "unfinished": "begun, and under way or interrupted",
    "waiting": "not begun",
    "damaged": "its result or its study.json cannot be read",
    "foreign": "a run folder that its study.json does not name",
    "leftover": "what a killed process left half written or half deleted",
}


@dataclass(frozen=True)
class Row:
    """One run as the listing found it.

    home, name: of its study folder and its own.
    step, final: of runs that ended. changed: when its result was written, or its folder changed,
    in seconds since 1970; None where there is no folder. lr_factor: on the optimizer's own rate.
    """

    home: Path
    name: str
    status: Status
    column: str = ""
    optimizer: str = ""
    seed: int | None = None
    step: int | None = None
    metric: str = ""
    final: float | None = None
    changed: float | None = None
    reason: str = ""
    lr_factor: float = 1.0

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.home / self.name

    @property
    def study(self) -> str:
        """The name of the study folder."""
        return self.home.name


def list_runs(folder: Path) -> list[Row]:
    """Every run of the study in `folder`, or of all studies in it, in the order of their names."""
    if (folder / STUDY).exists():
        return list(_study_rows(folder))
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return []
    return [
        row
        for entry in entries
        if entry.is_dir(follow_symlinks=False) and (path := Path(entry.path) / STUDY).exists()
        for row in _study_rows(path.parent)
    ]


def _study_rows(path: Path) -> Iterator[Row]:
    known: set[str] = set()
    try:
        study = from_json((path / STUDY).read_bytes())
        metric, runs = str(study["metric"]), list(study["runs"])
        with _opened(path) as place:
            for run in runs:
                yield _run_row(path, place, run, metric)
                known.add(run["folder"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        yield Row(path, STUDY, "damaged", reason=f"{type(error).__name__}: {error}")
        return
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
        if entry.name in known:
            continue
        changed = entry.stat(follow_symlinks=False).st_mtime
        if entry.name.startswith((TEMPORARY, DELETING)):
            yield Row(path, entry.name, "leftover", changed=changed)
        elif entry.is_dir(follow_symlinks=False) and (path / entry.name / INPUTS).exists():
            yield Row(path, entry.name, "foreign", changed=changed)


def _run_row(home: Path, place: int, run: dict[str, Any], metric: str) -> Row:
    """The row of one run in the study folder that is open as `place`."""
    name = run["folder"]
    if "/" in name or name in ("", ".", ".."):
        raise ValueError(f"{name!r} leads out of the study")
    facts = (run["column"], run["optimizer"], run["seed"])
    factor = float(run.get("lr_factor", 1))
    try:
        file = os.open(f"{name}/{RESULT}", os.O_RDONLY, dir_fd=place)
    except FileNotFoundError:
        try:
            changed = os.stat(name, dir_fd=place).st_mtime
        except FileNotFoundError:
            return Row(home, name, "waiting", *facts, lr_factor=factor)
        return Row(home, name, "unfinished", *facts, changed=changed, lr_factor=factor)
    try:
        facts_of_file = os.fstat(file)
        result = from_json(os.read(file, facts_of_file.st_size))
        status: Status = "diverged" if result["status"] == "diverged" else "finished"
        step, final, reason = result["step"], result["final"].get(metric), result["reason"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return Row(home, name, "damaged", *facts, reason=f"{RESULT}: {error}", lr_factor=factor)
    finally:
        os.close(file)
    changed = facts_of_file.st_mtime
    return Row(home, name, status, *facts, step, metric, final, changed, reason, factor)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
