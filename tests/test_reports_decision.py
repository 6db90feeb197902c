"""Thresholds, learning-rate margins and Pareto fronts, against answers known beforehand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import ttost_paired

from tapeout.reports.decision import GO, NO_GO, UNDECIDED, Criterion, decide
from tapeout.reports.grids import make_plane
from tapeout.reports.learning_rates import RatePoint, RateRow, limits, rate_rows
from tapeout.reports.pareto import find_front, operand_bits, pareto_rows
from tapeout.reports.statistics import (
    clean_runs_to_show,
    equivalence_test,
    exact_interval,
    rate_interval,
    wilson_interval,
)
from tapeout.reports.study import read_study
from tapeout.reports.traces import trace_rows
from tapeout.reports.verdict import judge_study
from tapeout.tests.test_reports_folders import Finals, write_study

FINE = [0.930, 0.935, 0.940]


def criteria(
    folder: Path, finals: list[float | None], thresholds: dict[str, Any], metric: str = "accuracy"
) -> dict[str, Criterion]:
    """Every threshold of a study of two optimizers, as judged on lmd in the second column."""
    table: Finals = {
        ("adamw", "ieee-float32"): FINE,
        ("lmd", "ieee-float32"): FINE,
        ("lmd", "h100-fp8"): finals,
    }
    study = write_study(folder / "study", table, f"test_{metric}", thresholds=thresholds)
    found = read_study(study)
    decision = decide(found, judge_study(found), [])
    (row,) = [row for row in decision.rows if (row.optimizer, row.column) == ("lmd", "h100-fp8")]
    return {criterion.name: criterion for criterion in row.criteria}


@pytest.mark.parametrize(
    ("finals", "limit", "expected"),
    [
        ([0.930, 0.9351, 0.9399], 0.01, GO),
        ([0.900, 0.9051, 0.9099], 0.01, NO_GO),
        ([0.900, 0.9051, 0.9099], 0.04, GO),
        ([0.915, 0.935, 0.937], 0.01, UNDECIDED),
        ([0.930], 0.01, UNDECIDED),
        ([0.960, 0.9651, 0.9699], 0.0, GO),
    ],
)
def test_a_quality_gap(
    tmp_path: Path, finals: list[float | None], limit: float, expected: str
) -> None:
    found = criteria(tmp_path, finals, {"quality_gap": limit})["quality_gap"]
    assert found.decision == expected, found
    assert expected != UNDECIDED or "seeds" in found.reason


def test_a_loss_that_rises_is_a_gap(tmp_path: Path) -> None:
    worse: list[float | None] = [v + 0.03 for v in FINE]
    found = criteria(tmp_path, worse, {"quality_gap": 0.01}, "loss")["quality_gap"]
    assert found.decision == NO_GO
    assert found.value == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("lost", "limit", "expected"),
    [(0, 0.0, GO), (1, 0.0, NO_GO), (0, 0.1, UNDECIDED), (0, 0.7, GO), (3, 0.3, NO_GO)],
)
def test_a_share_of_diverged_runs(tmp_path: Path, lost: int, limit: float, expected: str) -> None:
    finals = [*FINE[: 3 - lost], *[None] * lost]
    found = criteria(tmp_path, finals, {"diverged_share": limit})["diverged_share"]
    assert found.decision == expected, found
    if expected == UNDECIDED:
        assert f"{clean_runs_to_show(limit)} runs without a divergence" in found.reason


def test_ratios_are_those_of_the_recorded_bytes_and_of_the_named_baseline(tmp_path: Path) -> None:
    own = criteria(tmp_path / "a", list(FINE), {"optimizer_state_ratio": 1.0})
    assert own["optimizer_state_ratio"].value == 1.0
    assert own["optimizer_state_ratio"].decision == GO
    limits = {"optimizer_state_ratio": 0.4, "baseline": "adamw"}
    other = criteria(tmp_path / "b", list(FINE), limits)
    assert other["optimizer_state_ratio"].value == pytest.approx(102500 / 205000)
    assert other["optimizer_state_ratio"].decision == NO_GO


def test_what_was_not_recorded_or_is_not_known_is_undecided_and_says_so(tmp_path: Path) -> None:
    found = criteria(tmp_path, list(FINE), {"memory_ratio": 1.0, "beauty": 2.0, "lr_margin": 0.5})
    assert {c.decision for c in found.values()} == {UNDECIDED}
    assert "no memory recorded" in found["memory_ratio"].reason
    assert "does not know the threshold" in found["beauty"].reason
    assert "sweeps no learning rate" in found["lr_margin"].reason


def test_an_unstable_pair_is_a_no_go_whatever_the_thresholds(tmp_path: Path) -> None:
    table: Finals = {
        ("lmd", "ieee-float32"): [*FINE, 0.93],
        ("lmd", "h100-fp8"): [None] * 4,
    }
    thresholds = {"optimizer_state_ratio": 2.0}
    found = read_study(write_study(tmp_path / "study", table, thresholds=thresholds))
    decision = decide(found, judge_study(found), [])
    assert [c.decision for c in decision.rows[0].criteria] == [GO]
    assert (decision.rows[0].decision, decision.overall) == (NO_GO, NO_GO)


def test_without_thresholds_nothing_is_decided(tmp_path: Path) -> None:
    found = read_study(write_study(tmp_path / "study", {("lmd", "ieee-float32"): FINE}))
    assert decide(found, judge_study(found), []).overall is None


def rate_row(ratio: float, low: float | None, high: float | None) -> RateRow:
    return RateRow("lmd", "h100-fp8", (), 1.0, None, ratio, low, high)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (rate_row(0.5, 0.5, 0.5), GO),
        (rate_row(0.25, 0.25, 0.25), NO_GO),
        (rate_row(0.25, None, 0.25), NO_GO),
        (rate_row(0.5, None, 0.5), UNDECIDED),
        (rate_row(0.25, 0.25, None), UNDECIDED),
        (rate_row(1.0, 1.0, None), GO),
        (rate_row(1.0, None, None), GO),
    ],
)
def test_a_learning_rate_margin_is_judged_by_what_the_factors_tell(
    tmp_path: Path, rate: RateRow, expected: str
) -> None:
    table: Finals = {("lmd", "ieee-float32"): FINE, ("lmd", "h100-fp8"): FINE}
    study = write_study(tmp_path / "study", table, thresholds={"lr_margin": 0.5})
    found = read_study(study)
    (row,) = decide(found, judge_study(found), [rate]).rows
    assert row.criteria[0].decision == expected


def test_the_largest_rate_is_the_one_before_the_first_that_fails() -> None:
    def points(*trains: bool) -> list[RatePoint]:
        return [RatePoint(2.0**k, 4, 0 if ok else 3, 0.9) for k, ok in enumerate(trains)]

    assert limits(points(True, True, False, True)) == (2.0, 4.0)
    assert limits(points(False, True, True)) == (4.0, None)
    assert limits(points(False, False)) == (None, None)
    assert not RatePoint(1.0, 2, 1, 0.9).trains  # half is not more than half


def test_margins_of_a_study_that_sweeps_learning_rates(tmp_path: Path) -> None:
    """The reference fails from 4, the column from 2: its margin is a half."""
    table: dict[tuple[str, str], list[float | None]] = {
        ("lmd", "ieee-float32"): [0.93] * 8,
        ("lmd", "h100-fp8"): [0.93] * 8,
    }
    for name, failing in (("ieee-float32", 4.0), ("h100-fp8", 2.0)):
        values = table["lmd", name]
        for k in range(8):
            if (0.5, 1.0, 2.0, 4.0)[k % 4] >= failing:
                values[k] = None
    study = write_study(tmp_path / "study", table)
    record = json.loads((study / "study.json").read_text())
    for k, run in enumerate(record["runs"]):
        inputs = study / run["folder"] / "run.json"
        run["lr_factor"], run["seed"] = (0.5, 1.0, 2.0, 4.0)[k % 4], k % 8 // 4
        inputs.write_text(json.dumps(json.loads(inputs.read_text()) | {"seed": run["seed"]}))
    (study / "study.json").write_text(json.dumps(record))
    found = read_study(study)
    reference, column = rate_rows(found)
    assert (reference.largest, reference.next_failing, reference.ratio) == (2.0, 4.0, 1.0)
    assert (column.largest, column.next_failing) == (1.0, 2.0)
    assert (column.ratio, column.ratio_low, column.ratio_high) == (0.5, 0.5, 0.5)
    # Verdicts rest on the factor 1 alone: the other runs' divergences are not the column's.
    assert [(row.runs, row.diverged) for row in judge_study(found)] == [(2, 0), (2, 0)]


def test_the_front_is_what_no_other_point_dominates() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 12, (60, 2)) / 10 + 0.5 * rng.integers(0, 4, (60, 1))
    points = {k: (float(cost), float(value)) for k, (cost, value) in enumerate(drawn)}
    front = find_front(points)
    for key, own in points.items():
        others = [p for p in points.values() if p != own]
        assert (key in front) != any(c <= own[0] and v >= own[1] for c, v in others)
    costs = [points[key][0] for key in front]
    assert costs == sorted(costs) and len(front) >= 2


def test_costs_are_read_off_the_runs(tmp_path: Path) -> None:
    table: Finals = {
        ("lmd", "ieee-float32"): FINE,
        ("lmd", "h100-fp8"): [0.92, 0.925, 0.93],
        ("lmd", "int4-nearest"): [None] * 3,
    }
    found = read_study(write_study(tmp_path / "study", table))
    trace = trace_rows(found)
    assert [operand_bits(trace, c) for c in found.columns] == [32, 8, 4]
    rows = {row.column: row for row in pareto_rows(found, judge_study(found), trace)}
    assert rows["h100-fp8"].costs["optimizer_state_bytes"] == 102500
    assert rows["h100-fp8"].costs["emulated_seconds"] == pytest.approx(0.015)
    assert rows["h100-fp8"].costs["memory_bytes"] is None
    assert "operand_bits" in rows["h100-fp8"].front
    assert rows["int4-nearest"].front == ()  # nothing finished: no candidate


def test_a_plane_sets_the_longest_axes_against_each_other(tmp_path: Path) -> None:
    axes = [
        {"format": f, "rounding": r, "order": o}
        for f in ("e4m3", "int4")
        for r in ("up", "down", "zero")
        for o in ("chain", "tree", "exact", "fused")
    ]
    columns = [{"name": f"c{k}", "chip": "x", "recipe": "y", "axes": a} for k, a in enumerate(axes)]
    columns.append({"name": "reference", "chip": "x", "recipe": "y"})
    facts: dict[str, Any] = {"columns": columns, "runs": [], "reference": "reference"}
    study = write_study(tmp_path / "study", {("lmd", "ieee-float32"): []}, **facts)
    rows = [row for row in judge_study(read_study(study)) if row.column != "reference"]
    plane = make_plane(rows, ("format", "rounding", "order"))
    assert (plane.down, plane.across) == ("order", "rounding")
    assert plane.facets == ("format e4m3", "format int4")
    assert len(plane.cells) == 24
    cell = plane.cells[1, plane.lines.index("tree"), plane.places.index("zero")]
    assert cell.axes == {"format": "int4", "rounding": "zero", "order": "tree"}


@pytest.mark.parametrize(("hits", "runs"), [(0, 5), (1, 3), (4, 9), (7, 7)])
def test_shares_equal_statsmodels(hits: int, runs: int) -> None:
    wilson = proportion_confint(hits, runs, alpha=0.05, method="wilson")
    assert wilson_interval(hits, runs) == pytest.approx(wilson, abs=1e-12)
    exact = proportion_confint(hits, runs, alpha=0.10, method="beta")
    assert exact_interval(hits, runs, 0.90) == pytest.approx(exact, abs=1e-12)


def test_clean_runs_to_show_is_the_least_number() -> None:
    for limit in (0.02, 0.1, 0.25, 0.5, 0.9):
        runs = clean_runs_to_show(limit)
        assert exact_interval(0, runs).high <= limit + 1e-12
        assert runs == 1 or exact_interval(0, runs - 1).high > limit


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_tost_equals_statsmodels(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    own, base = rng.normal(0.93, 0.006, (2, seeds))
    p, *_ = ttost_paired(own, base, -0.01, 0.01)
    assert equivalence_test(list(own - base), 0.01) == pytest.approx(p)


def test_rate_interval_solves_the_poisson_tails() -> None:
    for events, runs in ((0, 3), (1, 5), (12, 4)):
        low, high = rate_interval(events, runs)
        assert stats.poisson.cdf(events, high * runs) == pytest.approx(0.05)
        assert events == 0 or stats.poisson.sf(events - 1, low * runs) == pytest.approx(0.05)
    assert rate_interval(0, 0) == (0.0, np.inf)
