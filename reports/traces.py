"""The trace counters of all runs, summed by column, operand role and format."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import log10

import pyarrow as pa

from .segments import COUNTERS
from .study import Study

ROLES = ("weight", "activation", "gradient", "output", "optimizer", "update")


@dataclass(frozen=True)
class TraceRow:
    """What rounding did to one role of operands in one format, over all runs of a column.

    underflow, saturated, overflow, nan: shares of `values`; overflow counts new infinities.
    sqnr_db: 10·log10(signal energy / rounding-noise energy); None when nothing was rounded.
    stalled: share of the weights with a gradient whose stored value did not move in a step;
    None for every role but `update`.
    """

    column: str
    role: str
    format: str
    values: int
    underflow: float
    saturated: float
    overflow: float
    nan: float
    sqnr_db: float | None
    stalled: float | None


def trace_rows(study: Study) -> list[TraceRow]:
    """The sums over runs, modules and steps, in order of column, role and format."""
    return [row for column in study.columns for row in _sum_column(study, column)]


def _sum_column(study: Study, column: str) -> Iterable[TraceRow]:
    """The rows of one column that counted anything."""
    tables = [run.series["trace"] for run in study.select(column=column)]
    if not tables:
        return []
    names = [*COUNTERS, "signal", "noise"]
    # One thread: several would add floats in an order that changes from run to run.
    groups = pa.concat_tables(tables).group_by(["operand", "format"], use_threads=False)
    sums = groups.aggregate([(name, "sum") for name in names])
    found = [
        _make_row(column, raw["operand"], raw["format"], {n: raw[f"{n}_sum"] for n in names})
        for raw in sums.to_pylist()
        if raw["values_sum"]
    ]
    return sorted(found, key=lambda row: (_rank(row.role), row.role, row.format))


def _make_row(column: str, role: str, form: str, sums: dict[str, float]) -> TraceRow:
    """Shares and ratios from the sums."""
    values = sums["values"]
    rounded = sums["noise"] > 0 and sums["signal"] > 0
    return TraceRow(
        column=column,
        role=role,
        format=form,
        values=int(values),
        underflow=sums["underflow"] / values,
        saturated=sums["saturated"] / values,
        overflow=sums["overflow"] / values,
        nan=sums["nan"] / values,
        sqnr_db=10 * log10(sums["signal"] / sums["noise"]) if rounded else None,
        stalled=sums["stalled"] / values if role == "update" else None,
    )


def _rank(role: str) -> int:
    return ROLES.index(role) if role in ROLES else len(ROLES)
