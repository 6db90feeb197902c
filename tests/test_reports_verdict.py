"""Verdicts on studies whose truth is known."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tapeout.reports import VerdictRow, verdict_rows
from tapeout.reports.rules import AT_RISK, INCONCLUSIVE, STABLE, UNSTABLE, Evidence, judge
from tapeout.tests.test_reports_folders import Finals, write_study

REFERENCE = [0.930, 0.935, 0.940]


def verdict(
    folder: Path,
    finals: Sequence[float | None],
    reference: Sequence[float | None] = REFERENCE,
    metric: str = "test_accuracy",
    tolerance: float = 0.01,
) -> VerdictRow:
    """The verdict on a column that ended with `finals`."""
    table: Finals = {("lmd", "ieee-float32"): reference, ("lmd", "h100-fp8"): finals}
    study = write_study(folder / "study", table, metric, tolerance=tolerance)
    row = verdict_rows(study)[1]
    assert (row.optimizer, row.column, row.chip, row.recipe) == (
        "lmd",
        "h100-fp8",
        "nvidia-h100",
        "fp8",
    )
    return row


def test_equal_quality_is_stable(tmp_path: Path) -> None:
    row = verdict(tmp_path, REFERENCE)
    assert (row.verdict, row.gap, row.diverged, row.runs) == (STABLE, 0.0, 0, 3)
    assert row.gap_low is not None and -0.01 < row.gap_low < 0
    assert row.mean == pytest.approx(0.935)
    assert (row.low, row.high) == (0.930, 0.940)
    assert "3 seeds could miss a failure rate of up to 56" in row.reason


def test_better_than_the_reference_is_stable_though_not_equivalent(tmp_path: Path) -> None:
    row = verdict(tmp_path, [0.960, 0.966, 0.969])
    assert row.verdict == STABLE
    assert row.equivalence_p is not None and row.equivalence_p > 0.9


def test_a_clear_gap_is_at_risk(tmp_path: Path) -> None:
    row = verdict(tmp_path, [0.900, 0.906, 0.909])
    assert row.verdict == AT_RISK
    assert row.gap == pytest.approx(-0.03)
    assert row.gap_high is not None and row.gap_high < -0.01


def test_a_gap_too_uncertain_names_the_seeds_that_would_decide(tmp_path: Path) -> None:
    row = verdict(tmp_path, [0.915, 0.935, 0.937])
    assert row.verdict == INCONCLUSIVE
    assert row.seeds_to_decide is not None
    more = row.seeds_to_decide - 3
    assert f"{more} more (about {row.seeds_to_decide} seeds in all) would decide" in row.reason


def test_every_run_diverged_is_unstable(tmp_path: Path) -> None:
    row = verdict(tmp_path, [None, None, None])
    assert (row.verdict, row.diverged, row.runs, row.gap, row.mean) == (UNSTABLE, 3, 3, None, None)


def test_one_diverged_run_is_a_risk_however_well_the_others_did(tmp_path: Path) -> None:
    row = verdict(tmp_path, [0.930, None, 0.940])
    assert (row.verdict, row.diverged, row.gap) == (AT_RISK, 1, 0.0)
    assert (row.failed_low, row.failed_high) == pytest.approx((0.0615, 0.7923), abs=1e-4)


def test_two_collapsed_runs_are_unstable_though_two_gaps_span_everything(tmp_path: Path) -> None:
    row = verdict(tmp_path, [0.70, 0.45], REFERENCE[:2])
    assert row.gap_high is not None and row.gap_high > 0
    assert (row.verdict, row.diverged) == (UNSTABLE, 0)
    assert "2 ended more than 10.0\u202fpp worse" in row.reason


def test_a_single_seed_decides_nothing(tmp_path: Path) -> None:
    row = verdict(tmp_path, [0.93], [0.93])
    assert (row.verdict, row.gap, row.gap_low) == (INCONCLUSIVE, 0.0, None)


def test_two_equal_seeds_of_a_coarse_metric_are_not_certain(tmp_path: Path) -> None:
    coarse = [0.90, 0.92]
    row = verdict(tmp_path, coarse, coarse)
    assert row.gap == 0.0
    assert row.verdict == INCONCLUSIVE  # the metric moves in steps of twice the tolerance


def test_the_reference_takes_no_blame_from_the_column(tmp_path: Path) -> None:
    row = verdict(tmp_path, [None, None, None], [None, None, None])
    assert row.verdict == INCONCLUSIVE
    assert row.diverged == 3
    assert "finished reference run" in row.reason


def test_seeds_without_a_reference_are_not_compared(tmp_path: Path) -> None:
    row = verdict(tmp_path, [0.93, None, 0.94], [0.93, None, 0.94])
    assert (row.diverged, row.gap) == (1, 0.0)
    assert row.verdict != AT_RISK
    assert "1 of 3 planned seeds has nothing to compare" in row.reason


def test_a_loss_is_worse_when_it_is_larger(tmp_path: Path) -> None:
    reference = [0.20, 0.21, 0.22]
    worse = verdict(tmp_path / "a", [0.25, 0.262, 0.27], reference, "test_loss")
    better = verdict(tmp_path / "b", [0.15, 0.162, 0.17], reference, "test_loss")
    assert (worse.verdict, better.verdict) == (AT_RISK, STABLE)
    assert worse.gap == pytest.approx(0.0506667, abs=1e-6)


def test_unfinished_runs_are_missed_in_words(tmp_path: Path) -> None:
    verdict(tmp_path, REFERENCE)
    study = tmp_path / "study"
    (study / "h100-fp8--lmd--s2--0a1b2c3d" / "result.json").unlink()
    row = verdict_rows(study)[1]
    assert (row.runs, row.planned) == (2, 3)
    assert row.reason.endswith("1 of 3 planned seeds has nothing to compare.")


def test_the_reference_row_reports_itself(tmp_path: Path) -> None:
    verdict(tmp_path, REFERENCE, [0.93, None, 0.94])
    row = verdict_rows(tmp_path / "study")[0]
    assert (row.verdict, row.diverged, row.runs, row.gap) == ("REFERENCE", 1, 3, None)
    assert row.reason == "2 of 3 runs finished; 1 diverged."


@pytest.mark.parametrize(
    ("failed", "seeds", "expected"),
    [(1, 1, AT_RISK), (1, 3, AT_RISK), (2, 2, UNSTABLE), (2, 3, AT_RISK), (4, 5, UNSTABLE)],
)
def test_unstable_needs_failures_that_chance_does_not_explain(
    failed: int, seeds: int, expected: str
) -> None:
    gaps = (0.0,) * (seeds - failed)
    assert judge(Evidence("test_accuracy", 0.01, gaps, failed, seeds)).verdict == expected


def test_a_tolerance_of_zero_knows_no_collapse() -> None:
    evidence = Evidence("test_accuracy", 0.0, (-0.5, -0.5001, -0.4999), 0, 3)
    assert evidence.failed == 0
    assert judge(evidence).verdict == AT_RISK


@pytest.mark.parametrize(("rate", "expected"), [(0.0, STABLE), (0.15, AT_RISK), (0.75, UNSTABLE)])
def test_a_known_divergence_rate_is_found(rate: float, expected: str) -> None:
    rng, seeds, studies = np.random.default_rng(0), 20, 200
    verdicts = [
        judge(
            Evidence(
                "test_accuracy", 0.01, tuple(rng.normal(0, 0.003, seeds - lost)), int(lost), seeds
            )
        ).verdict
        for lost in rng.binomial(seeds, rate, studies)
    ]
    assert verdicts.count(expected) >= 0.9 * studies
