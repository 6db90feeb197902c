"""Run folders: what they are called, what stands in them, and when they can be trusted.

A study folder holds `study.json` and one folder a run. A run folder holds its frozen inputs
(`run.json`), immutable Parquet segments, a chain of checkpoints, and `result.json`, written last
with the SHA-256 of the inputs and of every segment. Names carry a hash of the inputs, and what was
computed from them carries the whole hash, so a changed input never meets an old result.
"""

import fcntl
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..simulator.tracing import COLUMNS
from .layout import CHECKPOINTS, INPUTS, RESULT, TEMPORARY, digest, step_name, step_of
from .storage import (
    DamagedFile,
    bytes_digest,
    encode_rows,
    file_digest,
    make_folder,
    read_json,
    read_rows,
    remove,
    write_bytes,
    write_json,
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


class Busy(Exception):
    """Another process is computing this run."""


@dataclass(frozen=True)
class RunFolder:
    """One run on disk."""

    path: Path

    @contextmanager
    def locked(self, wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Keep other processes out of this run until the block ends or the process dies.

        wait: called again and again while another process is in it; returns after a while, or
        raises to give up.

        Raises:
            Busy: another process is in it, and there is no `wait`.
            InputError: the folder cannot be made or opened.
        """
        descriptor = self._lock(wait)
        try:
            yield
        finally:
            os.close(descriptor)

    def _lock(self, wait: Callable[[], None] | None) -> int:
        while True:
            make_folder(self.path)
            try:
                descriptor = os.open(self.path, os.O_RDONLY)
            except OSError as error:
                raise DamagedFile(f"{self.path}: cannot be opened: {error.strerror}") from None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is(self.path, descriptor):
                    return descriptor
                os.close(descriptor)  # deleted between the two: it is made again
            except BlockingIOError:
                os.close(descriptor)
                if wait is None:
                    raise Busy from None
                wait()

    def segment(self, table: str, step: int) -> Path:
        """The rows of `table` between the checkpoint before `step` and `step`."""
        return self.path / table / step_name(step, "parquet")

    def segments(self, table: str) -> list[Path]:
        """All segments of `table` in the order of their steps."""
        return sorted((self.path / table).glob("step-*.parquet"), key=lambda p: step_of(p.name))

    def checkpoint(self, step: int) -> Path:
        """The state of the run after `step` steps."""
        return self.path / CHECKPOINTS / step_name(step, "safetensors")

    def checkpoints(self) -> list[int]:
        """The steps after which there is a checkpoint, in their order."""
        return sorted(step_of(p.name) for p in (self.path / CHECKPOINTS).glob("step-*.safetensors"))

    def encode(self, step: int, rows: Mapping[str, list[dict[str, Any]]]) -> dict[str, bytes]:
        """One segment for each table, by its path in this folder."""
        return {
            f"{table}/{self.segment(table, step).name}": encode_rows(rows[table], schema)
            for table, schema in TABLES.items()
            if rows[table] or table not in OPTIONAL
        }

    def append(self, step: int, rows: Mapping[str, list[dict[str, Any]]]) -> dict[str, str]:
        """Write one segment for each table; the SHA-256 of each by its path in this folder."""
        segments = self.encode(step, rows)
        for name, data in segments.items():
            self.put(name, data)
        return {name: bytes_digest(data) for name, data in segments.items()}

    def put(self, name: str, data: bytes) -> None:
        """Write a segment at its path in this folder."""
        path = self.path / name
        make_folder(path.parent)
        write_bytes(path, data)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows of all segments of `table`, every page checked."""
        return [row for path in self.segments(table) for row in read_rows(path)]

    def trim(self, step: int) -> None:
        """Delete what a killed run left behind its last checkpoint, at `step`."""
        for table in TABLES:
            for path in self.segments(table):
                if step_of(path.name) > step:
                    remove(path)
        for leftover in self.path.rglob(f"{TEMPORARY}*"):
            remove(leftover)

    def faults(self, files: Mapping[str, str]) -> dict[str, str]:
        """What is wrong with the segments, which should be `files`, SHA-256 by path; by path."""
        found = {f"{table}/{path.name}": path for table in TABLES for path in self.segments(table)}
        faults = {}
        for name in sorted(files.keys() | found.keys()):
            if name not in found:
                faults[name] = f"{self.path / name}: is missing"
            elif name not in files:
                faults[name] = f"{self.path / name}: is no segment of this run"
            elif file_digest(found[name]) != files[name]:
                faults[name] = f"{self.path / name}: is not as the run wrote it"
        return faults

    def verify(self, files: Mapping[str, str]) -> None:
        """Check that the segments here are exactly `files`, SHA-256 by path.

        Raises:
            DamagedFile: one is missing, altered or not of this run; names the first.
        """
        for fault in self.faults(files).values():
            raise DamagedFile(fault)

    def finish(self, result: Mapping[str, Any], inputs: str, files: Mapping[str, str]) -> None:
        """Write `result.json`, with the hashes that make a finished run checkable."""
        content = {"schema": SCHEMA, **result, "inputs": inputs, "files": files}
        write_json(self.path / RESULT, content | {"digest": digest(content)})

    def ending(self, inputs: str) -> dict[str, Any] | None:
        """`result.json`, or None where the run has not finished; its segments are not looked at.

        Raises:
            DamagedFile: it is damaged, or was computed from other inputs than those of this digest.
        """
        path = self.path / RESULT
        if not path.exists():
            return None
        result = read_json(path)
        content = {key: value for key, value in result.items() if key != "digest"}
        if result.get("digest") != digest(content) or not are_segments(result.get("files")):
            raise DamagedFile(f"{path}: is damaged: its digest does not match its content")
        if result.get("inputs") != inputs:
            raise DamagedFile(f"{path}: does not belong to the inputs in run.json beside it")
        return result

    def result(self) -> dict[str, Any] | None:
        """What the run came to, or None where it has not finished; every file checked.

        Raises:
            DamagedFile: the result, the inputs or a segment has changed since; names the file.
        """
        if not (self.path / RESULT).exists():
            return None
        result = self.ending(digest(read_json(self.path / INPUTS)))
        if result is not None:
            self.verify(result["files"])
        return result


def are_segments(files: object) -> bool:
    """Whether `files` is a table of segments by their path: none leads out of its folder."""
    names = "|".join(TABLES)
    return isinstance(files, dict) and all(
        re.fullmatch(rf"({names})/step-\d{{6,}}\.parquet", name) and isinstance(value, str)
        for name, value in files.items()
    )


def _is(path: Path, descriptor: int) -> bool:
    """Whether the folder at `path` is the one that `descriptor` has opened."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
