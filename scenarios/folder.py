"""Run folders: what they are called, what stands in them, and when they can be trusted.

A study folder holds `study.json` and one folder a run. A run folder holds its frozen inputs
(`run.json`), immutable Parquet segments, the latest checkpoint, and `result.json`, written last
with the SHA-256 of the inputs and of every segment. Names carry a hash of the inputs, so a
changed input never meets an old result.
"""

import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..simulator.tracing import COLUMNS
from .storage import (
    TEMPORARY,
    DamagedFile,
    digest,
    file_digest,
    make_folder,
    read_json,
    read_rows,
    write_json,
    write_rows,
)

SCHEMA = 1
_STEP = pa.field("step", pa.int64())
_REAL = pa.float64()
_TYPES = {
    "text": pa.string(),
    "count": pa.int64(),
    "energy": _REAL,
    "magnitude": _REAL,
    "list": pa.list_(pa.int64()),
}
TABLES: dict[str, pa.Schema] = {
    "metrics": pa.schema([_STEP, ("loss", _REAL), ("lr", _REAL), ("grad_norm", _REAL)]),
    "evaluations": pa.schema(
        [_STEP, ("test_loss", _REAL), ("test_accuracy", _REAL), ("train_loss", _REAL)]
    ),
    "weights": pa.schema(
        [_STEP, ("parameter", pa.string()), ("values", pa.int64()), ("zeros", pa.int64()),
         ("nonfinite", pa.int64()), ("mean_ln", _REAL), ("std_ln", _REAL), ("ks", _REAL),
         ("bins", pa.list_(pa.int64())), ("counts", pa.list_(pa.int64()))]
    ),
    "preconditioners": pa.schema(
        [_STEP, ("parameter", pa.string()), ("side", pa.string()), ("order", pa.int64()),
         ("nre", _REAL), ("ae_degrees", _REAL)]
    ),
    "trace": pa.schema(
        [
            pa.field(c.name, _TYPES[c.kind], metadata={"of": c.of, "meaning": c.meaning})
            for c in COLUMNS
        ]
    ),
}  # fmt: skip
#: Not every run has any: without rows there is no segment.
OPTIONAL = ("weights", "preconditioners")


def slug(name: str) -> str:
    """`name` in lower case, with only letters, digits, dots and single dashes."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")


def freeze(path: Path, inputs: Mapping[str, Any]) -> None:
    """Write the inputs at `path`, or check that the file there holds the same ones.

    Raises:
        DamagedFile: the file there holds something else.
        InputError: the folder cannot be written.
    """
    make_folder(path.parent)
    if not path.exists():
        write_json(path, inputs)
    elif digest(read_json(path)) != digest(inputs):
        raise DamagedFile(f"{path}: does not hold the inputs its folder is named after")


@dataclass(frozen=True)
class RunFolder:
    """One run on disk."""

    path: Path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of this run until the block ends or the process dies."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @property
    def checkpoint(self) -> Path:
        """The state of the run at its latest checkpoint."""
        return self.path / "checkpoint.safetensors"

    def segment(self, table: str, step: int) -> Path:
        """The rows of `table` between the checkpoint before `step` and `step`."""
        return self.path / table / f"step-{step:06d}.parquet"

    def segments(self, table: str) -> list[Path]:
        """All segments of `table` in the order of their steps."""
        return sorted((self.path / table).glob("step-*.parquet"), key=_step)

    def append(self, step: int, rows: Mapping[str, list[dict[str, Any]]]) -> dict[str, str]:
        """Write one segment for each table; the SHA-256 of each by its path in this folder."""
        digests = {}
        for table, schema in TABLES.items():
            if table in OPTIONAL and not rows[table]:
                continue
            path = self.segment(table, step)
            make_folder(path.parent)
            digests[f"{table}/{path.name}"] = write_rows(path, rows[table], schema)
        return digests

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows of all segments of `table`, every page checked."""
        return [row for path in self.segments(table) for row in read_rows(path)]

    def trim(self, step: int) -> None:
        """Delete what a killed run left behind its last checkpoint, at `step`."""
        for table in TABLES:
            for path in self.segments(table):
                if _step(path) > step:
                    path.unlink()
        for leftover in self.path.rglob(f"{TEMPORARY}*"):
            leftover.unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete everything that `run.json` does not need to be computed again."""
        for name in ("result.json", self.checkpoint.name, "run.json"):
            (self.path / name).unlink(missing_ok=True)
        self.trim(0)

    def verify(self, files: Mapping[str, str]) -> None:
        """Check that the segments here are exactly `files`, SHA-256 by path.

        Raises:
            DamagedFile: one is missing, altered or not of this run; names the first.
        """
        found = {
            f"{table}/{path.name}": file_digest(path)
            for table in TABLES
            for path in self.segments(table)
        }
        for name in sorted(files.keys() | found.keys()):
            if name not in found:
                raise DamagedFile(f"{self.path / name}: is missing")
            if files.get(name) != found[name]:
                raise DamagedFile(f"{self.path / name}: is not as the run wrote it")

    def finish(self, result: Mapping[str, Any], files: Mapping[str, str]) -> None:
        """Write `result.json`, with the hashes that make a finished run checkable."""
        inputs = digest(read_json(self.path / "run.json"))
        content = {"schema": SCHEMA, **result, "inputs": inputs, "files": files}
        write_json(self.path / "result.json", content | {"digest": digest(content)})

    def result(self) -> dict[str, Any] | None:
        """What the run came to, or None where it has not finished.

        Raises:
            DamagedFile: the result, the inputs or a segment has changed since; names the file.
        """
        path = self.path / "result.json"
        if not path.exists():
            return None
        result = read_json(path)
        content = {key: value for key, value in result.items() if key != "digest"}
        if result.get("digest") != digest(content):
            raise DamagedFile(f"{path}: is damaged: its digest does not match its content")
        if result["inputs"] != digest(read_json(self.path / "run.json")):
            raise DamagedFile(f"{path}: does not belong to the inputs in run.json beside it")
        self.verify(result["files"])
        return result


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))
