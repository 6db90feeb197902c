"""Checking runs on disk file by file, and deleting them or their checkpoints."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..formats.errors import InputError
from .checkpoints import damaged
from .folder import Busy, RunFolder
from .layout import CHECKPOINTS, DELETING, RESULT, STUDY
from .listing import Row
from .storage import DamagedFile, remove


def verify(row: Row) -> Row:
    """The row, `damaged` if a segment or a checkpoint of its run is not as the run wrote it."""
    if row.status not in ("finished", "diverged", "unfinished"):
        return row
    folder = RunFolder(row.path)
    try:
        folder.result()
        faults = damaged(folder)
    except DamagedFile as fault:
        faults = [str(fault)]
    return replace(row, status="damaged", reason=faults[0]) if faults else row


def size_of(path: Path) -> int:
    """Bytes of all files under `path`, or of the file at it."""
    return sum(file.lstat().st_size for file in [path, *path.rglob("*")] if not file.is_dir())


def delete_runs(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Delete the folders of `rows`; those deleted, and those that a process is computing.

    A folder is renamed first: no reader meets half of it, and what a kill leaves is a leftover.

    Raises:
        InputError: a folder cannot be deleted.
    """
    gone, busy = [], []
    for row in rows:
        try:
            if row.path.name == STUDY or row.status == "waiting":
                continue
            if row.status == "leftover":
                _delete(row.path)
            else:
                with RunFolder(row.path).locked():
                    _delete(row.path.rename(row.path.with_name(f"{DELETING}{row.path.name}")))
            gone.append(row)
        except Busy:
            busy.append(row)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"{row.path}: cannot be deleted: {reason}") from None
    return gone, busy


def delete_checkpoints(rows: Sequence[Row]) -> list[Row]:
    """Delete the checkpoints of those `rows` that have ended; a damaged segment then costs more."""
    done = []
    for row in rows:
        if not (row.path / RESULT).exists():
            continue
        with suppress(Busy), RunFolder(row.path).locked():
            for path in (row.path / CHECKPOINTS).glob("*.safetensors"):
                remove(path)
            done.append(row)
    return done


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
