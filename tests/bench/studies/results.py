"""Results on disk: one JSON object a line, only ever appended."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from os import SEEK_END
from pathlib import Path
from typing import Any

from tapeout.formats.errors import InputError

from .contenders import Contender, Setting
from .tasks import Task
from .training import ARITHMETICS

Row = dict[str, Any]
RESULTS = Path(__file__).parent / "results.jsonl"


@dataclass(frozen=True)
class Job:
    """A run to make. `fold` None: trained on the whole training part, judged by the test part."""

    task: Task
    contender: Contender
    setting: tuple[tuple[str, float], ...]
    arithmetic: str
    fold: int | None
    seed: int

    @property
    def values(self) -> Setting:
        """The setting as a dictionary."""
        return dict(self.setting)

    def key(self) -> str:
        """A digest of all that the result depends on, but the code."""
        facts = {
            "task": self.task.facts(),
            "optimizer": self.contender.options(self.task, self.values),
            "arithmetic": ARITHMETICS[self.arithmetic],
            "fold": self.fold,
            "seed": self.seed,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def facts(self) -> Row:
        """What a reader of the row wants to know of the job."""
        return {
            "key": self.key(),
            "task": self.task.name,
            "optimizer": self.contender.name,
            "setting": self.values,
            "arithmetic": self.arithmetic,
            "fold": self.fold,
            "seed": self.seed,
        }


class Results:
    """The rows of a file by their key; those added are on disk at once.

    A last line without its end, which a killed writer leaves, is cut off when the next row is
    added.

    Raises:
        InputError: a line that is no row; its number.
    """

    def __init__(self, path: Path = RESULTS) -> None:
        self.path = path
        self.rows = {row["key"]: row for row in _lines(path)}

    def get(self, job: Job) -> Row | None:
        """The job's row, if it has been run."""
        return self.rows.get(job.key())

    def add(self, job: Job, outcome: Row) -> None:
        """Append the job's row."""
        row = job.facts() | outcome
        line = json.dumps(row, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        self.path.touch()
        with self.path.open("r+b") as file:
            file.truncate(_whole(file.read()))
            file.seek(0, SEEK_END)
            file.write(line)
        self.rows[row["key"]] = row


def _whole(text: bytes) -> int:
    """Length of the lines that have their end."""
    return text.rfind(b"\n") + 1


def _lines(path: Path) -> Iterator[Row]:
    if not path.exists():
        return
    text = path.read_bytes()
    for number, line in enumerate(text[: _whole(text)].splitlines(), 1):
        try:
            row = json.loads(line)
            row["key"]
        except (ValueError, TypeError, KeyError):
            raise InputError(
                f"{path}, line {number}: not a row of results: restore the file or remove the line"
            ) from None
        yield row
