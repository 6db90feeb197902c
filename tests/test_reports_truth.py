"""Verdicts on simulated studies of known truth: how often each is wrong, against what is stated.

`python -m tapeout.tests.test_reports_truth` prints the tables of docs/report.md.
"""

import sys
from collections import Counter
from dataclasses import dataclass
from math import comb, sqrt

import numpy as np
import numpy.typing as npt
import pytest

from tapeout.reports.rules import (
    AT_RISK,
    FAILING,
    INCONCLUSIVE,
    STABLE,
    UNSTABLE,
    Evidence,
    judge,
)
from tapeout.reports.statistics import (
    bootstrap_interval,
    exact_interval,
    gap_interval,
    rate_interval,
    student_interval,
    wilson_interval,
)

TOLERANCE, SPREAD = 0.01, 0.004
#: Shapes of the seeds' scatter, each with mean 0 and standard deviation 1.
SHAPES = {
    "normal": lambda rng, size: rng.standard_normal(size),
    "skewed": lambda rng, size: 1 - rng.exponential(size=size),
    "heavy": lambda rng, size: rng.standard_t(5, size) / sqrt(5 / 3),
}


@dataclass(frozen=True)
class World:
    """What is true of a pair: its mean gap, the shape of the scatter, how often runs diverge."""

    gap: float
    diverges: float = 0.0
    shape: str = "normal"
    seeds: int = 5


#: Each world with the verdicts that would be wrong, and how often they may be given.
WORLDS: dict[str, tuple[World, set[str], float]] = {
    "no gap": (World(0.0), {AT_RISK, UNSTABLE}, 0.01),
    "no gap, 3 seeds": (World(0.0, seeds=3), {AT_RISK, UNSTABLE}, 0.01),
    "gap of 2 tolerances": (World(-0.02), {STABLE, UNSTABLE}, 0.01),
    "gap of 2 tolerances, 3 seeds": (World(-0.02, seeds=3), {STABLE, UNSTABLE}, 0.01),
    "gap at the tolerance: never STABLE": (World(-TOLERANCE), {STABLE}, 0.05),
    "gap at the tolerance: never AT RISK": (World(-TOLERANCE), {AT_RISK}, 0.05),
    "the same, heavy tails": (World(-TOLERANCE, shape="heavy"), {STABLE}, 0.05),
    "the same, heavy tails, AT RISK": (World(-TOLERANCE, shape="heavy"), {AT_RISK}, 0.05),
    "a quarter diverges: never UNSTABLE": (World(0.0, FAILING), {UNSTABLE}, 0.0706),
    "three quarters diverge": (World(0.0, 0.75), {STABLE}, 0.01),
    "every run diverges": (World(0.0, 1.0), {STABLE, AT_RISK, INCONCLUSIVE}, 0.0),
}


def simulate(world: World, rng: np.random.Generator) -> str:
    """The verdict on one study of a world."""
    lost = int(rng.binomial(world.seeds, world.diverges))
    gaps = world.gap + SPREAD * SHAPES[world.shape](rng, world.seeds - lost)
    return judge(Evidence("test_accuracy", TOLERANCE, tuple(gaps), lost, world.seeds)).verdict


def count(world: World, studies: int, seed: int = 0) -> Counter[str]:
    """How many of so many studies get each verdict."""
    rng = np.random.default_rng(seed)
    return Counter(simulate(world, rng) for _ in range(studies))


def allowed(rate: float, studies: int) -> float:
    """A count that a rate exceeds by chance less than once in a thousand."""
    return studies * rate + 3.1 * sqrt(studies * rate * (1 - rate)) + 1e-9


@pytest.mark.parametrize("name", ["no gap", "gap of 2 tolerances", "three quarters diverge"])
def test_60_simulated_studies_are_judged_right(name: str) -> None:
    world, wrong, rate = WORLDS[name]
    verdicts = count(world, 60)
    assert sum(verdicts[verdict] for verdict in wrong) <= allowed(rate, 60)
    assert verdicts[INCONCLUSIVE] < 60  # a rule that never decides would pass the line above


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_1000_simulated_studies_err_no_more_often_than_stated(name: str) -> None:
    world, wrong, rate = WORLDS[name]
    verdicts = count(world, 1000)
    assert sum(verdicts[verdict] for verdict in wrong) <= allowed(rate, 1000), verdicts


@pytest.mark.slow
def test_studies_far_from_the_tolerance_are_decided() -> None:
    assert count(WORLDS["no gap"][0], 1000)[STABLE] > 900
    assert count(WORLDS["gap of 2 tolerances"][0], 1000)[AT_RISK] > 900
    assert count(World(0.0, seeds=3), 1000)[STABLE] > 400


def test_unstable_errs_in_one_of_fourteen_studies_at_most_by_enumeration() -> None:
    worst = 0.0
    for runs in range(1, 101):
        failing = [k for k in range(runs + 1) if wilson_interval(k, runs).low > FAILING]
        chance = sum(comb(runs, k) * FAILING**k * (1 - FAILING) ** (runs - k) for k in failing)
        worst = max(worst, chance)
    assert worst == pytest.approx(0.0706, abs=5e-5)  # seven runs, four or more failed


@pytest.mark.parametrize("limit", [0.05, 0.1, 0.25, 0.5])
def test_a_decision_about_a_share_errs_in_5_percent_at_most_by_enumeration(limit: float) -> None:
    for runs in range(1, 61):
        ends = [exact_interval(k, runs) for k in range(runs + 1)]
        chances = [comb(runs, k) * limit**k * (1 - limit) ** (runs - k) for k in range(runs + 1)]
        pairs = list(zip(chances, ends, strict=True))
        assert sum(chance for chance, end in pairs if end.high < limit) <= 0.05
        assert sum(chance for chance, end in pairs if end.low > limit) <= 0.05


def misses(shape: str, seeds: int, studies: int) -> dict[str, float]:
    """Share of studies whose 90 % interval of the mean gap does not hold the truth, by interval."""
    rng = np.random.default_rng(1)
    draws: npt.NDArray[np.float64] = SHAPES[shape](rng, (studies, seeds))
    kinds = {"student": student_interval, "bootstrap": bootstrap_interval, "outer": gap_interval}
    found = dict.fromkeys(kinds, 0.0)
    for gaps in draws:
        for name, interval in kinds.items():
            low, high = interval(list(gaps))
            found[name] += (not low <= 0 <= high) / studies
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 20])
def test_the_outer_interval_misses_a_symmetric_gap_in_a_tenth_at_most(seeds: int) -> None:
    studies = 1000
    found = misses("normal", seeds, studies)
    assert found["outer"] * studies <= allowed(0.10, studies)
    assert found["outer"] <= min(found["student"], found["bootstrap"])


def test_a_rate_of_spikes_is_held_as_often_as_stated() -> None:
    rng, runs = np.random.default_rng(0), 5
    ends = {k: rate_interval(k, runs) for k in range(40)}
    for rate in (0.2, 1.0, 3.0):
        counts = rng.poisson(rate * runs, 4000)
        missed = sum(not ends[int(k)].low <= rate <= ends[int(k)].high for k in counts)
        assert missed <= allowed(0.10, 4000)


def main(studies: int) -> None:
    """Print what docs/report.md quotes."""
    for name, (world, wrong, rate) in WORLDS.items():
        verdicts = count(world, studies)
        share = sum(verdicts[v] for v in wrong) / studies
        print(f"| {name} | {world.seeds} | {', '.join(sorted(wrong))} | {rate:.1%} | {share:.1%} |"
              f" {dict(verdicts)}", flush=True)  # fmt: skip
    for shape in SHAPES:
        for seeds in (3, 5, 10, 20):
            found = misses(shape, seeds, studies)
            cells = " | ".join(f"{found[k]:.1%}" for k in ("student", "bootstrap", "outer"))
            print(f"| {shape} | {seeds} | {cells} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
