"""How far the learning rate can rise before training fails, on a chip and on the reference."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from .rules import COLLAPSE
from .runs import Run
from .study import Study
from .wording import lower_is_better

RULE = (
    "A learning rate trains when more than half of its ended runs neither diverged nor ended "
    f"more than {COLLAPSE:g} tolerances worse than the reference at factor 1 (same seed; else its "
    "mean). "
    "The margin is the largest factor that trains before the first that does not, over the "
    "reference's; the true limit lies between that factor and the next one tried."
)


@dataclass(frozen=True)
class RatePoint:
    """The runs of one optimizer on one column at one factor on the learning rate.

    runs, failed: runs that ended, and of them those that diverged or collapsed.
    mean: final metric of those that finished.
    """

    factor: float
    runs: int
    failed: int
    mean: float | None

    @property
    def trains(self) -> bool:
        """Whether more than half of the ended runs did not fail."""
        return self.failed * 2 < self.runs


@dataclass(frozen=True)
class RateRow:
    """The learning-rate margin of one optimizer on one column.

    largest: the largest factor that trains, None where none does; `next_failing`: the next one
        tried, which does not; None where `largest` is the largest tried.
    ratio: `largest` over the reference's; low and high bound what it can be, as far as the factors
        tried tell (None: no bound): they differ where one of the two trains at all of its factors.
    """

    optimizer: str
    column: str
    points: tuple[RatePoint, ...]
    largest: float | None
    next_failing: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None


def rate_rows(study: Study) -> list[RateRow]:
    """A row for each optimizer and column that was run at more than one learning rate."""
    rows = []
    for optimizer in study.optimizers:
        found = {column: _points(study, optimizer, column) for column in study.columns}
        reference = found[study.facts.reference]
        rows += [
            _make_row(optimizer, column, points, reference)
            for column, points in found.items()
            if len(points) > 1
        ]
    return rows


def limits(points: Sequence[RatePoint]) -> tuple[float | None, float | None]:
    """The largest factor that trains before the first failing one, and that failing one."""
    largest = None
    for point in points:
        if point.trains:
            largest = point.factor
        elif largest is not None:
            return largest, point.factor
    return largest, None


def _make_row(
    optimizer: str, column: str, points: Sequence[RatePoint], reference: Sequence[RatePoint]
) -> RateRow:
    """The margin, and what is known of it where one side was not driven to failure."""
    largest, failing = limits(points)
    base, base_failing = limits(reference)
    if base is None:  # the reference trains at no factor: nothing to compare with
        ratio = low = high = None
    else:
        ratio = low = high = (largest or 0.0) / base
        if largest is not None and failing is None:
            high = None
        if base_failing is None:
            low = None
    return RateRow(optimizer, column, tuple(points), largest, failing, ratio, low, high)


def _points(study: Study, optimizer: str, column: str) -> list[RatePoint]:
    """What happened at each factor, the smallest first."""
    runs = [run for run in study.select(optimizer, column, None) if run.ended]
    anchors = _anchors(study, optimizer)
    factors = sorted({run.entry.lr_factor for run in runs})
    return [
        _point(study, factor, [run for run in runs if run.entry.lr_factor == factor], anchors)
        for factor in factors
    ]


def _point(study: Study, factor: float, runs: list[Run], anchors: dict[int, float]) -> RatePoint:
    """One factor's runs, counted."""
    metric, limit = study.facts.metric, COLLAPSE * study.facts.tolerance
    sign = -1 if lower_is_better(metric) else 1
    usual = fmean(anchors.values()) if anchors else None
    finals = {run.entry.seed: v for run in runs if (v := run.final(metric)) is not None}
    collapsed = sum(
        limit > 0 and anchor is not None and sign * (value - anchor) < -limit
        for seed, value in finals.items()
        for anchor in [anchors.get(seed, usual)]
    )
    mean = fmean(finals.values()) if finals else None
    return RatePoint(factor, len(runs), len(runs) - len(finals) + collapsed, mean)


def _anchors(study: Study, optimizer: str) -> dict[int, float]:
    """The reference's final metric at factor 1, by seed."""
    runs = study.select(optimizer, study.facts.reference)
    found = {run.entry.seed: run.final(study.facts.metric) for run in runs}
    return {seed: value for seed, value in found.items() if value is not None}
