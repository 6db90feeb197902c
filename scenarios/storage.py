"""Files that are either whole or absent, and that say so when they are damaged."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..formats.errors import InputError
from .layout import TEMPORARY


class DamagedFile(InputError):
    """A file that is missing, truncated or altered; the sentence names it."""


def write_bytes(path: Path, data: bytes, durable: bool = True) -> None:
    """Put `data` at `path` so that a reader sees the old file or the new one, never a part.

    Written under another name in the same folder, flushed to the disk, then renamed; the folder
    is flushed too, so that the name survives a power cut. What may be lost in one, because it
    is only for show, is not `durable` and spares the two flushes.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        if durable:
            flush_folder(path.parent)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None


def make_folder(path: Path) -> None:
    """Create `path` and its parents where they do not exist.

    Raises:
        InputError: a parent is read-only, or a file stands in the way.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"the folder cannot be made: {error.strerror or error}"
        raise InputError(f"{path}: {reason}; choose another with --out") from None


def write_json(path: Path, value: Mapping[str, Any], durable: bool = True) -> None:
    """Write `value` as strict JSON (no NaN) in the order of its keys."""
    write_bytes(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode(), durable)


def read_json(path: Path) -> dict[str, Any]:
    """The table in `path`.

    Raises:
        DamagedFile: the file is missing, truncated, or not a JSON table.
    """
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise DamagedFile(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise DamagedFile(f"{path}: is damaged: {error}") from None
    if not isinstance(value, dict):
        raise DamagedFile(f"{path}: is damaged: it does not hold a JSON table")
    return value


def bytes_digest(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of the bytes at `path`.

    Raises:
        DamagedFile: the file is missing or unreadable.
    """
    try:
        return bytes_digest(path.read_bytes())
    except OSError as error:
        raise DamagedFile(f"{path}: cannot be read: {error.strerror or error}") from None


def remove(path: Path) -> None:
    """Delete the file at `path`, if there is one.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be deleted: {error.strerror or error}") from None


def encode_rows(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> bytes:
    """A Parquet segment with a checksum on every page; equal rows give equal bytes."""
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist(list(rows), schema=schema)
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a Parquet segment, every page checked against its checksum.

    Raises:
        DamagedFile: the file is missing, truncated or altered.
    """
    try:
        table = pq.read_table(pa.BufferReader(path.read_bytes()), page_checksum_verification=True)
        rows: list[dict[str, Any]] = table.to_pylist()
    except OSError as error:
        raise DamagedFile(f"{path}: is damaged or missing: {error}") from None
    except (pa.ArrowException, ValueError) as error:
        raise DamagedFile(f"{path}: is damaged: {error}") from None
    return rows


def flush_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
