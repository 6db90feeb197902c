"""Intervals and tests for a handful of seeds: shares, rates, paired gaps, equivalence."""

import warnings
from collections.abc import Sequence
from math import ceil, log, log1p, sqrt
from typing import NamedTuple

import numpy as np
from scipy.stats import beta, bootstrap, chi2, norm, t

RESAMPLES = 4_999  # 2.5 of every thousandth: the Monte Carlo error of a limit is below the seeds'


class Interval(NamedTuple):
    """A confidence interval, ends included."""

    low: float
    high: float


def wilson_interval(hits: int, runs: int, level: float = 0.95) -> Interval:
    """Where the true share lies when `hits` of `runs` were seen.

    (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n), with p = hits/n; (0, 1) for no runs.

    Source: Wilson, J. Am. Stat. Assoc. 22 (1927) 209.
    """
    if runs == 0:
        return Interval(0.0, 1.0)
    z = float(norm.ppf(0.5 + level / 2))
    share, pull = hits / runs, z * z / runs
    centre = (share + pull / 2) / (1 + pull)
    half = z * sqrt(share * (1 - share) / runs + pull / (4 * runs)) / (1 + pull)
    return Interval(
        0.0 if hits == 0 else centre - half,
        1.0 if hits == runs else centre + half,
    )


def exact_interval(hits: int, runs: int, level: float = 0.90) -> Interval:
    """Clopper and Pearson's interval of a share: either end errs in (1 − level)/2 at most.

    Beta quantiles: low = B(α; k, n − k + 1), high = B(1 − α; k + 1, n − k), α = (1 − level)/2.
    Wider than Wilson's, and never wrong more often than it says, which decisions need: of 3 runs
    with one failure, Wilson's lower end claims 6 %, this one 1.7 %.

    Source: Clopper and Pearson, Biometrika 26 (1934) 404.
    """
    tail = (1 - level) / 2
    low = float(beta.ppf(tail, hits, runs - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, runs - hits)) if hits < runs else 1.0
    return Interval(low, high)


def rate_interval(events: int, runs: int, level: float = 0.90) -> Interval:
    """Where the mean number of events a run lies when `events` were counted in `runs` runs.

    χ² quantiles: low = χ²(α; 2k)/2n, high = χ²(1 − α; 2k + 2)/2n, for a Poisson count k.

    Source: Garwood, Biometrika 28 (1936) 437.
    """
    if runs == 0:
        return Interval(0.0, np.inf)
    tail = (1 - level) / 2
    low = float(chi2.ppf(tail, 2 * events)) / 2 / runs if events else 0.0
    return Interval(low, float(chi2.ppf(1 - tail, 2 * events + 2)) / 2 / runs)


def clean_runs_to_show(limit: float, level: float = 0.90) -> int:
    """How many runs without any failure put the upper end of `exact_interval` at `limit`.

    (1 − limit)^n ≤ (1 − level)/2.
    """
    return ceil(log((1 - level) / 2) / log1p(-limit))


def bootstrap_interval(gaps: Sequence[float], level: float = 0.90, seed: int = 0) -> Interval:
    """The BCa interval of the mean gap when the seeds are drawn again with replacement.

    A gap is one seed's difference to its own reference run, so drawing gaps draws pairs. With n
    seeds there are few different resamples (10 of 3 seeds) and none leaves [min, max]: alone,
    this is too narrow for fewer than about ten. Gaps that are all equal give that one value.

    Raises:
        ValueError: there is no gap.

    Source: Efron, J. Am. Stat. Assoc. 82 (1987) 171, as `scipy.stats.bootstrap` computes it.
    """
    values = np.asarray(gaps, dtype=np.float64)
    if not len(values):
        raise ValueError("a bootstrap interval needs at least one gap")
    if np.ptp(values) == 0:
        return Interval(float(values[0]), float(values[0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a degenerate resample: the NaN is dealt with below
        ends = bootstrap(
            (values,),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=level,
            method="BCa",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    low, high = float(ends.low), float(ends.high)
    if np.isnan(low) or np.isnan(high):
        return Interval(float(values.min()), float(values.max()))
    return Interval(low, high)


def student_interval(
    gaps: Sequence[float], level: float = 0.90, least_spread: float = 0.0
) -> Interval:
    """mean ± t(n − 1) · s/√n, with s the gaps' standard deviation, at least `least_spread`.

    Raises:
        ValueError: there are fewer than two gaps.
    """
    mean, error, degrees = _moments(gaps, least_spread)
    half = float(t.ppf(0.5 + level / 2, degrees)) * error
    return Interval(mean - half, mean + half)


def gap_interval(gaps: Sequence[float], level: float = 0.90, least_spread: float = 0.0) -> Interval:
    """The outer limits of the bootstrap and the Student interval of the mean gap.

    Student's is right for few seeds and a symmetric spread, the bootstrap for many seeds and a
    skewed one; taking the outer limits is never less careful than either. docs/report.md gives
    the share of studies that each of the three misses.
    """
    drawn = bootstrap_interval(gaps, level)
    student = student_interval(gaps, level, least_spread)
    return Interval(min(drawn.low, student.low), max(drawn.high, student.high))


def equivalence_test(gaps: Sequence[float], tolerance: float, least_spread: float = 0.0) -> float:
    """TOST: the p-value against "the true mean gap is at least `tolerance` away from 0".

    The larger p of the two one-sided paired t tests of mean ≤ −tolerance and mean ≥ tolerance;
    p < 0.05 exactly when the 90 % Student interval lies inside (−tolerance, tolerance).

    Raises:
        ValueError: there are fewer than two gaps.

    Source: Schuirmann, J. Pharmacokinet. Biopharm. 15 (1987) 657.
    """
    mean, error, degrees = _moments(gaps, least_spread)
    if error == 0:
        return 0.0 if abs(mean) < tolerance else 1.0
    return float(t.sf((tolerance - abs(mean)) / error, degrees))


def seeds_to_decide(
    gaps: Sequence[float],
    boundary: float,
    level: float = 0.90,
    least_spread: float = 0.0,
    most: int = 100,
) -> int | None:
    """How many seeds in all would put `boundary` outside the interval; None for over `most`.

    Assumes that the mean and the spread stay what they are: an indication, not a promise.
    """
    mean, error, _ = _moments(gaps, least_spread)
    spread = error * sqrt(len(gaps))
    seeds = np.arange(len(gaps) + 1, most + 1)
    half = t.ppf(0.5 + level / 2, seeds - 1) * spread / np.sqrt(seeds)
    enough = seeds[half < abs(mean - boundary)]
    return int(enough[0]) if len(enough) else None


def grid_spread(values: Sequence[float]) -> float:
    """The standard deviation h/√6 that rounding to a grid of step h puts on a difference.

    A test set of N images lets accuracy take steps of 1/N only, so that a few seeds may agree by
    chance; h is estimated as the smallest difference between the values seen.
    """
    steps = np.diff(np.unique(np.asarray(values, dtype=np.float64)))
    real = steps[steps > 1e-9]
    return float(real.min()) / sqrt(6) if len(real) else 0.0


def _moments(gaps: Sequence[float], least_spread: float) -> tuple[float, float, int]:
    """The mean, its standard error and the degrees of freedom."""
    values = np.asarray(gaps, dtype=np.float64)
    if len(values) < 2:
        raise ValueError(f"{len(values)} gap says nothing about spread; at least two are needed")
    spread = max(float(values.std(ddof=1)), least_spread)
    return float(values.mean()), spread / sqrt(len(values)), len(values) - 1
