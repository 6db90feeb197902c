"""Loss spikes, and where a divergence began: read off the losses of one run."""

from dataclasses import dataclass
from math import log

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

WINDOW = 50  # steps before a step that it is held against
LEAST = 10  # of them, to be held against at all
DEVIATIONS = 7.0  # as in OLMo 2's spike score
RISE = 1.5  # and at least this many times the window's median: seen without a magnifying glass
APART = 10  # steps: closer ones are one spike

RULE = (
    f"A spike is a step whose loss lies {DEVIATIONS:g} robust standard deviations (1.4826 times "
    f"the median absolute deviation) above the median of the {WINDOW} steps before, on a "
    f"logarithmic scale, and is at least {RISE:g} times that median. Spikes closer than {APART} steps are one. "
    "Those after a divergence began are the divergence, and are not counted."
)


@dataclass(frozen=True)
class Series:
    """One value a step, as recorded: `steps` ascending, `values` perhaps not finite."""

    steps: npt.NDArray[np.int64]
    values: Array


def find_spikes(series: Series, before: int | None = None) -> tuple[int, ...]:
    """The step at which each spike of a positive series begins, up to step `before` exclusively.

    z = (ln x_t − m) / 1.4826 median|ln x_i − m|, with m the median of ln x_i over the last
    `WINDOW` steps before t. A spike has z > `DEVIATIONS` and x_t ≥ `RISE` e^m.

    Source: the seven standard deviations are those of the spike score in OLMo Team, 2 OLMo 2
    Furious, arXiv 2501.00656; median and logarithm make them fit runs of a few hundred steps.
    """
    kept = np.isfinite(series.values) & (series.values > 0)
    if before is not None:
        kept &= series.steps < before
    steps, values = series.steps[kept], np.log(series.values[kept])
    if len(values) <= LEAST:
        return ()
    padded = np.concatenate([np.full(WINDOW, np.nan), values[:-1]])
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[LEAST:]
    middle = np.nanmedian(windows, axis=1)
    spread = 1.4826 * np.nanmedian(np.abs(windows - middle[:, None]), axis=1)
    rise = values[LEAST:] - middle
    high = steps[LEAST:][(rise > DEVIATIONS * spread) & (rise >= log(RISE))]
    first = np.diff(high, prepend=-APART - 1) > APART
    return tuple(int(step) for step in high[first])


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
