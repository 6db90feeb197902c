"""Shares of a gap over a few seeds, and how sure they are."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from .statistics import Interval

Values = npt.NDArray[np.float64]
LEVEL, RESAMPLES = 0.90, 10_000


def share_explained(as_run: Values, reference: Values, without: Values) -> float | None:
    """Σ (F − W) / Σ (F − R) over the seeds; None where the gap is not positive."""
    gap = float((as_run - reference).sum())
    return float((as_run - without).sum()) / gap if gap > 0 else None


def share_alone(as_run: Values, reference: Values, alone: Values) -> float | None:
    """Σ (A − R) / Σ (F − R) over the seeds; None where the gap is not positive."""
    gap = float((as_run - reference).sum())
    return float((alone - reference).sum()) / gap if gap > 0 else None


def paired_interval(
    share: Callable[[Values, Values, Values], float | None], *series: Values
) -> Interval | None:
    """The percentile interval of a share when the seeds are drawn again with replacement.

    A drawn seed brings all three of its runs along. None for fewer than two seeds, or where more
    than 5 % of the drawings have no positive gap.
    """
    count = len(series[0])
    if count < 2:
        return None
    drawn = np.random.default_rng(0).integers(0, count, (RESAMPLES, count))
    # With few seeds most drawings are repetitions: each is computed once.
    rows, times = np.unique(np.sort(drawn, axis=1), axis=0, return_counts=True)
    shares = [share(*(values[row] for values in series)) for row in rows]
    found = [(s, n) for s, n in zip(shares, times.tolist(), strict=True) if s is not None]
    if sum(n for _, n in found) < 0.95 * RESAMPLES:
        return None
    values = np.repeat([s for s, _ in found], [n for _, n in found])
    low, high = np.quantile(values, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return Interval(float(low), float(high))
