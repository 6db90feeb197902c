"""Where rounding hurt most: the products of each column with the least signal over noise."""

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from .study import Study
from .traces import decibels

MOST = 8
_SUMS = ("signal", "noise", "sum_signal", "sum_noise", "additions", "swamped", "overflow", "nan")


@dataclass(frozen=True)
class ModuleRow:
    """The matrix products of one module in one direction, over all runs of a column.

    module: "" for products outside of all modules.
    sqnr_db, sum_sqnr_db, swamped: as in `TraceRow` of role output.
    made: infinities and NaN that the products made out of finite numbers.
    """

    column: str
    module: str
    gemm: str
    sqnr_db: float
    sum_sqnr_db: float | None
    swamped: float | None
    made: int


def worst_modules(study: Study) -> list[ModuleRow]:
    """Up to `MOST` of each column whose products had noise, the noisiest first."""
    return [row for column in study.columns for row in _worst(study, column)]


def _worst(study: Study, column: str) -> Iterable[ModuleRow]:
    tables = [run.series["trace"] for run in study.select(column=column)]
    if not tables:
        return []
    table = pa.concat_tables(tables)
    table = table.filter(pc.field("operand") == "output")
    groups = table.group_by(["module", "gemm"], use_threads=False)
    found = []
    for raw in groups.aggregate([(name, "sum") for name in _SUMS]).to_pylist():
        sums = {name: raw[f"{name}_sum"] or 0 for name in _SUMS}
        sqnr = decibels(sums["signal"], sums["noise"])
        if sqnr is not None:
            swamped = sums["swamped"] / sums["additions"] if sums["additions"] else None
            alone = decibels(sums["sum_signal"], sums["sum_noise"])
            made = int(sums["overflow"] + sums["nan"])
            row = ModuleRow(column, raw["module"], raw["gemm"], sqnr, alone, swamped, made)
            found.append(row)
    return sorted(found, key=lambda row: (row.sqnr_db, row.module, row.gemm))[:MOST]
