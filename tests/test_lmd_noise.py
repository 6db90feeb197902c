"""LMD's random numbers: their definition, their laws to the tails, and that they are apart."""

from math import erfc, exp, factorial, sqrt

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from tapeout.optimizers.elementary import quarter_point
from tapeout.optimizers.kernels.noise import LENGTH, NORMAL, RUN
from tapeout.optimizers.noise import (
    EVALUATION,
    ROUNDING,
    START,
    TRAINING,
    Draws,
    uniforms,
    variates,
    variates_reference,
)

Singles = NDArray[np.float32]
COUNT = 1 << 19


def numbers(law: int, count: int, seed: int = 1, draw: int = 0, purpose: int = TRAINING) -> Singles:
    place = Draws(seed).place(purpose, draw)
    return variates(torch.empty(2, count), law, place).numpy()


@pytest.mark.parametrize("law", [NORMAL, LENGTH])
def test_numbers_are_those_of_the_definition(law: int) -> None:
    """Every weight alone from its words; over the end of a run, and from a later place."""
    place = Draws(2**63 + 5, 7).take(EVALUATION)
    whole = variates(torch.empty(2, 2 * RUN + 300), law, place).numpy()
    for first, count in ((0, 600), (RUN - 40, 80), (2 * RUN, 300)):
        reference = variates_reference(law, place.after(first), count)
        assert reference.tobytes() == whole[:, first : first + count].tobytes()
    later = variates(torch.empty(2, 100), law, place.after(RUN)).numpy()
    assert np.array_equal(later, whole[:, RUN : RUN + 100])


def test_points_lie_on_the_circle() -> None:
    y = np.linspace(-1, 1, 200_001, dtype=np.float32)
    angle = np.pi / 4 * (1 + y.astype(np.float64))
    for got, right in zip(quarter_point(y), (np.cos(angle), np.sin(angle)), strict=True):
        assert np.abs(got - sqrt(2) * right).max() < 2.3e-7


@pytest.mark.parametrize("seed", [1, 2])
def test_normals_are_normal(seed: int) -> None:
    """Kolmogorov and Smirnov's test, and moments within five standard errors."""
    for z in numbers(NORMAL, COUNT, seed).astype(np.float64):
        assert stats.kstest(z, "norm").pvalue > 1e-4
        for power in range(1, 9):
            # E[z^2k] = (2k)!/(2^k·k!); the variance of z^p is that of z^2p less the mean's square.
            mean, square = (
                0.0 if p % 2 else factorial(p) / 2 ** (p // 2) / factorial(p // 2)
                for p in (power, 2 * power)
            )
            error = 5 * sqrt((square - mean**2) / z.size)
            assert np.mean(z**power) == pytest.approx(mean, abs=error)


def test_tails_are_those_of_the_normal_law() -> None:
    """Counts beyond 1 to 5 among eight million, within five standard errors of Poisson."""
    z = np.concatenate([np.abs(numbers(NORMAL, COUNT, draw=t)).reshape(-1) for t in range(8)])
    for limit in (1, 2, 3, 4, 4.5, 5):
        expected = z.size * erfc(limit / sqrt(2))
        assert abs(np.count_nonzero(z > limit) - expected) < 5 * sqrt(expected) + 1
    assert z.max() < 6.67


def test_lengths_are_those_of_plane_normal_vectors() -> None:
    for length in numbers(LENGTH, COUNT).astype(np.float64):
        assert stats.kstest(length, "rayleigh").pvalue > 1e-4
        assert np.mean(length**2) == pytest.approx(2, abs=5 * 2 / sqrt(length.size))


def test_numbers_are_apart() -> None:
    """Components, neighbours, halves of a run, draws, seeds and purposes do not correlate.

    Nor do their squares: |r| < 5/√n each.
    """
    plus, minus = numbers(NORMAL, COUNT)
    others = {
        "component": minus,
        "neighbour": np.roll(plus, 1),
        "half of a run": np.roll(plus, RUN // 2),
        "run": np.roll(plus, RUN),
        "draw": numbers(NORMAL, COUNT, draw=1)[0],
        "draw before": numbers(NORMAL, COUNT, draw=2)[1],
        "seed": numbers(NORMAL, COUNT, seed=2)[0],
        "evaluation": numbers(NORMAL, COUNT, purpose=EVALUATION)[0],
        "start": numbers(NORMAL, COUNT, purpose=START)[0],
    }
    for other in others.values():
        for f in (lambda z: z, np.square, np.abs):
            r = np.corrcoef(f(plus.astype(np.float64)), f(other.astype(np.float64)))[0, 1]
            assert abs(r) < 5 / sqrt(COUNT)


def test_points_are_spread_evenly_in_the_plane() -> None:
    """χ² of 64 sectors by 16 rings of equal probability, over both components together."""
    plus, minus = numbers(NORMAL, COUNT).astype(np.float64)
    sector = np.floor((np.arctan2(minus, plus) / (2 * np.pi) % 1) * 64).astype(int)
    ring = np.floor(np.exp(-(plus**2 + minus**2) / 2) * 16).clip(max=15).astype(int)
    counts = np.bincount(sector.clip(max=63) * 16 + ring, minlength=64 * 16)
    assert stats.chisquare(counts).pvalue > 1e-4


def test_uniform_numbers_are_uniform() -> None:
    place = Draws(3).place(ROUNDING, 4)
    for u in uniforms(torch.empty(2, COUNT), place).numpy().astype(np.float64):
        assert stats.kstest(u, "uniform").pvalue > 1e-4 and u.min() >= 0 and u.max() < 1
    part = uniforms(torch.empty(2, 50), place.after(33)).numpy()
    assert np.array_equal(part, uniforms(torch.empty(2, 99), place).numpy()[:, 33:83])


def test_the_largest_normal_is_that_of_the_smallest_word() -> None:
    """u = 1/2 of 2⁻³¹: √(−2 ln u) = 6.66, beyond which one number in 4·10¹⁰ would lie."""
    assert sqrt(2 * 32 * np.log(2)) == pytest.approx(6.66, abs=0.01)
    assert erfc(6.66 / sqrt(2)) < exp(-23.9)
