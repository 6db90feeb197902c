"""The Parquet segments of a run, read with their page checksums verified."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..formats.errors import InputError

COUNTERS = ("values", "underflow", "saturated", "overflow", "nan", "stalled")
#: Of a trace, what folders of earlier versions do not hold: read as null.
LATER = pa.schema(
    {"grad_norm": pa.float64()}
    | {name: pa.int64() for name in ("additions", "swamped", "compared")}
    | {name: pa.float64() for name in ("sum_signal", "sum_noise", "smallest", "largest")}
    | {name: pa.list_(pa.int64()) for name in ("exponents", "exponent_counts")}
)

# Only what the report reads: a segment may hold more.
SCHEMAS = {
    "metrics": pa.schema({"step": pa.int64(), "loss": pa.float64(), "grad_norm": pa.float64()}),
    "evaluations": pa.schema(
        {"step": pa.int64(), "test_loss": pa.float64(), "test_accuracy": pa.float64()}
    ),
    "trace": pa.schema(
        {name: pa.string() for name in ("module", "op", "gemm", "operand", "format")}
        | {"step": pa.int64()}
        | {name: pa.int64() for name in COUNTERS}
        | {"signal": pa.float64(), "noise": pa.float64()}
        | {field.name: field.type for field in LATER if field.name != "grad_norm"}
    ),
    "weights": pa.schema(
        {"step": pa.int64(), "parameter": pa.string(), "values": pa.int64(), "zeros": pa.int64()}
        | {name: pa.float64() for name in ("mean_ln", "std_ln", "ks")}
        | {name: pa.list_(pa.int64()) for name in ("bins", "counts")}
    ),
    "preconditioners": pa.schema(
        {"step": pa.int64(), "parameter": pa.string(), "side": pa.string(), "order": pa.int64()}
        | {name: pa.float64() for name in ("nre", "ae_degrees")}
    ),
}


@dataclass(frozen=True)
class Omission:
    """A file, or a stretch of a series, that the report had to do without, and why."""

    file: str
    reason: str


def read_segment(path: Path, schema: pa.Schema, digest: str | None = None) -> pa.Table:
    """The columns of `schema` in the Parquet file at `path`, every page checked.

    digest: the SHA-256 that the file must have, if it was recorded.

    Raises:
        InputError: the file is missing, truncated, altered or lacks a column.
    """
    try:
        data = path.read_bytes()
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            missing = [name for name in schema.names if name not in file.schema_arrow.names]
            absent = [name for name in missing if name not in LATER.names]
            if absent:
                raise InputError(f"{path}: lacks the column {', '.join(absent)}")
            table = file.read(columns=[name for name in schema.names if name not in missing])
            for name in missing:
                table = table.append_column(name, pa.nulls(len(table), schema.field(name).type))
            table = table.select(schema.names).cast(schema)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, pa.ArrowException, UnicodeDecodeError, OverflowError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: is damaged or not Parquet: {first}") from None
    if digest and sha256(data).hexdigest() != digest:
        raise InputError(f"{path}: has changed since the run recorded its SHA-256")
    return table


def read_series(
    run: Path, kind: str, digests: Mapping[str, str], left_out: list[Omission]
) -> pa.Table:
    """All intact segments of one kind, in order of step; the others go to `left_out`.

    digests: the SHA-256 that a finished run recorded of each of its segments; empty before.
    """
    schema = SCHEMAS[kind]
    tables = [schema.empty_table()]
    recorded = {run / name for name in digests if name.startswith(f"{kind}/")}
    for path in sorted(recorded.union((run / kind).glob("*"))):
        name = path.relative_to(run).as_posix()
        try:
            if path.suffix != ".parquet" or (recorded and path not in recorded):
                raise InputError(f"{path}: is not a segment of this run; ignored")
            tables.append(read_segment(path, schema, digests.get(name)))
        except InputError as error:
            reason = str(error).removeprefix(f"{path}: ")
            left_out.append(Omission(f"{run.name}/{name}", reason))
    return pa.concat_tables(tables).sort_by("step")
