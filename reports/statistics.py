"""Intervals and tests for a handful of seeds: Wilson, paired bootstrap, Student, equivalence."""

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, t


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


def bootstrap_interval(
    gaps: Sequence[float], level: float = 0.90, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """The percentile interval of the mean gap when the seeds are drawn again with replacement.

    A gap is one seed's difference to its own reference run, so drawing gaps draws pairs. With n
    seeds no resample leaves [min, max]: alone, this is too narrow for fewer than about ten.

    Raises:
        ValueError: there is no gap.
    """
    values = np.asarray(gaps, dtype=np.float64)
    if not len(values):
        raise ValueError("a bootstrap interval needs at least one gap")
    drawn = np.random.default_rng(seed).integers(0, len(values), (resamples, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.5 - level / 2, 0.5 + level / 2])
    return Interval(float(low), float(high))


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
    skewed one; taking the outer limits is never less careful than either.
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
