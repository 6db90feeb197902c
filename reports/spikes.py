"""Loss spikes, and where a divergence began: read off the losses of one run."""

from dataclasses import dataclass
from math import log, sqrt

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

WINDOW = 50  # steps before a step whose noise it is held against
NEAR = 20  # steps before it whose median it is held against: few, because the loss falls
LEAST = 10  # of them, to be held against at all
DEVIATIONS = 7.0  # as in OLMo 2's spike score
RISE = 2.0  # and at least this many times the median: seen without a magnifying glass
APART = 10  # steps: closer ones are one spike

RULE = (
    f"A spike is a step whose loss is at least {RISE:g} times the median of the {NEAR} steps "
    f"before and lies {DEVIATIONS:g} robust standard deviations of its noise above it, on a "
    f"logarithmic scale; the noise is judged by the changes from step to step in the {WINDOW} "
    f"steps before. Spikes closer than {APART} steps are one. Those after a divergence began are "
    "the divergence, and are not counted."
)


@dataclass(frozen=True)
class Series:
    """One value a step, as recorded: `steps` ascending, `values` perhaps not finite."""

    steps: npt.NDArray[np.int64]
    values: Array


def find_spikes(series: Series, before: int | None = None) -> tuple[int, ...]:
    """The step at which each spike of a positive series begins, up to step `before` exclusively.

    z = (ln x_t − m) / s, with m the median of ln x over the `NEAR` steps before t, and s the
    noise of ln x: 1.4826 times the median of |ln x_i − ln x_{i−1}| / √2 over the `WINDOW` steps
    before t, which a falling loss does not inflate. A spike has z > `DEVIATIONS` and
    x_t ≥ `RISE` e^m.

    Source: the seven standard deviations are those of the spike score in OLMo Team, 2 OLMo 2
    Furious, arXiv 2501.00656; medians and logarithm make them fit runs of a few hundred steps.
    """
    kept = np.isfinite(series.values) & (series.values > 0)
    if before is not None:
        kept &= series.steps < before
    steps, values = series.steps[kept], np.log(series.values[kept])
    if len(values) <= LEAST:
        return ()
    middle = _trailing_median(values, NEAR)[LEAST:]
    changes = np.abs(np.diff(values, prepend=np.nan))
    noise = 1.4826 / sqrt(2) * _trailing_median(changes, WINDOW)[LEAST:]
    rise = values[LEAST:] - middle
    high = steps[LEAST:][(rise > DEVIATIONS * noise) & (rise >= log(RISE))]
    first = np.diff(high, prepend=-APART - 1) > APART
    return tuple(int(step) for step in high[first])


def _trailing_median(values: Array, window: int) -> Array:
    """At each place t the median of the up to `window` finite values before it; NaN at the first.

    All the places from `LEAST` on have at least `LEAST` − 1 of them.
    """
    padded = np.concatenate([np.full(window, np.nan), values[:-1]])
    windows = np.lib.stride_tricks.sliding_window_view(padded, window)
    found = np.full(len(values), np.nan)
    found[2:] = np.nanmedian(windows[2:], axis=1)
    return found


def find_onset(series: Series, end: int) -> int:
    """The step at which a run that diverged at step `end` left for good.

    One after the last step whose loss was at most the first one; `end` if no loss was recorded.
    """
    finite = np.flatnonzero(np.isfinite(series.values))
    if not len(finite):
        return end
    level = series.values[finite[0]]
    with np.errstate(invalid="ignore"):
        good = np.flatnonzero(series.values <= level)
    return min(int(series.steps[good[-1]]) + 1, end)


def has_learned(losses: list[Series]) -> bool | None:
    """Whether the last quarter of the losses lies below the first; None if nothing was recorded.

    A one-sided Mann–Whitney test over the finite losses of all the runs at the 1 % level.

    Source: Mann and Whitney, Ann. Math. Stat. 18 (1947) 50, as scipy computes it.
    """
    from scipy.stats import mannwhitneyu

    kept = [s.values[np.isfinite(s.values)] for s in losses]
    kept = [values for values in kept if len(values) >= 2]
    if not kept:
        return None
    quarters = [max(1, len(values) // 4) for values in kept]
    first = np.concatenate([v[:q] for v, q in zip(kept, quarters, strict=True)])
    last = np.concatenate([v[-q:] for v, q in zip(kept, quarters, strict=True)])
    return bool(mannwhitneyu(last, first, alternative="less").pvalue < 0.01)
