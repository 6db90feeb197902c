"""The rule that turns the seeds of one optimizer on one column into a verdict."""

from dataclasses import dataclass

from .statistics import (
    Interval,
    equivalence_test,
    gap_interval,
    seeds_to_decide,
    wilson_interval,
)
from .wording import gap, lower_is_better, plural, share, size

STABLE, AT_RISK, UNSTABLE = "STABLE", "AT RISK", "UNSTABLE"
INCONCLUSIVE, REFERENCE = "INCONCLUSIVE", "REFERENCE"

COLLAPSE = 10.0  # a run that ends more than this many tolerances worse has failed
FAILING = 0.25  # UNSTABLE: the lower Wilson limit of the failed share is above this
LEVEL = 0.90  # two-sided, so that each verdict drawn from one side of it errs in 5 % at most


@dataclass(frozen=True)
class Evidence:
    """What can be compared: the seeds whose reference run finished and whose own run ended.

    gaps: final metric minus the reference's, one for each seed that finished in both.
    diverged: seeds that diverged here and finished in the reference.
    planned: seeds the study asked for.
    least_spread: the least standard deviation of a gap that the metric can resolve.
    learned: whether the reference's loss fell; False is too few steps, None is not known.
    """

    metric: str
    tolerance: float
    gaps: tuple[float, ...]
    diverged: int
    planned: int
    least_spread: float = 0.0
    learned: bool | None = None

    @property
    def gains(self) -> tuple[float, ...]:
        """The gaps with the sign turned, where needed, so that below zero is worse."""
        return tuple(-g if lower_is_better(self.metric) else g for g in self.gaps)

    @property
    def collapsed(self) -> int:
        """Seeds that finished, but more than `COLLAPSE` tolerances worse; none at tolerance 0."""
        limit = COLLAPSE * self.tolerance
        return sum(gain < -limit for gain in self.gains) if limit > 0 else 0

    @property
    def compared(self) -> int:
        """Seeds that can be compared with their reference run."""
        return len(self.gaps) + self.diverged

    @property
    def failed(self) -> int:
        """Seeds that diverged or collapsed."""
        return self.diverged + self.collapsed


@dataclass(frozen=True)
class Finding:
    """A verdict with its reason, and the statistics that it rests on (None: too few seeds)."""

    verdict: str
    reason: str
    failed_share: Interval
    gap: Interval | None = None
    equivalence_p: float | None = None
    seeds_to_decide: int | None = None


def describe_rules(metric: str, tolerance: float) -> tuple[tuple[str, str], ...]:
    """The rule in words, one sentence for each verdict, with this study's numbers in it."""
    limit, collapse = size(metric, tolerance), size(metric, COLLAPSE * tolerance)
    failing = share(FAILING)
    fails = "A seed fails when its run diverges"
    if tolerance > 0:
        fails += f" or ends more than {collapse} worse than the same seed's reference run"
    return (
        (STABLE, f"No seed failed, and the mean gap is no worse than {limit} (95 % confidence)."),
        (AT_RISK, f"A seed failed, or the mean gap is worse than {limit} (95 % confidence)."),
        (
            UNSTABLE,
            f"Seeds fail, and more than {failing} of all runs would (lower end of the 95 % "
            f"Wilson interval). {fails}.",
        ),
        (
            INCONCLUSIVE,
            "Anything else: the seeds run so far allow both answers, or the steps are too few for "
            "the reference itself to learn. Only seeds whose reference run finished are compared.",
        ),
    )


def judge(evidence: Evidence) -> Finding:
    """The verdict that `describe_rules` describes, taken from the top: failures, then the gap."""
    failed_share = wilson_interval(evidence.failed, evidence.compared)
    note = _missing_note(evidence)
    if not evidence.compared:
        reason = (
            "No seed has both an ended run here and a finished reference run; three such seeds "
            "would be the least to judge by."
        )
        return Finding(INCONCLUSIVE, reason + note, failed_share)
    interval, p, seeds = _measure(evidence)
    if evidence.failed:
        verdict = UNSTABLE if failed_share.low > FAILING else AT_RISK
        reason = _failure_reason(evidence, failed_share, interval)
        return Finding(verdict, reason + note, failed_share, interval, p)
    if evidence.learned is False:
        reason = (
            "Too few steps: the reference's own loss has not fallen, so a gap would say nothing; "
            "run longer."
        )
        return Finding(INCONCLUSIVE, reason + note, failed_share, interval, p)
    if interval is None:
        reason = (
            "One seed says nothing about the spread between seeds; two more (3 in all) would be "
            "the least to judge by."
        )
        return Finding(INCONCLUSIVE, reason + note, failed_share)
    verdict, reason = _judge_gap(evidence, failed_share, interval, seeds)
    return Finding(verdict, reason + note, failed_share, interval, p, seeds)


def _measure(evidence: Evidence) -> tuple[Interval | None, float | None, int | None]:
    """The gap's interval, the TOST p-value and the seeds that would decide."""
    gaps, floor = evidence.gaps, evidence.least_spread
    if len(gaps) < 2:
        return None, None, None
    boundary = evidence.tolerance if lower_is_better(evidence.metric) else -evidence.tolerance
    interval = gap_interval(gaps, LEVEL, floor)
    p = equivalence_test(gaps, evidence.tolerance, floor)
    decided = not interval.low <= boundary <= interval.high
    return interval, p, None if decided else seeds_to_decide(gaps, boundary, LEVEL, floor)


def _judge_gap(
    evidence: Evidence, failed: Interval, interval: Interval, seeds: int | None
) -> tuple[str, str]:
    """The verdict where no seed failed: on which side of the tolerance the gap's interval lies."""
    metric, limit = evidence.metric, size(evidence.metric, evidence.tolerance)
    low, high = interval
    worst, best = (-high, -low) if lower_is_better(metric) else (low, high)
    text = f"{gap(metric, low)} to {gap(metric, high)}"
    if worst > -evidence.tolerance:
        seen = plural(evidence.compared, "seed")
        return STABLE, (
            f"No seed failed, and the gap of {text} is no worse than {limit}. "
            f"{seen} could miss a failure rate of up to {share(failed.high)}."
        )
    if best < -evidence.tolerance:
        return AT_RISK, f"Trains, but worse by more than {limit}: a gap of {text}."
    return INCONCLUSIVE, (
        f"The gap, {text}, may or may not exceed the tolerance of {limit}; "
        f"{_more_seeds(evidence, seeds)}."
    )


def _more_seeds(evidence: Evidence, seeds: int | None) -> str:
    """How many more seeds would decide, if mean and spread stay what they are."""
    if seeds is None:
        return "more than 100 seeds in all would decide: the gap lies at the tolerance"
    return f"{seeds - len(evidence.gaps)} more (about {seeds} seeds in all) would decide"


def _failure_reason(evidence: Evidence, failed: Interval, interval: Interval | None) -> str:
    """How many seeds failed and in which way, and what that says about all runs."""
    ways = [f"{evidence.diverged} diverged"] if evidence.diverged else []
    if evidence.collapsed:
        limit = size(evidence.metric, COLLAPSE * evidence.tolerance)
        ways.append(f"{evidence.collapsed} ended more than {limit} worse")
    text = (
        f"{evidence.failed} of {plural(evidence.compared, 'seed')} failed ({', '.join(ways)}); "
        f"of all runs, {share(failed.low)} to {share(failed.high)}."
    )
    if interval is None:
        return text
    low, high = (gap(evidence.metric, end) for end in interval)
    return f"{text} Those that finished: a gap of {low} to {high}."


def _missing_note(evidence: Evidence) -> str:
    """A sentence about the seeds that cannot be compared, if there are any."""
    missing = evidence.planned - evidence.compared
    if missing <= 0:
        return ""
    verb = "has" if missing == 1 else "have"
    return f" {missing} of {plural(evidence.planned, 'planned seed')} {verb} nothing to compare."
