"""What happened inside the runs over time, module by module, from their recorded segments."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .study import Study
from .traces import decibels

Array = npt.NDArray[np.float64]
#: pyarrow's functions made at import, which no checker of types sees.
_functions = cast(Any, pc)
OPERANDS = ("weight", "activation", "gradient")
#: A measure that stays below this share everywhere has no map.
LEAST = 0.001
_SUMS = ("values", "underflow", "saturated", "signal", "noise", "stalled")


@dataclass(frozen=True)
class ModuleMap:
    """One measure over modules and steps, summed over the seeds of an optimizer in a column.

    values: (modules, steps); NaN where nothing was counted.
    """

    optimizer: str
    column: str
    measure: str
    modules: tuple[str, ...]
    steps: tuple[int, ...]
    values: Array

    @property
    def worst(self) -> float:
        """How much was lost where most was: of SQNR 1 at 0 dB, 0 at 60 dB and over."""
        found = self.values[np.isfinite(self.values)]
        if not len(found):
            return 0.0
        return float(1 - found.min() / 60) if self.measure == "sqnr" else float(found.max())


@dataclass(frozen=True)
class MemoryRow:
    """What one role occupied in the largest run of an optimizer in a column.

    paper: bytes after the optimizer's paper; None for other roles.
    """

    optimizer: str
    column: str
    role: str
    bytes: int
    float32_bytes: int
    paper: int | None


def module_maps(study: Study, optimizer: str, column: str) -> list[ModuleMap]:
    """Underflow, saturation, SQNR of operands by module and step; stalled updates by parameter.

    Underflow and saturation are shares of the operands of matrix products; SQNR is 10 log10 of
    their energy over that of their rounding; stalled is the share of the weights with a gradient
    that a step left as they were. A measure of which there is less than `LEAST` has no map.
    """
    tables = [run.series["trace"] for run in study.select(optimizer, column)]
    table = pa.concat_tables(tables) if tables else None
    if table is None or not len(table):
        return []
    operands = table.filter(
        (pc.field("op") == "matmul") & _functions.is_in(pc.field("operand"), pa.array(OPERANDS))
    )
    updates = table.filter((pc.field("op") == "step") & (pc.field("operand") == "update"))
    measures = (
        ("underflow", operands, lambda s: _share(s["underflow"], s["values"])),
        ("saturation", operands, lambda s: _share(s["saturated"], s["values"])),
        ("sqnr", operands, lambda s: decibels(s["signal"], s["noise"])),
        ("stalled", updates, lambda s: _share(s["stalled"], s["values"])),
    )
    maps = (
        _make_map(optimizer, column, name, _sum(part), measure) for name, part, measure in measures
    )
    return [found for found in maps if found is not None]


def memory_rows(study: Study) -> Iterator[MemoryRow]:
    """The memory of every optimizer in every column whose runs counted it, role by role."""
    for optimizer in study.optimizers:
        for column in study.columns:
            results = [run.result for run in study.select(optimizer, column) if run.result]
            counted = [result for result in results if result.memory]
            if not counted:
                continue
            most = max(counted, key=lambda r: sum(row.bytes for row in r.memory.values()))
            for role, row in most.memory.items():
                paper = most.optimizer_paper_bytes if role == "optimizer" else None
                yield MemoryRow(optimizer, column, role, row.bytes, row.float32_bytes, paper)


def rows_of(study: Study, kind: str, optimizer: str, column: str) -> list[dict[str, Any]]:
    """The rows of a kind of segment over all seeds of an optimizer in a column."""
    runs = study.select(optimizer, column)
    return [row for run in runs for row in run.series[kind].to_pylist()]


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _sum(table: pa.Table) -> dict[tuple[str, int], dict[str, float]]:
    """The counters by module and step."""
    # One thread: several would add floats in an order that changes from run to run.
    groups = table.group_by(["module", "step"], use_threads=False)
    sums = groups.aggregate([(name, "sum") for name in _SUMS]).to_pylist()
    return {
        (row["module"], row["step"]): {name: row[f"{name}_sum"] or 0 for name in _SUMS}
        for row in sums
    }


def _make_map(
    optimizer: str, column: str, name: str, sums: dict[tuple[str, int], dict[str, float]],
    measure: Any,
) -> ModuleMap | None:  # fmt: skip
    modules = tuple(dict.fromkeys(module for module, _ in sorted(sums, key=lambda k: _natural(*k))))
    steps = tuple(sorted({step for _, step in sums}))
    values = np.full((len(modules), len(steps)), np.nan)
    for (module, step), row in sums.items():
        found = measure(row)
        if found is not None:
            values[modules.index(module), steps.index(step)] = found
    seen = values[np.isfinite(values)]
    if not len(seen) or (name != "sqnr" and seen.max() < LEAST):
        return None
    return ModuleMap(optimizer, column, name, modules, steps, values)


def _natural(module: str, step: int) -> tuple[list[tuple[bool, int, str]], int]:
    """`blocks.2` before `blocks.10`."""
    parts = module.split(".")
    return [(not p.isdigit(), int(p) if p.isdigit() else 0, p) for p in parts], step
