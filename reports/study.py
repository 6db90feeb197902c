"""A study folder as frozen rows: the runs that can be read, and a list of what cannot."""

from dataclasses import dataclass
from pathlib import Path

from ..formats.errors import InputError
from .records import StudyRecord, read_record
from .runs import Run, find_foreign, read_run
from .segments import Omission

STUDY_FILES = {"study.json", "report.html", "report.json", "blame", "blame.json"}


@dataclass(frozen=True)
class Study:
    """A study: its facts, its runs in the order of study.json, and what was left out."""

    path: Path
    facts: StudyRecord
    runs: tuple[Run, ...]
    left_out: tuple[Omission, ...]

    @property
    def optimizers(self) -> tuple[str, ...]:
        """The optimizers' names in the study's order."""
        return tuple(str(row["name"]) for row in self.facts.optimizers)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns' names in the study's order."""
        return tuple(column.name for column in self.facts.columns)

    def select(self, optimizer: str | None = None, column: str | None = None) -> list[Run]:
        """The runs of one optimizer, of one column, or of both, in the study's order."""
        return [
            run
            for run in self.runs
            if optimizer in (None, run.entry.optimizer) and column in (None, run.entry.column)
        ]


def read_study(path: Path) -> Study:
    """Read the study folder at `path`; whatever cannot be read is listed, never dropped.

    Raises:
        InputError: `path` is no study folder, or its study.json is damaged or contradicts itself.
    """
    place = path / "study.json"
    if not place.is_file():
        raise InputError(
            f"{path}: holds no study.json; give the study folder that `tapeout run` wrote"
        )
    facts = read_record(place, StudyRecord)
    _check(place, facts)
    known = STUDY_FILES | {entry.folder for entry in facts.runs}
    left_out = list(find_foreign(path, known, ""))
    runs = tuple(read_run(path, entry, facts.metric, left_out) for entry in facts.runs)
    return Study(path, facts, runs, tuple(left_out))


def _check(place: Path, facts: StudyRecord) -> None:
    """Refuse a study.json whose parts do not fit together."""
    if not all(isinstance(row.get("name"), str) for row in facts.optimizers):
        raise InputError(f"{place}: an optimizer has no name")
    columns = [column.name for column in facts.columns]
    optimizers = [str(row["name"]) for row in facts.optimizers]
    if facts.reference not in columns:
        listed = ", ".join(columns)
        raise InputError(f'{place}: reference = "{facts.reference}" is not one of {listed}')
    for names in (columns, optimizers):
        for name in names:
            if names.count(name) > 1:
                raise InputError(f'{place}: the name "{name}" stands twice')
    seen: set[str] = set()
    for entry in facts.runs:
        if entry.folder in seen or Path(entry.folder).name != entry.folder:
            raise InputError(f'{place}: folder = "{entry.folder}" is not a run folder of its own')
        if entry.column not in columns or entry.optimizer not in optimizers:
            raise InputError(
                f"{place}: the run {entry.folder} names a column or optimizer that is not listed"
            )
        seen.add(entry.folder)
