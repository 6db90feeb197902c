"""Differences between two optimizers, paired by seed, with a 95 % interval."""

from dataclasses import dataclass
from math import inf, isfinite, sqrt
from statistics import mean, stdev

from scipy.stats import t

CONFIDENCE = 0.95
#: Seeds that a verdict needs.
FEWEST = 5


@dataclass(frozen=True)
class Interval:
    """Mean of n values and Student's 95 % interval around it."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def interval(values: list[float]) -> Interval:
    """mean ± t(n − 1)·s/√n; everything, of a single value or where one is not finite."""
    n, middle = len(values), mean(values)
    if n < 2 or not all(map(isfinite, values)):
        return Interval(middle, -inf, inf, n)
    half = float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * stdev(values) / sqrt(n)
    return Interval(middle, middle - half, middle + half, n)


def difference(ours: dict[int, float], theirs: dict[int, float]) -> Interval | None:
    """Ours − theirs over the seeds that both have; None if there is none."""
    seeds = sorted(ours.keys() & theirs.keys())
    return interval([ours[s] - theirs[s] for s in seeds]) if seeds else None


def verdict(found: Interval, low: float, high: float = float("inf")) -> str:
    """Whether low < true mean < high: "yes" or "no" where the interval decides, else "open".

    Under five seeds it is open: a few runs can agree to the image by chance.
    """
    if found.n < FEWEST:
        return "open"
    if low < found.low and found.high < high:
        return "yes"
    return "no" if found.high <= low or found.low >= high else "open"
