"""Spikes, onsets and early warnings: found where they were planted, silent where nothing was."""

from pathlib import Path

import numpy as np
import pytest

from tapeout.reports.signals import SIGNALS, find_warnings, first_firing
from tapeout.reports.spikes import Series, find_onset, find_spikes, has_learned
from tapeout.reports.study import read_study
from tapeout.tests.report_samples import REFERENCE, Sample, Truth, write_sample


def losses(seed: int, steps: int = 300, noise: float = 0.15) -> np.ndarray:
    """A training loss: an exponential fall under log-normal noise of batches."""
    rng = np.random.default_rng(seed)
    time = np.arange(1, steps + 1)
    return (0.02 + 2.3 * np.exp(-time / 40)) * np.exp(noise * rng.normal(size=steps))


def series(values: np.ndarray) -> Series:
    return Series(np.arange(1, len(values) + 1), values)


def test_a_spike_is_found_at_its_first_step_and_once() -> None:
    values = losses(0)
    values[149:155] *= [9, 12, 8, 5, 3, 2]
    values[230] *= 20
    assert find_spikes(series(values)) == (150, 231)
    assert find_spikes(series(values), before=200) == (150,)


@pytest.mark.parametrize("noise", [0.02, 0.15, 0.4])
def test_noise_of_batches_is_seldom_a_spike(noise: float) -> None:
    """False alarms a run of 300 steps: measured over 200 runs of log-normal noise."""
    alarms = sum(len(find_spikes(series(losses(seed, noise=noise)))) for seed in range(200))
    assert alarms / 200 <= 0.03


def test_short_broken_or_constant_series_have_no_spikes() -> None:
    assert find_spikes(series(np.array([1.0, 100.0]))) == ()
    assert find_spikes(series(np.full(100, np.nan))) == ()
    assert find_spikes(series(np.ones(100))) == ()
    assert find_spikes(series(np.concatenate([np.ones(60), [0.0, -1.0, np.inf], np.ones(9)]))) == ()


def test_the_onset_is_after_the_last_loss_that_was_no_worse_than_the_first() -> None:
    values = np.array([2.0, 1.0, 3.0, 1.5, 2.5, 9.0, np.nan])
    assert find_onset(series(values), 7) == 5
    assert find_onset(series(np.array([2.0, 3.0, 9.0])), 3) == 2
    assert find_onset(series(np.array([np.nan])), 1) == 1


def test_a_reference_that_has_not_learned_is_noticed() -> None:
    flat = [series(np.exp(0.1 * np.random.default_rng(k).normal(size=60))) for k in range(3)]
    assert has_learned([series(losses(k)) for k in range(3)])
    assert has_learned(flat) is False
    assert has_learned([]) is None and has_learned([series(np.array([np.nan]))]) is None


@pytest.mark.parametrize(
    ("kind", "values", "usual", "step"),
    [
        ("share", [0.01, 0.03, 0.07, 0.2], [], 30),
        ("share", [0.01, 0.03, 0.07, 0.2], [0, 0, 0.05, 0.06], 40),
        ("share", [0.10, 0.14, 0.19], [], None),
        ("decibels", [30.0, 26.0, 23.9], [], 30),
        ("decibels", [30.0, 26.0, 24.1], [], None),
        ("count", [0, 0, 1], [], 30),
        ("events", [0.0, 1.0], [], 20),
    ],
)
def test_a_signal_fires_by_its_rule(
    kind: str, values: list[float], usual: list[float], step: int | None
) -> None:
    course = {10 * (k + 1): value for k, value in enumerate(values)}
    assert first_firing(kind, course, {10 * (k + 1): v for k, v in enumerate(usual)}) == step


def test_warnings_come_before_planted_divergences_and_not_without_a_cause(tmp_path: Path) -> None:
    int4 = {"chip": "generic-int4", "recipe": "int4", "override": {}}
    columns = {
        "ieee": (REFERENCE, Truth()),
        "drifts": (int4, Truth(diverges=1.0, underflow=0.02)),
        "sudden": (int4 | {"override": {"rounding": "up"}}, Truth(diverges=1.0, drift=False)),
        "calm": (int4, Truth(underflow=0.02)),
    }
    sample = Sample(columns, optimizers=("lmd",), seeds=3)
    warnings = find_warnings(read_study(write_sample(tmp_path / "study", sample)))
    assert [signal.name for signal in SIGNALS] == [row.signal for row in warnings.signals]
    rows = {row.signal: row for row in warnings.signals}
    assert rows["gradient underflow"].diverged == 6 and rows["gradient underflow"].calm == 6
    for name in ("gradient underflow", "SQNR of products"):
        fired = {run.column for run in warnings.runs if run.fired[name] is not None}
        assert fired == {"drifts"}, name
        assert rows[name].warned == 3 and rows[name].false_alarms == 0
        assert (rows[name].lead or 0) > 0
    assert rows["SQNR of products"].false_high < 0.6
    assert all(
        step < run.onset <= run.end
        for run in warnings.runs
        for step in run.fired.values()
        if step is not None
    )
