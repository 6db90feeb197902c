"""Early warnings: signals of a run that changed before it diverged, and how often they cry wolf."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .runs import Run
from .spikes import find_onset, find_spikes
from .statistics import wilson_interval
from .study import Study
from .traces import decibels

POINTS = 0.05  # a share must rise by this much
TIMES = 2.0  # and to this many times its first traced value
DROP = 6.0  # dB, one bit

#: step -> value of one run's signal, in the order of the steps
Course = dict[int, float]


@dataclass(frozen=True)
class Signal:
    """A quantity that may warn of a divergence.

    read: its course in one run; empty where it was not recorded.
    kind: share, decibels, or events (steps at which something happened, whatever the value).
    """

    name: str
    kind: str
    read: Callable[[Run], Course]


@dataclass(frozen=True)
class SignalRow:
    """What a signal was worth in this study.

    diverged, warned: diverged runs that recorded it, and those in which it fired before the onset.
    lead: median steps from firing to the onset, over those warned.
    calm, false_alarms: runs that did not diverge and recorded it, and those in which it fired.
    false_low, false_high: 95 % Wilson interval of the share of false alarms.
    """

    signal: str
    rule: str
    diverged: int
    warned: int
    lead: float | None
    calm: int
    false_alarms: int
    false_low: float
    false_high: float


@dataclass(frozen=True)
class RunSignals:
    """The signals of one diverged run.

    onset: first step after which the loss never came back to its first value; end: the step at
        which the run was stopped.
    fired: step at which each signal first fired before the onset; None where it did not.
    """

    optimizer: str
    column: str
    seed: int
    lr_factor: float
    onset: int
    end: int
    fired: dict[str, int | None]


@dataclass(frozen=True)
class Warnings:
    """All signals over all runs of a study, at every learning rate."""

    signals: tuple[SignalRow, ...]
    runs: tuple[RunSignals, ...]


def share_course(operand: str, counters: Sequence[str]) -> Callable[[Run], Course]:
    """Reads the share of values that one of the counters counted, a traced step at a time."""

    def read(run: Run) -> Course:
        sums = _by_step(_products(run, operand), ["values", *counters])
        return {
            step: sum(row[name] for name in counters) / row["values"]
            for step, row in sums.items()
            if row["values"]
        }

    return read


def noise_course(run: Run) -> Course:
    """The signal-to-noise ratio of the results of matrix products, in dB."""
    sums = _by_step(_products(run, "output"), ["signal", "noise"])
    found = {step: decibels(row["signal"], row["noise"]) for step, row in sums.items()}
    return {step: value for step, value in found.items() if value is not None}


def made_course(run: Run) -> Course:
    """Infinities and NaN that matrix products made out of finite numbers."""
    sums = _by_step(_products(run, "output"), ["overflow", "nan"])
    return {step: row["overflow"] + row["nan"] for step, row in sums.items()}


def spike_course(name: str) -> Callable[[Run], Course]:
    """Reads the spikes of a column of the metrics; the first step stands for "recorded"."""

    def read(run: Run) -> Course:
        series = run.metric(name)
        if not np.isfinite(series.values).any():
            return {}
        return {int(series.steps[0]): 0.0} | dict.fromkeys(find_spikes(series), 1.0)

    return read


_RISES = (
    f"rises by {100 * POINTS:g} points and to {TIMES:g} times its first traced value, and stands "
    f"{100 * POINTS:g} points above the reference at the same step"
)
_SPIKES = "spikes, by the rule for loss spikes"
RULES = {
    "share": _RISES,
    "decibels": f"falls {DROP:g} dB (one bit) below its first traced value",
    "count": "is not zero",
    "events": _SPIKES,
}
SIGNALS = (
    Signal("loss spike", "events", spike_course("loss")),
    Signal("gradient-norm spike", "events", spike_course("grad_norm")),
    Signal("stalled updates", "share", share_course("update", ["stalled"])),
    Signal("gradient underflow", "share", share_course("gradient", ["underflow"])),
    Signal("gradient saturation", "share", share_course("gradient", ["saturated", "overflow"])),
    Signal("activation saturation", "share", share_course("activation", ["saturated", "overflow"])),
    Signal("SQNR of products", "decibels", noise_course),
    Signal("infinities and NaN made", "count", made_course),
)


def find_warnings(study: Study) -> Warnings:
    """Every signal against every run that ended, whatever its learning rate."""
    ended = [run for run in study.runs if run.ended]
    onsets = {id(run): onset(run) for run in ended if run.status == "diverged"}
    fired: dict[str, dict[int, int | None]] = {}
    for signal in SIGNALS:
        courses = {id(run): signal.read(run) for run in ended}
        usual = _reference_courses(study, courses) if signal.kind == "share" else {}
        fired[signal.name] = {
            id(run): first_firing(signal.kind, courses[id(run)], usual.get(run.entry.optimizer, {}))
            for run in ended
            if courses[id(run)]
        }
    rows = tuple(_make_row(signal, ended, onsets, fired[signal.name]) for signal in SIGNALS)
    runs = tuple(
        _make_run(run, onsets[id(run)], {s.name: fired[s.name].get(id(run)) for s in SIGNALS})
        for run in ended
        if id(run) in onsets
    )
    return Warnings(rows, runs)


def onset(run: Run) -> int:
    """Where the divergence of a run began: see `find_onset`."""
    return find_onset(run.metric("loss"), run.step)


def first_firing(kind: str, course: Course, usual: Course) -> int | None:
    """The first step at which a signal fires, by the rule for its kind; None if it does not.

    usual: the reference's course, median over seeds; a step that it lacks is not held against it.
    """
    first = next(iter(course.values()))
    for step, value in course.items():
        if kind == "decibels":
            fires = value <= first - DROP
        elif kind == "share":
            fires = value >= max(first + POINTS, TIMES * first)
            fires = fires and value >= usual.get(step, 0.0) + POINTS
        else:
            fires = value > 0
        if fires:
            return step
    return None


def _reference_courses(study: Study, courses: dict[int, Course]) -> dict[str, Course]:
    """By optimizer: the median over the reference's seeds at each step."""
    found: dict[str, Course] = {}
    for optimizer in study.optimizers:
        runs = study.select(optimizer, study.facts.reference)
        own = [courses[id(run)] for run in runs if id(run) in courses]
        steps = sorted({step for course in own for step in course})
        found[optimizer] = {s: median(c[s] for c in own if s in c) for s in steps}
    return found


def _make_row(
    signal: Signal, ended: Sequence[Run], onsets: dict[int, int], fired: dict[int, int | None]
) -> SignalRow:
    """Hits with their lead, and false alarms."""
    recorded = [run for run in ended if id(run) in fired]
    lost = [run for run in recorded if id(run) in onsets]
    leads = [
        onsets[id(run)] - step
        for run in lost
        if (step := fired[id(run)]) is not None and step < onsets[id(run)]
    ]
    calm = [run for run in recorded if id(run) not in onsets]
    alarms = sum(fired[id(run)] is not None for run in calm)
    low, high = wilson_interval(alarms, len(calm))
    lead = float(median(leads)) if leads else None
    rule = RULES[signal.kind]
    return SignalRow(signal.name, rule, len(lost), len(leads), lead, len(calm), alarms, low, high)


def _make_run(run: Run, began: int, fired: dict[str, int | None]) -> RunSignals:
    """The signals of one diverged run; what fired at the onset or later warned of nothing."""
    early = {k: step if step is not None and step < began else None for k, step in fired.items()}
    entry = run.entry
    return RunSignals(
        entry.optimizer, entry.column, entry.seed, entry.lr_factor, began, run.step, early
    )


def _products(run: Run, operand: str) -> pa.Table:
    """The counters of an operand of matrix products; of role update, those of optimizer steps."""
    elsewhere = ["store"] if operand == "update" else ["store", "step"]
    table = run.series["trace"]
    return table.filter((pc.field("operand") == operand) & ~pc.field("op").isin(elsewhere))


def _by_step(table: pa.Table, names: Sequence[str]) -> dict[int, dict[str, float]]:
    """Sums of counters over modules, by step."""
    # One thread: several would add floats in an order that changes from run to run.
    groups = table.group_by("step", use_threads=False).aggregate([(n, "sum") for n in names])
    rows = sorted(groups.to_pylist(), key=lambda row: row["step"])
    return {row["step"]: {name: row[f"{name}_sum"] or 0 for name in names} for row in rows}
