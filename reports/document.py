"""Everything a report says as plain data: what report.json holds and the pages show."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..simulator.tracing import COVERAGE
from . import inside_section
from .blame_record import BlameRecord
from .blame_section import BlameSection
from .decision import Decision
from .drawing import Figure
from .inside import MemoryRow
from .learning_rates import RateRow
from .modules import ModuleRow
from .pareto import ParetoRow
from .provenance import ChipEvidence
from .records import Column
from .rules import REFERENCE, STABLE, describe_rules
from .segments import Omission
from .signals import Warnings
from .study import Study
from .traces import TraceRow
from .verdict import VerdictRow
from .wording import lower_is_better

FACTS = {"name", "summary", "reference", "metric", "tolerance", "seeds", "command", "versions"}
FACTS |= {"cpu", "git", "scenario_toml", "columns", "optimizers", "thresholds"}


class Part(BaseModel):
    """A closed table of the document."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Facts(Part):
    """What study.json says about the study."""

    name: str
    summary: str
    reference: str
    metric: str
    tolerance: float
    seeds: tuple[int, ...]
    command: str
    versions: dict[str, str]
    cpu: str
    git: str
    scenario_toml: str
    columns: tuple[Column, ...]
    optimizers: tuple[dict[str, Any], ...]
    thresholds: dict[str, float | str | None]


class Headline(Part):
    """The first screen in numbers: verdicts counted, the worst gap, runs that diverged.

    verdicts: how many pairs of optimizer and column have each verdict, the reference's left out.
    ended, diverged: runs at learning-rate factor 1; swept: at any other; planned: all.
    """

    verdicts: dict[str, int]
    stable: int
    judged: int
    worst: VerdictRow | None
    diverged: int
    ended: int
    swept: int
    planned: int


class Rule(Part):
    """A verdict and the rule for it, in words."""

    verdict: str
    rule: str


class MemoryCell(Part):
    """Bytes of optimizer state, and their share of the first optimizer's in the same column."""

    optimizer: str
    column: str
    bytes: int | None
    relative: float | None


class RunRow(Part):
    """A run that the study asked for, and how it ended."""

    folder: str
    column: str
    optimizer: str
    seed: int
    lr_factor: float
    status: str
    step: int
    final: float | None
    reason: str


class Blame(BlameRecord):
    """What `tapeout blame` found about one run, with its sentence."""

    conclusion: str


class Inside(Part):
    """What the runs recorded of their inside, beside the tables of the figures."""

    memory: tuple[MemoryRow, ...]


class FigureTable(Part):
    """The table behind a figure of the page."""

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Document(Part):
    """report.json: numbers are unrounded, null where nothing was measured."""

    schema_version: Literal[1] = Field(1, alias="schema")
    study: Facts
    headline: Headline
    rules: tuple[Rule, ...]
    rows: tuple[VerdictRow, ...]
    decision: Decision
    blame: tuple[Blame, ...]
    rates: tuple[RateRow, ...]
    warnings: Warnings
    pareto: tuple[ParetoRow, ...]
    trace: tuple[TraceRow, ...]
    modules: tuple[ModuleRow, ...]
    memory: tuple[MemoryCell, ...]
    inside: Inside
    evidence: tuple[ChipEvidence, ...]
    assumed: dict[str, tuple[str, ...]]
    coverage_kinds: dict[str, str]
    coverage: dict[str, dict[str, dict[str, int | None]]]
    runs: tuple[RunRow, ...]
    left_out: tuple[Omission, ...]
    figures: tuple[FigureTable, ...]


@dataclass(frozen=True)
class Findings:
    """What was concluded from a study, before it is drawn or written."""

    study: Study
    rows: list[VerdictRow]
    decision: Decision
    rates: list[RateRow]
    warnings: Warnings
    pareto: list[ParetoRow]
    trace: list[TraceRow]
    modules: list[ModuleRow]
    evidence: list[ChipEvidence]


def describe(
    found: Findings, figures: Sequence[Figure], blame: BlameSection, inside: inside_section.Inside
) -> Document:
    """The findings as the document that report.json holds."""
    study, facts = found.study, found.study.facts
    return Document(
        schema=1,
        study=Facts(**{name: getattr(facts, name) for name in FACTS}),
        headline=_describe_headline(study, found.rows),
        rules=tuple(
            Rule(verdict=verdict, rule=rule)
            for verdict, rule in describe_rules(facts.metric, facts.tolerance)
        ),
        rows=tuple(found.rows),
        decision=found.decision,
        blame=tuple(Blame.model_validate(table) for table in blame.describe()),
        rates=tuple(found.rates),
        warnings=found.warnings,
        pareto=tuple(found.pareto),
        trace=tuple(found.trace),
        modules=tuple(found.modules),
        memory=tuple(_describe_memory(study)),
        inside=Inside(memory=tuple(MemoryRow(**row) for row in inside.memory)),
        evidence=tuple(found.evidence),
        assumed={column: _list_assumed(study, column) for column in study.columns},
        coverage_kinds=dict(COVERAGE),
        coverage={column: _count_coverage(study, column) for column in study.columns},
        runs=tuple(_describe_runs(study)),
        left_out=(*study.left_out, *blame.left_out),
        figures=tuple(
            FigureTable(name=f.name, title=f.title, header=f.header, rows=f.rows) for f in figures
        ),
    )


def schema_of_report() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of report.json."""
    schema = Document.model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _describe_headline(study: Study, rows: Sequence[VerdictRow]) -> Headline:
    """The numbers of the first screen, and how much of the study is there."""
    judged = [row for row in rows if row.verdict != REFERENCE]
    sign = 1 if lower_is_better(study.facts.metric) else -1
    gaps = [row for row in judged if row.gap is not None]
    names = list(dict.fromkeys(verdict for verdict, _ in describe_rules("", 0.0)))
    return Headline(
        verdicts={name: sum(row.verdict == name for row in judged) for name in names},
        stable=sum(row.verdict == STABLE for row in judged),
        judged=len(judged),
        worst=max(gaps, key=lambda row: sign * (row.gap or 0.0), default=None),
        diverged=sum(row.diverged for row in rows),
        ended=sum(row.runs for row in rows),
        swept=sum(run.ended and run.entry.lr_factor != 1 for run in study.runs),
        planned=len(study.runs),
    )


def _describe_memory(study: Study) -> Iterator[MemoryCell]:
    """Bytes of optimizer state, and their share of the first optimizer's in the same column."""
    stored = {
        (optimizer, column): _largest_state(study, optimizer, column)
        for optimizer in study.optimizers
        for column in study.columns
    }
    first = study.optimizers[0] if study.optimizers else ""
    for (optimizer, column), size in stored.items():
        base = stored[first, column]
        relative = size / base if size is not None and base else None
        yield MemoryCell(optimizer=optimizer, column=column, bytes=size, relative=relative)


def _largest_state(study: Study, optimizer: str, column: str) -> int | None:
    """The optimizer state in bytes of the run that has most of it."""
    sizes = [
        run.result.optimizer_state_bytes
        for run in study.select(optimizer, column)
        if run.result and run.result.optimizer_state_bytes is not None
    ]
    return max(sizes, default=None)


def _list_assumed(study: Study, column: str) -> tuple[str, ...]:
    """The assumed values that a column's runs rest on, each once."""
    runs = study.select(column=column)
    return tuple(dict.fromkeys(sentence for run in runs for sentence in run.assumed))


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


def _describe_runs(study: Study) -> Iterator[RunRow]:
    """Every run that the study asked for, with how it ended."""
    for run in study.runs:
        yield RunRow(
            **run.entry.model_dump(),
            status=run.status,
            step=run.step,
            final=run.final(study.facts.metric),
            reason=run.reason,
        )
