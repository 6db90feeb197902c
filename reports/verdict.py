"""One verdict for each optimizer on each column of a study, against its reference column."""

from dataclasses import dataclass, field
from pathlib import Path

from .records import Column
from .rules import AT_RISK, INCONCLUSIVE, REFERENCE, STABLE, UNSTABLE, Evidence, judge
from .runs import Run
from .spikes import find_onset, find_spikes, has_learned
from .statistics import grid_spread, wilson_interval
from .study import Study, read_study
from .wording import plural


@dataclass(frozen=True)
class VerdictRow:
    """How one optimizer does on one column; None stands where no run says anything.

    verdict: STABLE, AT RISK, UNSTABLE, INCONCLUSIVE or REFERENCE; the rule is `describe_rules`.
    mean, low, high: the final metric's mean, smallest and largest value over finished seeds.
    gap: mean over seeds of the final metric minus the same seed's in the reference column.
    gap_low, gap_high: its 90 % interval, the outer limits of paired bootstrap and paired Student.
    diverged, runs, planned: runs that diverged, that ended, and that the study asked for.
    failed_low, failed_high: 95 % Wilson interval of the share of failing runs.
    equivalence_p: TOST p-value of a gap within the tolerance on both sides.
    seeds_to_decide: how many seeds in all would decide an inconclusive gap; None if over 100.
    assumed: number of assumed hardware values that the column's results rest on.
    gaps: the gap of each seed that finished here and in the reference.
    axes: where the column stands in a sweep, such as its rounding and accumulation order.
    spikes: loss spikes by run: the seed and the steps at which each began.
    """

    optimizer: str
    column: str
    chip: str
    recipe: str
    verdict: str
    mean: float | None
    low: float | None
    high: float | None
    gap: float | None
    gap_low: float | None
    gap_high: float | None
    diverged: int
    runs: int
    reason: str
    planned: int
    failed_low: float
    failed_high: float
    equivalence_p: float | None
    seeds_to_decide: int | None
    assumed: int
    gaps: tuple[float, ...] = ()
    axes: dict[str, str] = field(default_factory=dict)
    spikes: dict[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def spikes_a_run(self) -> float | None:
        """Mean number of loss spikes over the runs that recorded losses."""
        return sum(map(len, self.spikes.values())) / len(self.spikes) if self.spikes else None


def verdict_rows(study: Path) -> list[VerdictRow]:
    """The verdicts of the study folder at `study`, by optimizer, then by column.

    Raises:
        InputError: `study` is no study folder, or its study.json is damaged.
    """
    return judge_study(read_study(study))


def judge_study(study: Study) -> list[VerdictRow]:
    """The verdicts of a study that has been read."""
    return [
        _judge_runs(study, optimizer, column)
        for optimizer in study.optimizers
        for column in study.facts.columns
    ]


def _judge_runs(study: Study, optimizer: str, column: Column) -> VerdictRow:
    """The verdict on one optimizer in one column."""
    runs = study.select(optimizer, column.name)
    ended = [run for run in runs if run.ended]
    diverged = sum(run.status == "diverged" for run in runs)
    finals = _finals(study, runs)
    values = list(finals.values())
    evidence = _collect(study, optimizer, runs, finals)
    finding = judge(evidence)
    verdict, reason = finding.verdict, finding.reason
    failed = finding.failed_share
    is_reference = column.name == study.facts.reference
    if is_reference:
        verdict = REFERENCE
        reason = f"{len(values)} of {plural(len(runs), 'run')} finished; {diverged} diverged."
        failed = wilson_interval(diverged, len(ended))
    gaps = () if is_reference else evidence.gaps
    interval = None if is_reference else finding.gap
    return VerdictRow(
        optimizer=optimizer,
        column=column.name,
        chip=column.chip,
        recipe=column.recipe,
        verdict=verdict,
        mean=sum(values) / len(values) if values else None,
        low=min(values, default=None),
        high=max(values, default=None),
        gap=sum(gaps) / len(gaps) if gaps else None,
        gap_low=interval.low if interval else None,
        gap_high=interval.high if interval else None,
        diverged=diverged,
        runs=len(ended),
        reason=reason,
        planned=len(runs),
        failed_low=failed.low,
        failed_high=failed.high,
        equivalence_p=None if is_reference else finding.equivalence_p,
        seeds_to_decide=None if is_reference else finding.seeds_to_decide,
        assumed=len({sentence for run in runs for sentence in run.assumed}),
        gaps=gaps,
        axes=column_axes(column),
        spikes={run.entry.seed: _spikes(run) for run in ended if len(run.series["metrics"])},
    )


def badness(row: VerdictRow) -> tuple[int, float]:
    """Sorts the worst row last: by the verdict, then by failures and the gap's size."""
    order = (REFERENCE, STABLE, INCONCLUSIVE, AT_RISK, UNSTABLE)
    return order.index(row.verdict), row.diverged + abs(row.gap or 0.0)


def column_axes(column: Column) -> dict[str, str]:
    """The column's place in a sweep; else its rounding, where the scenario names one."""
    if column.axes:
        return {axis: str(value) for axis, value in column.axes.items()}
    rounding = column.override.get("rounding")
    return {"rounding": rounding} if isinstance(rounding, str) else {}


def _spikes(run: Run) -> tuple[int, ...]:
    """The steps at which a run's loss spiked, before it diverged if it did."""
    losses = run.metric("loss")
    return find_spikes(losses, find_onset(losses, run.step) if run.status == "diverged" else None)


def _collect(study: Study, optimizer: str, runs: list[Run], finals: dict[int, float]) -> Evidence:
    """What can be compared, seed by seed, with the reference runs of the same optimizer."""
    metric = study.facts.metric
    base = study.select(optimizer, study.facts.reference)
    reference = _finals(study, base)
    every = [v for run in study.runs if (v := run.final(metric)) is not None]
    return Evidence(
        metric=metric,
        tolerance=study.facts.tolerance,
        gaps=tuple(finals[seed] - reference[seed] for seed in finals if seed in reference),
        diverged=sum(run.status == "diverged" and run.entry.seed in reference for run in runs),
        planned=len(runs),
        least_spread=grid_spread(every),
        learned=has_learned([run.metric("loss") for run in base if run.status == "finished"]),
    )


def _finals(study: Study, runs: list[Run]) -> dict[int, float]:
    """The final metric of each finished run, by seed."""
    metric = study.facts.metric
    found = {run.entry.seed: run.final(metric) for run in runs if run.status == "finished"}
    return {seed: value for seed, value in sorted(found.items()) if value is not None}
