"""Everything a report says as plain data: what report.json holds and what the page shows."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..simulator.tracing import COVERAGE
from .drawing import Figure
from .modules import worst_modules
from .rules import REFERENCE, STABLE, describe_rules
from .study import Study
from .traces import TraceRow
from .verdict import VerdictRow
from .wording import lower_is_better

SCHEMA = 1
FACTS = {"name", "summary", "reference", "metric", "tolerance", "seeds", "command", "versions"}
FACTS |= {"cpu", "git", "scenario_toml", "columns", "optimizers"}


def describe_study(
    study: Study, rows: Sequence[VerdictRow], trace: Sequence[TraceRow], figures: Sequence[Figure]
) -> dict[str, Any]:
    """The report as a JSON table; numbers are unrounded, null where nothing was measured."""
    facts = study.facts
    return {
        "schema": SCHEMA,
        "study": facts.model_dump(mode="json", include=FACTS),
        "headline": _describe_headline(study, rows),
        "rules": [
            {"verdict": verdict, "rule": rule}
            for verdict, rule in describe_rules(facts.metric, facts.tolerance)
        ],
        "rows": [asdict(row) for row in rows],
        "trace": [asdict(row) for row in trace],
        "modules": [asdict(row) for row in worst_modules(study)],
        "memory": _describe_memory(study),
        "assumed": {column: _list_assumed(study, column) for column in study.columns},
        "coverage_kinds": COVERAGE,
        "coverage": {column: _count_coverage(study, column) for column in study.columns},
        "runs": _describe_runs(study),
        "left_out": [asdict(omission) for omission in study.left_out],
        "figures": [
            {"name": f.name, "title": f.title, "header": f.header, "rows": f.rows} for f in figures
        ],
    }


def _describe_headline(study: Study, rows: Sequence[VerdictRow]) -> dict[str, Any]:
    """The three numbers of the first screen, and how much of the study is there."""
    judged = [row for row in rows if row.verdict != REFERENCE]
    sign = 1 if lower_is_better(study.facts.metric) else -1
    gaps = [row for row in judged if row.gap is not None]
    worst = max(gaps, key=lambda row: sign * (row.gap or 0.0), default=None)
    return {
        "stable": sum(row.verdict == STABLE for row in judged),
        "judged": len(judged),
        "worst": asdict(worst) if worst else None,
        "diverged": sum(row.diverged for row in rows),
        "ended": sum(row.runs for row in rows),
        "planned": len(study.runs),
    }


def _describe_memory(study: Study) -> list[dict[str, Any]]:
    """Bytes of optimizer state, and their share of the first optimizer's in the same column."""
    stored = {
        (optimizer, column): _largest_state(study, optimizer, column)
        for optimizer in study.optimizers
        for column in study.columns
    }
    first = study.optimizers[0] if study.optimizers else ""
    return [
        {
            "optimizer": optimizer,
            "column": column,
            "bytes": size,
            "relative": size / base if size is not None and base else None,
        }
        for (optimizer, column), size in stored.items()
        for base in [stored[first, column]]
    ]


def _largest_state(study: Study, optimizer: str, column: str) -> int | None:
    """The optimizer state in bytes of the run that has most of it."""
    sizes = [
        run.result.optimizer_state_bytes
        for run in study.select(optimizer, column)
        if run.result and run.result.optimizer_state_bytes is not None
    ]
    return max(sizes, default=None)


def _list_assumed(study: Study, column: str) -> list[str]:
    """The assumed values that a column's runs rest on, each once."""
    runs = study.select(column=column)
    return list(dict.fromkeys(sentence for run in runs for sentence in run.assumed))


def _count_coverage(study: Study, column: str) -> dict[str, dict[str, int | None]]:
    """Calls of each operation in a column's runs, by how they were carried out.

    Null where a run did not count them.
    """
    found: dict[str, dict[str, int | None]] = {how: {} for how in COVERAGE}
    for run in study.select(column=column):
        for how, operations in (run.result.coverage if run.result else {}).items():
            calls = found.setdefault(how, {})
            for operation, number in operations.items():
                before = calls.get(operation, 0)
                both = None if before is None or number is None else before + number
                calls[operation] = both
    return {how: dict(sorted(calls.items())) for how, calls in found.items()}


def _describe_runs(study: Study) -> list[dict[str, Any]]:
    """Every run that the study asked for, with how it ended."""
    return [
        {
            **run.entry.model_dump(),
            "status": run.status,
            "step": run.step,
            "final": run.final(study.facts.metric),
            "reason": run.reason,
        }
        for run in study.runs
    ]
