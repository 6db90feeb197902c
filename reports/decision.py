"""GO, NO-GO or UNDECIDED: the scenario's thresholds, each against the figure it limits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from .learning_rates import RateRow
from .rules import REFERENCE, UNSTABLE
from .runs import Run
from .statistics import clean_runs_to_show, exact_interval, rate_interval, seeds_to_decide
from .study import Study
from .verdict import VerdictRow
from .wording import gap, lower_is_better, plural, share, size

GO, NO_GO, UNDECIDED = "GO", "NO-GO", "UNDECIDED"
_ORDER = (NO_GO, UNDECIDED, GO)

RULES = {
    GO: "Every threshold holds, and the verdict is not UNSTABLE.",
    NO_GO: "A threshold is broken, or the verdict is UNSTABLE.",
    UNDECIDED: "Neither: a threshold may hold or not, or its figure was not recorded.",
}
NOTE = (
    "A gap and a share hold when the unfavourable end of their 90 % interval is within the limit, "
    "and are broken when the favourable end is beyond it, so each errs in 5 % of studies at most; "
    "the share's interval is Clopper and Pearson's, that of the spikes Garwood's. A limit of 0 on "
    "diverged runs or spikes is judged on the runs seen, because no number of them could show a "
    "rate of 0. Bytes and times are compared as recorded."
)


@dataclass(frozen=True)
class Criterion:
    """One threshold on one optimizer and column.

    name: as in the scenario; limit: as there. value, low, high: the figure that it limits and the
    interval it is judged by; None where there is none. figure: the same in words.
    """

    name: str
    limit: float
    value: float | None
    low: float | None
    high: float | None
    figure: str
    decision: str
    reason: str


@dataclass(frozen=True)
class DecisionRow:
    """All thresholds on one optimizer and column, and what follows."""

    optimizer: str
    column: str
    verdict: str
    decision: str
    criteria: tuple[Criterion, ...]


@dataclass(frozen=True)
class Decision:
    """What follows for the study: the worst of its rows; None where no threshold is set."""

    overall: str | None
    rows: tuple[DecisionRow, ...]


@dataclass(frozen=True)
class Case:
    """What a threshold is judged on."""

    study: Study
    row: VerdictRow
    runs: tuple[Run, ...]
    base: tuple[Run, ...]
    rate: RateRow | None


def decide(study: Study, rows: Sequence[VerdictRow], rates: Sequence[RateRow]) -> Decision:
    """Judge every threshold of the study on every row that is not the reference's."""
    limits = {
        name: float(limit)
        for name, limit in study.facts.thresholds.items()
        if isinstance(limit, int | float)
    }
    if not limits:
        return Decision(None, ())
    by_place = {(rate.optimizer, rate.column): rate for rate in rates}
    found = []
    for row in rows:
        if row.verdict == REFERENCE:
            continue
        case = Case(
            study,
            row,
            tuple(study.select(row.optimizer, row.column)),
            tuple(study.select(_baseline(study, row), study.facts.reference)),
            by_place.get((row.optimizer, row.column)),
        )
        criteria = tuple(_judge(case, name, limit) for name, limit in limits.items())
        worst = _worst([c.decision for c in criteria])
        decision = NO_GO if row.verdict == UNSTABLE else worst
        found.append(DecisionRow(row.optimizer, row.column, row.verdict, decision, criteria))
    return Decision(_worst([row.decision for row in found]) if found else None, tuple(found))


def _worst(decisions: Sequence[str]) -> str:
    """NO-GO before UNDECIDED before GO."""
    return min(decisions, key=_ORDER.index)


def _baseline(study: Study, row: VerdictRow) -> str:
    """The optimizer whose reference column bytes and times are compared with."""
    named = study.facts.thresholds.get("baseline")
    return named if isinstance(named, str) else row.optimizer


def _judge(case: Case, name: str, limit: float) -> Criterion:
    """One threshold; one that this version does not know is left undecided, and said so."""
    if name not in JUDGES:
        reason = "this version of the report does not know the threshold"
        return Criterion(name, limit, None, None, None, "–", UNDECIDED, reason)
    return JUDGES[name](case, name, limit)


def _judge_gap(case: Case, name: str, limit: float) -> Criterion:
    """The loss of quality, positive where it is worse."""
    metric, row = case.study.facts.metric, case.row
    sign = 1 if lower_is_better(metric) else -1
    if row.gap is None or row.gap_low is None or row.gap_high is None:
        value = None if row.gap is None else sign * row.gap
        reason = "two seeds or more must finish here and in the reference"
        return Criterion(name, limit, value, None, None, gap(metric, row.gap), UNDECIDED, reason)
    low, high = sorted((sign * row.gap_low, sign * row.gap_high))
    figure = f"{gap(metric, row.gap)} ({gap(metric, row.gap_low)} to {gap(metric, row.gap_high)})"
    decision = GO if high <= limit else NO_GO if low > limit else UNDECIDED
    reason = {
        GO: f"no worse than {size(metric, limit)}",
        NO_GO: f"worse than {size(metric, limit)}",
        UNDECIDED: _more_seeds(row.gaps, sign * limit),
    }[decision]
    return Criterion(name, limit, sign * row.gap, low, high, figure, decision, reason)


def _more_seeds(gaps: Sequence[float], boundary: float) -> str:
    """How many seeds would put the limit outside the interval, if the spread stays what it is."""
    seeds = seeds_to_decide(gaps, boundary)
    return f"about {seeds} seeds in all would decide" if seeds else "over 100 seeds would decide"


def _judge_diverged(case: Case, name: str, limit: float) -> Criterion:
    """The share of ended runs that diverged, by its exact interval."""
    hits, runs = case.row.diverged, case.row.runs
    if not runs:
        return Criterion(name, limit, None, None, None, "–", UNDECIDED, "no run has ended")
    low, high = exact_interval(hits, runs)
    figure = f"{hits} of {runs} ({share(low)} to {share(high)})"
    value = hits / runs
    if limit == 0 or limit >= 1:
        decision = GO if value <= limit else NO_GO
        seen = f"a share of up to {share(high)} could go unseen" if not hits else "seen"
        return Criterion(name, limit, value, low, high, figure, decision, seen)
    decision = GO if high <= limit else NO_GO if low > limit else UNDECIDED
    reason = {
        GO: f"at most {share(limit)} of all runs",
        NO_GO: f"more than {share(limit)} of all runs",
        UNDECIDED: f"{clean_runs_to_show(limit)} runs without a divergence would show it",
    }[decision]
    return Criterion(name, limit, value, low, high, figure, decision, reason)


def _judge_spikes(case: Case, name: str, limit: float) -> Criterion:
    """The mean number of loss spikes a run."""
    runs = len(case.row.spikes)
    value = case.row.spikes_a_run
    if value is None:
        return Criterion(name, limit, None, None, None, "–", UNDECIDED, "no loss was recorded")
    events = sum(map(len, case.row.spikes.values()))
    low, high = rate_interval(events, runs)
    figure = f"{value:.2g} a run ({low:.2g} to {high:.2g})"
    if limit == 0:
        decision = GO if events == 0 else NO_GO
        return Criterion(
            name, limit, value, low, high, figure, decision, f"{events} in {plural(runs, 'run')}"
        )
    decision = GO if high <= limit else NO_GO if low > limit else UNDECIDED
    reason = f"{plural(events, 'spike')} in {plural(runs, 'run')}"
    return Criterion(name, limit, value, low, high, figure, decision, reason)


def _ratio_judge(measure: Callable[[Run], float | None], unit: str) -> Callable[..., Criterion]:
    """Judges a ratio of medians over the runs to that of the reference's runs."""

    def judge(case: Case, name: str, limit: float) -> Criterion:
        own, base = (median_of(runs, measure) for runs in (case.runs, case.base))
        if own is None or not base:
            what = "here" if own is None else "in the reference"
            return Criterion(
                name, limit, None, None, None, "–", UNDECIDED, f"no {unit} recorded {what}"
            )
        value = own / base
        decision = GO if value <= limit else NO_GO
        against = f"{case.base[0].entry.optimizer} on {case.study.facts.reference}"
        return Criterion(
            name, limit, value, None, None, f"× {value:.3g}", decision, f"{unit} of {against}"
        )

    return judge


def _judge_rate(case: Case, name: str, limit: float) -> Criterion:
    """The learning-rate margin: the smallest allowed ratio, judged by what the factors tell."""
    rate = case.rate
    if rate is None or rate.ratio is None:
        reason = "the scenario sweeps no learning rate, or the reference trains at none"
        return Criterion(name, limit, None, None, None, "–", UNDECIDED, reason)
    low, high = rate.ratio_low, rate.ratio_high
    figure = f"× {rate.ratio:.3g}"
    if low is None and high is None:
        decision = GO if rate.ratio >= limit else UNDECIDED
        reason = "both train up to the largest factor tried"
    elif low is None:
        decision = NO_GO if rate.ratio < limit else UNDECIDED
        reason = "the reference trains at every factor tried: at most this"
    elif high is None:
        decision = GO if rate.ratio >= limit else UNDECIDED
        reason = "trains at every factor tried: at least this"
    else:
        decision = GO if rate.ratio >= limit else NO_GO
        reason = "to the step of the factors tried"
    return Criterion(name, limit, rate.ratio, low, high, figure, decision, reason)


def total_memory(run: Run) -> float | None:
    """Bytes of all roles together."""
    memory = run.result.memory if run.result else {}
    return float(sum(entry.bytes for entry in memory.values())) if memory else None


def state_memory(run: Run) -> float | None:
    """Bytes of optimizer state."""
    size = run.result.optimizer_state_bytes if run.result else None
    return None if size is None else float(size)


def median_of(runs: Sequence[Run], measure: Callable[[Run], float | None]) -> float | None:
    """The median over the runs that recorded it."""
    found = [value for run in runs if (value := measure(run)) is not None]
    return float(median(found)) if found else None


JUDGES: dict[str, Callable[[Any, str, float], Criterion]] = {
    "quality_gap": _judge_gap,
    "diverged_share": _judge_diverged,
    "loss_spikes": _judge_spikes,
    "optimizer_state_ratio": _ratio_judge(state_memory, "optimizer state"),
    "memory_ratio": _ratio_judge(total_memory, "memory"),
    "seconds_ratio": _ratio_judge(lambda run: run.seconds, "emulated time (not the chip's)"),
    "lr_margin": _judge_rate,
}
