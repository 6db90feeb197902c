"""On whose word a study rests: the evidence of the chips it used."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from ..formats.errors import InputError
from ..simulator.chip import Chip, ChipTable
from ..simulator.tables import checked
from .study import Study


@dataclass(frozen=True)
class ChipEvidence:
    """How many values of a chip's file, as the runs used it, are measured, documented, assumed.

    columns: those that compute on it. The counts are None where no run kept a file that this
    version can read.
    """

    chip: str
    columns: tuple[str, ...]
    measured: int | None
    documented: int | None
    assumed: int | None


def chip_evidence(study: Study) -> list[ChipEvidence]:
    """A row for each chip of the study, in the order of the columns."""
    columns: dict[str, list[str]] = {}
    for column in study.facts.columns:
        columns.setdefault(column.chip, []).append(column.name)
    return [_count(study, chip, names) for chip, names in columns.items()]


def _count(study: Study, chip: str, names: list[str]) -> ChipEvidence:
    """The counts of the file that most runs of these columns used."""
    tables = [
        run.chip for name in names for run in study.select(column=name) if run.chip is not None
    ]
    found = Counter(_counts(table) for table in tables).most_common(1)
    counts = found[0][0] if found else None
    return ChipEvidence(chip, tuple(names), *(counts or (None, None, None)))


def _counts(table: dict[str, Any]) -> tuple[int, int, int] | None:
    """Values by basis; None for a file of a version that had other rules."""
    try:
        rows = checked(ChipTable, table, "run.json")
    except InputError:
        return None
    counts = Chip(rows, table, "run.json").count_evidence()
    return counts["measured"], counts["documented"], counts["assumed"]
