"""The trace counters of all runs, summed by column, operand role and format."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import log10
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from .segments import COUNTERS
from .study import Study

ROLES = ("weight", "activation", "gradient", "optimizer", "output", "update")
_SUMS = (*COUNTERS, "signal", "noise", "sum_signal", "sum_noise", "additions", "swamped")


@dataclass(frozen=True)
class TraceRow:
    """What rounding did to one role of operands in one format, over all runs of a column.

    underflow, saturated, overflow, nan: shares of `values`; overflow counts new infinities.
    sqnr_db: 10·log10(signal energy / rounding-noise energy); None when nothing was rounded. Of
        role `output`, over a sample: exact results of the operands before rounding / differences.
    sum_sqnr_db: of role `output`, exact results of the rounded operands / differences: what
        accumulation and the result's format lost; None when nothing was lost, or not looked at.
    swamped: share of the nonzero products looked at that changed no bit of the sum.
    stalled: share of the weights with a gradient whose stored value did not move in a step;
        None for every role but `update`.
    smallest, largest: the range of nonzero finite magnitudes before rounding; None if unknown.
    exponents: (floor(log2 |x|), how many values) before rounding, ascending.
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
    sum_sqnr_db: float | None
    swamped: float | None
    stalled: float | None
    smallest: float | None
    largest: float | None
    exponents: tuple[tuple[int, int], ...]


def trace_rows(study: Study) -> list[TraceRow]:
    """The sums over runs, modules and steps, in order of column, role and format."""
    return [row for column in study.columns for row in _sum_column(study, column)]


def _sum_column(study: Study, column: str) -> Iterable[TraceRow]:
    """The rows of one column that counted anything; of optimizer steps, the updates alone.

    What is rounded on its way into the memory has roles of its own, "stored weight" and so on.
    """
    tables = [run.series["trace"] for run in study.select(column=column)]
    if not tables:
        return []
    table = pa.concat_tables(tables)
    table = table.filter((pc.field("op") != "step") | (pc.field("operand") == "update"))
    names = (table[name].to_pylist() for name in ("op", "gemm", "operand"))
    roles = pa.array(
        [
            f"stored {gemm}" if op == "store" else operand
            for op, gemm, operand in zip(*names, strict=True)
        ],
        pa.string(),
    )
    table = table.set_column(table.schema.get_field_index("operand"), "operand", roles)
    # One thread: several would add floats in an order that changes from run to run.
    groups = table.group_by(["operand", "format"], use_threads=False)
    sums = groups.aggregate(
        [*((name, "sum") for name in _SUMS), ("smallest", "min"), ("largest", "max")]
    )
    exponents = _sum_exponents(table)
    found = [
        _make_row(column, raw, exponents[raw["operand"], raw["format"]])
        for raw in sums.to_pylist()
        if raw["values_sum"]
    ]
    return sorted(found, key=lambda row: (_rank(row.role), row.role, row.format))


def _sum_exponents(table: pa.Table) -> dict[tuple[str, str], Counter[int]]:
    """How many values have each exponent, by operand and format."""
    names = ["operand", "format", "exponents", "exponent_counts"]
    found: dict[tuple[str, str], Counter[int]] = {}
    for operand, form, exponents, counts in zip(
        *(table[name].to_pylist() for name in names), strict=True
    ):
        total = found.setdefault((operand, form), Counter())
        for exponent, count in zip(exponents or (), counts or (), strict=True):
            total[exponent] += count
    return found


def _make_row(column: str, raw: dict[str, Any], exponents: Counter[int]) -> TraceRow:
    """Shares and ratios from the sums."""
    sums = {name: raw[f"{name}_sum"] or 0 for name in _SUMS}
    values, role = sums["values"], raw["operand"]
    return TraceRow(
        column=column,
        role=role,
        format=raw["format"],
        values=int(values),
        underflow=sums["underflow"] / values,
        saturated=sums["saturated"] / values,
        overflow=sums["overflow"] / values,
        nan=sums["nan"] / values,
        sqnr_db=decibels(sums["signal"], sums["noise"]),
        sum_sqnr_db=decibels(sums["sum_signal"], sums["sum_noise"]),
        swamped=sums["swamped"] / sums["additions"] if sums["additions"] else None,
        stalled=sums["stalled"] / values if role == "update" else None,
        smallest=raw["smallest_min"],
        largest=raw["largest_max"],
        exponents=tuple(sorted(exponents.items())),
    )


def decibels(signal: float, noise: float) -> float | None:
    """10 log10(signal / noise); None without either."""
    return 10 * log10(signal / noise) if signal > 0 and noise > 0 else None


def _rank(role: str) -> int:
    return ROLES.index(role) if role in ROLES else len(ROLES)
