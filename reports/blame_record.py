"""What blame found, as blame.json keeps it, and what it was asked, as its study.json does."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ..formats.errors import InputError
from .files import write_text
from .records import Record, read_record

FILE = "blame.json"
SCHEMA = 1


class Suspect(Record):
    """An ingredient, and the columns in which it is back in float32 and alone not so."""

    name: str
    kind: str
    title: str
    without: str
    alone: str | None = None
    parts: int = 0
    notes: tuple[str, ...] = ()


class Plan(Record):
    """The key `blame` of a study.json: who is suspected of what."""

    column: str
    optimizer: str
    as_run: str
    steps: int
    first: int
    suspects: tuple[Suspect, ...]


class _Holder(Record):
    blame: Plan


class BlameRow(Record):
    """One suspect's shares of the gap in training loss and of that in the final metric.

    explained: share that goes when the part is back in float32 (of a rounding: rounded the other
        way). alone: share that is there with only this part low. None: cannot be told.
    """

    name: str
    kind: str
    title: str
    parts: int
    notes: tuple[str, ...] = ()
    explained: float | None
    explained_interval: tuple[float, float] | None
    alone: float | None
    alone_interval: tuple[float, float] | None
    final_explained: float | None
    final_alone: float | None
    diverged_without: int
    diverged_alone: int | None


class BlameRecord(Record):
    """One run's blame: its gap to float32, and the suspects, the first the most to blame."""

    column: str
    optimizer: str
    steps: int
    first: int
    seeds: tuple[int, ...]
    metric: str
    loss: float
    reference_loss: float
    gap: float
    gap_interval: tuple[float, float] | None
    final_gap: float | None
    diverged: int
    verdict: Literal["undecided", "guilty", "together", "redundant", "spread"]
    rows: tuple[BlameRow, ...]
    versions: dict[str, str] = Field(default_factory=dict)
    command: str = ""


class _File(Record):
    blames: tuple[BlameRecord, ...]


def read_plan(path: Path) -> Plan:
    """What the study at `path` was made to find out.

    Raises:
        InputError: it is no study of blame's.
    """
    try:
        return read_record(path / "study.json", _Holder).blame
    except InputError as error:
        raise InputError(f"{path}: is no study that `tapeout blame` made: {error}") from None


def read_blames(study: Path) -> list[BlameRecord]:
    """What stands in a study's blame.json; nothing where there is none.

    Raises:
        InputError: it is damaged.
    """
    path = study / FILE
    return list(read_record(path, _File).blames) if path.exists() else []


def write_blame(study: Path, found: BlameRecord) -> Path:
    """Put `found` into the blame.json of a study, in place of what it said of the same run before.

    Raises:
        InputError: the file there is damaged, or the folder cannot be written.
    """
    kept = [
        old for old in read_blames(study)
        if (old.column, old.optimizer) != (found.column, found.optimizer)
    ]  # fmt: skip
    rows = sorted([*kept, found], key=lambda blame: (blame.column, blame.optimizer))
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "blames": [r.model_dump(mode="json") for r in rows],
    }
    path = study / FILE
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return path
