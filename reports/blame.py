"""Who is to blame: the share of a gap that each part of the arithmetic explains, and causes alone.

For seed s let L be a run's mean training loss over its last steps: F as it was run, R with all of
it in float32, W with one part back in float32, A with only that part low. Over the seeds,

    explained = Σ (F − W) / Σ (F − R)        alone = Σ (A − R) / Σ (F − R)

A run that diverged has the largest L of its seed, the first loss of R included.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Literal

import numpy as np

from ..formats.errors import InputError
from .blame_record import BlameRecord, Plan, Suspect, read_plan
from .runs import Run
from .shares import LEVEL, Values, paired_interval, share_alone, share_explained
from .statistics import Interval, gap_interval
from .study import Study, read_study
from .wording import lower_is_better

#: The share of the gap from which on a part is called its cause.
MOST = 0.5
Verdict = Literal["undecided", "guilty", "together", "redundant", "spread"]


@dataclass(frozen=True)
class Measure:
    """Shares of one measure, with 90 % intervals; None where they cannot be told."""

    explained: float | None
    explained_interval: Interval | None
    alone: float | None
    alone_interval: Interval | None


def judge_blame(path: Path) -> BlameRecord:
    """The ranking of the study of blame's runs at `path`.

    Raises:
        InputError: it is none, or too few of its runs have ended to compare any seed.
    """
    study, plan = read_study(path), read_plan(path)
    loss = _by_column(study, lambda run: _tail(run, plan.first))
    seeds = _shared_seeds(study, plan)
    table = {column: _with_worst(loss, column, seeds, plan, study) for column in study.columns}
    finals = _finals(study, seeds)
    as_run, reference = plan.as_run, study.facts.reference
    rows = [
        _row(suspect, table, finals, study, as_run, reference, seeds) for suspect in plan.suspects
    ]
    rows = sorted(rows, key=_rank)
    gaps = table[as_run] - table[reference]
    interval = gap_interval(gaps.tolist(), LEVEL) if len(seeds) > 1 else None
    decided = interval is not None and interval.low > 0
    final = finals[as_run] - finals[reference]
    return BlameRecord.model_validate(
        {
            "column": plan.column,
            "optimizer": plan.optimizer,
            "steps": plan.steps,
            "first": plan.first,
            "seeds": seeds,
            "metric": study.facts.metric,
            "loss": float(table[as_run].mean()),
            "reference_loss": float(table[reference].mean()),
            "gap": float(gaps.mean()),
            "gap_interval": interval,
            "final_gap": float(final.mean()) if np.isfinite(final).all() else None,
            "diverged": sum(r.status == "diverged" for r in study.select(column=as_run)),
            "verdict": _verdict(rows, decided),
            "rows": rows,
            "versions": study.facts.versions,
            "command": study.facts.command,
        }
    )


def _row(
    suspect: Suspect,
    table: dict[str, Values],
    finals: dict[str, Values],
    study: Study,
    as_run: str,
    reference: str,
    seeds: Sequence[int],
) -> dict[str, object]:
    """One suspect with its shares of both measures."""
    sign = 1.0 if lower_is_better(study.facts.metric) else -1.0
    quality = {column: sign * values for column, values in finals.items()}
    loss = _measure(suspect, table, as_run, reference)
    final = _measure(suspect, quality, as_run, reference)
    lost = {
        column: sum(r.status == "diverged" for r in study.select(column=column))
        for column in (suspect.without, suspect.alone)
        if column
    }
    return {
        "name": suspect.name,
        "kind": suspect.kind,
        "title": suspect.title,
        "parts": suspect.parts,
        "notes": suspect.notes,
        "explained": loss.explained,
        "explained_interval": loss.explained_interval,
        "alone": loss.alone,
        "alone_interval": loss.alone_interval,
        "final_explained": final.explained,
        "final_alone": final.alone,
        "diverged_without": lost[suspect.without],
        "diverged_alone": lost[suspect.alone] if suspect.alone else None,
    }


def _measure(suspect: Suspect, table: dict[str, Values], as_run: str, reference: str) -> Measure:
    full, floor, without = table[as_run], table[reference], table[suspect.without]
    series = (full, floor, without)
    if not all(np.isfinite(values).all() for values in series):
        return Measure(None, None, None, None)
    explained = share_explained(*series)
    interval = paired_interval(share_explained, *series) if explained is not None else None
    if suspect.alone is None or not np.isfinite(table[suspect.alone]).all():
        return Measure(explained, interval, None, None)
    series = (full, floor, table[suspect.alone])
    alone = share_alone(*series)
    around = paired_interval(share_alone, *series) if alone is not None else None
    return Measure(explained, interval, alone, around)


def _rank(row: dict[str, object]) -> tuple[float, ...]:
    """The most explained first: all of the gap is not less than more than all; then the most
    caused alone, then the ingredient with the fewest parts; roundings are apart, at the end."""
    explained, alone, parts = (row[key] for key in ("explained", "alone", "parts"))

    def capped(share: object) -> float:
        return -round(min(share, 1.0), 2) if isinstance(share, float) else 1.0

    assert isinstance(parts, int)
    return (row["kind"] == "rounding", capped(explained), capped(alone), parts)


def _verdict(rows: Sequence[dict[str, object]], decided: bool) -> Verdict:
    """What the shares of the restored parts say together."""
    parts = [row for row in rows if row["kind"] != "rounding"]
    explained = _largest(parts, "explained")
    alone = _largest(parts, "alone")
    if not decided or explained is None:
        return "undecided"
    top = parts[0]["alone"]
    if explained >= MOST:
        return "guilty" if isinstance(top, float) and top >= MOST else "together"
    return "redundant" if alone is not None and alone >= MOST else "spread"


def _largest(rows: Sequence[dict[str, object]], key: str) -> float | None:
    return max((v for row in rows if isinstance(v := row[key], float)), default=None)


def _by_column(study: Study, measure: Callable[[Run], float]) -> dict[str, dict[int, float]]:
    """A number of each ended run, by column and seed."""
    return {
        column: {r.entry.seed: measure(r) for r in study.select(column=column) if r.ended}
        for column in study.columns
    }


def _tail(run: Run, first: int) -> float:
    """Mean training loss from step `first` on; NaN for a run that diverged."""
    metrics = run.series["metrics"]
    losses = metrics["loss"].to_numpy()[metrics["step"].to_numpy() >= first]
    ended = run.status == "finished" and len(losses) > 0
    return float(np.mean(losses)) if ended else float("nan")


def _shared_seeds(study: Study, plan: Plan) -> list[int]:
    """The seeds of which every run has ended.

    Raises:
        InputError: there is none.
    """
    missing = [run.entry.folder for run in study.runs if not run.ended]
    ended = {
        seed for seed in study.facts.seeds
        if all(run.ended for run in study.runs if run.entry.seed == seed)
    }  # fmt: skip
    if not ended:
        raise InputError(
            f"{study.path}: no seed of blame {plan.column} has ended in every run "
            f"({len(missing)} missing, such as {missing[0]}): run `{study.facts.command}` again"
        )
    return [seed for seed in study.facts.seeds if seed in ended]


def _with_worst(
    loss: dict[str, dict[int, float]], column: str, seeds: list[int], plan: Plan, study: Study
) -> Values:
    """The losses of a column, those of diverged runs replaced by the worst of their seed."""
    return np.array(
        [
            value if isfinite(value := loss[column][seed]) else _worst(loss, seed, study)
            for seed in seeds
        ]
    )


def _worst(loss: dict[str, dict[int, float]], seed: int, study: Study) -> float:
    found = [row[seed] for row in loss.values() if isfinite(row.get(seed, float("nan")))]
    (run,) = [r for r in study.select(column=study.facts.reference) if r.entry.seed == seed]
    first = run.series["metrics"]["loss"].to_numpy()[:1]
    return float(max([*found, *first[np.isfinite(first)].tolist()]))


def _finals(study: Study, seeds: list[int]) -> dict[str, Values]:
    """The final metric; of a diverged run the worst: 0 of an accuracy, else the largest seen."""
    metric = study.facts.metric
    seen = [v for run in study.runs if (v := run.final(metric)) is not None]
    worst = max(seen, default=float("nan")) if lower_is_better(metric) else 0.0
    found: dict[str, Values] = {}
    for column in study.columns:
        runs = {run.entry.seed: run for run in study.select(column=column)}
        values = [runs[seed].final(metric) for seed in seeds]
        found[column] = np.array([worst if v is None else v for v in values])
    return found
