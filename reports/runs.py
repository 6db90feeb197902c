"""One run folder as a frozen row: how the run ended and what it recorded on the way."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Literal

import pyarrow as pa

from ..formats.errors import InputError
from .records import ResultRecord, RunEntry, RunRecord, read_record
from .segments import SCHEMAS, Omission, read_series

RUN_FILES = {"run.json", "result.json", "timing.json", "checkpoints", "tensorboard", *SCHEMAS}

Status = Literal["finished", "diverged", "unfinished", "missing", "unreadable"]


@dataclass(frozen=True)
class Run:
    """One run as found; `series` holds a table for each kind of segment, perhaps empty.

    status: finished or diverged, as the run itself says; unfinished, when it has no result yet;
    missing, when there is no folder; unreadable, when its files are damaged or are not its own.
    """

    entry: RunEntry
    status: Status
    step: int
    reason: str
    result: ResultRecord | None
    assumed: tuple[str, ...]
    series: dict[str, pa.Table]

    @property
    def ended(self) -> bool:
        """Whether the run ended by itself, well or badly."""
        return self.status in ("finished", "diverged")

    def final(self, metric: str) -> float | None:
        """The final value of `metric` of a finished run, else None."""
        return self.result.final.get(metric) if self.result and self.status == "finished" else None


def read_run(root: Path, entry: RunEntry, metric: str, left_out: list[Omission]) -> Run:
    """The run in `root / entry.folder`, with everything it lacks noted in `left_out`."""
    folder = root / entry.folder
    if not folder.is_dir():
        left_out.append(Omission(entry.folder, "there is no such run folder"))
        return _absent(entry, "missing", "there is no run folder")
    left_out.extend(find_foreign(folder, RUN_FILES, f"{entry.folder}/"))
    inputs = _read_inputs(folder, left_out)
    if inputs and (inputs.column, inputs.optimizer.get("name"), inputs.seed) != (
        entry.column,
        entry.optimizer,
        entry.seed,
    ):
        reason = "describes another run than study.json does; the folder was left out"
        left_out.append(Omission(f"{entry.folder}/run.json", reason))
        return _absent(entry, "unreadable", "the folder holds another run")
    status, result, reason = _read_ending(folder, metric, left_out)
    digests = result.files if result else {}
    series = {kind: read_series(folder, kind, digests, left_out) for kind in SCHEMAS}
    step = result.step if result else _last_step(series["metrics"])
    assumed = inputs.assumed if inputs else ()
    return Run(entry, status, step, reason, result, assumed, series)


def find_foreign(folder: Path, known: set[str], prefix: str) -> Iterator[Omission]:
    """The files in `folder` that are no part of a study."""
    for path in sorted(folder.iterdir()):
        if path.name not in known:
            yield Omission(prefix + path.name, "is not a part of this study; ignored")


def _absent(entry: RunEntry, status: Status, reason: str) -> Run:
    """A run of which nothing can be used."""
    empty = {kind: schema.empty_table() for kind, schema in SCHEMAS.items()}
    return Run(entry, status, 0, reason, None, (), empty)


def _read_inputs(folder: Path, left_out: list[Omission]) -> RunRecord | None:
    """run.json, or None and a note that the run's assumed values are unknown."""
    try:
        return read_record(folder / "run.json", RunRecord)
    except InputError as error:
        reason = f"{_without_path(error, folder / 'run.json')}; its assumed values are unknown"
        left_out.append(Omission(f"{folder.name}/run.json", reason))
        return None


def _read_ending(
    folder: Path, metric: str, left_out: list[Omission]
) -> tuple[Status, ResultRecord | None, str]:
    """How the run ended: its status, its result and the reason in words."""
    path = folder / "result.json"
    if not path.exists():
        return "unfinished", None, "no result.json yet: still running, or stopped"
    try:
        result = read_record(path, ResultRecord)
    except InputError as error:
        reason = _without_path(error, path)
        left_out.append(Omission(f"{folder.name}/result.json", reason))
        return "unreadable", None, f"result.json {reason}"
    value = result.final.get(metric)
    if result.status == "finished" and (value is None or not isfinite(value)):
        reason = f"holds no finite final {metric}, though the run finished"
        left_out.append(Omission(f"{folder.name}/result.json", reason))
        return "unreadable", result, f"result.json {reason}"
    return result.status, result, result.reason


def _last_step(metrics: pa.Table) -> int:
    """The last step that was recorded, 0 if none was."""
    return int(metrics["step"].to_numpy().max()) if len(metrics) else 0


def _without_path(error: InputError, path: Path) -> str:
    """The sentence without the path that it starts with, for lists that show the path beside."""
    return str(error).removeprefix(f"{path}: ")
