"""The statistics against scipy, closed forms and simulation."""

from itertools import product
from math import sqrt

import numpy as np
import pytest
from scipy import stats

from tapeout.reports.rules import AT_RISK, STABLE, Evidence, judge
from tapeout.reports.statistics import (
    bootstrap_interval,
    equivalence_test,
    gap_interval,
    grid_spread,
    seeds_to_decide,
    student_interval,
    wilson_interval,
)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_wilson_equals_scipy(level: float) -> None:
    for runs in range(1, 13):
        for hits in range(runs + 1):
            other = stats.binomtest(hits, runs).proportion_ci(level, method="wilson")
            assert wilson_interval(hits, runs, level) == pytest.approx((other.low, other.high))


def test_wilson_without_runs_says_nothing() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_bootstrap_equals_the_enumeration_of_all_resamples() -> None:
    gaps = [-0.02, 0.0, 0.005, 0.03]
    means = [np.mean(drawn) for drawn in product(gaps, repeat=4)]
    exact = np.quantile(means, [0.05, 0.95])
    assert bootstrap_interval(gaps, 0.90) == pytest.approx(tuple(exact), abs=1.3e-3)


def test_bootstrap_agrees_with_scipy() -> None:
    gaps = np.random.default_rng(3).gamma(2.0, size=60)
    other = stats.bootstrap((gaps,), np.mean, confidence_level=0.9, method="percentile", rng=4)
    interval = bootstrap_interval(list(gaps), 0.9)
    assert interval == pytest.approx(tuple(other.confidence_interval), abs=0.03)


def test_bootstrap_is_deterministic_and_stays_between_the_extremes() -> None:
    gaps = [0.01, 0.02, 0.07]
    assert bootstrap_interval(gaps) == bootstrap_interval(gaps)
    low, high = bootstrap_interval(gaps, 0.9999)
    assert (low, high) == pytest.approx((0.01, 0.07))
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval([])


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_student_and_tost_equal_scipy(seeds: int) -> None:
    gaps = np.random.default_rng(seeds).normal(-0.003, 0.006, seeds)
    other = stats.ttest_1samp(gaps, 0).confidence_interval(0.9)
    assert student_interval(list(gaps)) == pytest.approx((other.low, other.high))
    lower = stats.ttest_1samp(gaps, -0.01, alternative="greater").pvalue
    upper = stats.ttest_1samp(gaps, 0.01, alternative="less").pvalue
    assert equivalence_test(list(gaps), 0.01) == pytest.approx(max(lower, upper))


def test_tost_passes_exactly_when_the_interval_is_inside() -> None:
    rng = np.random.default_rng(1)
    passed = 0
    for _ in range(500):
        gaps = list(rng.normal(rng.uniform(-0.02, 0.02), 0.004, 4))
        low, high = student_interval(gaps, 0.90)
        inside = -0.01 < low and high < 0.01
        assert inside == (equivalence_test(gaps, 0.01) < 0.05)
        passed += inside
    assert 50 < passed < 450


def test_equal_gaps_need_no_spread_unless_the_metric_is_coarse() -> None:
    assert equivalence_test([0.0, 0.0], 0.01) == 0.0
    assert equivalence_test([0.02, 0.02], 0.01) == 1.0
    assert student_interval([0.0] * 4, least_spread=0.5) == pytest.approx(
        student_interval([-0.5 * sqrt(0.75), 0.5 * sqrt(0.75)] * 2)
    )


@pytest.mark.parametrize("function", [student_interval, lambda g: equivalence_test(g, 0.01)])
def test_one_gap_has_no_spread(function) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="1 gap says nothing"):
        function([0.1])


def test_the_gap_interval_holds_both_others() -> None:
    skewed = list(np.random.default_rng(0).exponential(size=30) ** 3)
    student, drawn = student_interval(skewed), bootstrap_interval(skewed)
    assert drawn.high > student.high
    assert gap_interval(skewed) == (min(student.low, drawn.low), drawn.high)


def test_seeds_to_decide_is_the_smallest_number_that_decides() -> None:
    gaps = [-0.012, 0.0, 0.009]
    mean, spread = np.mean(gaps), np.std(gaps, ddof=1)

    def half(seeds: int) -> float:
        return float(stats.t.ppf(0.95, seeds - 1) * spread / sqrt(seeds))

    seeds = seeds_to_decide(gaps, -0.01)
    assert seeds is not None
    assert half(seeds) < mean + 0.01 <= half(seeds - 1)
    assert seeds_to_decide([-0.02, 0.0], -0.01) is None


def test_grid_spread_is_the_spread_of_a_difference_of_rounded_values() -> None:
    rng = np.random.default_rng(0)
    x, step = rng.uniform(0, 100, (2, 200_000)), 1 / 360
    rounded = np.round(x / step) * step
    errors = (rounded[0] - rounded[1]) - (x[0] - x[1])
    values = [300 / 360, 301 / 360, 340 / 360, 340 / 360 + 1e-12]
    assert grid_spread(values) == pytest.approx(errors.std(), rel=0.01)
    assert grid_spread([0.9, 0.9]) == grid_spread([]) == 0.0


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_at_the_tolerance_each_verdict_is_wrong_in_at_most_5_percent(seeds: int) -> None:
    rng, studies = np.random.default_rng(seeds), 600
    verdicts = [
        judge(Evidence("test_accuracy", 0.01, tuple(gaps), 0, seeds)).verdict
        for gaps in rng.normal(-0.01, 0.004, (studies, seeds))
    ]
    allowed = studies * 0.05 + 3 * sqrt(studies * 0.05 * 0.95)
    assert 0 < verdicts.count(STABLE) < allowed
    assert 0 < verdicts.count(AT_RISK) < allowed
