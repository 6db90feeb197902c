"""Recorded series as bands over the seeds: median, smallest and largest value a step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .runs import Run
from .study import Study

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Band:
    """One column's curve; every array holds one value for each of `steps`.

    middle, low, high: median, smallest and largest finite value over the seeds still running.
    stops: step and last finite value of each run that diverged.
    """

    column: str
    steps: Array
    middle: Array
    low: Array
    high: Array
    stops: tuple[tuple[float, float], ...]


def make_bands(
    study: Study,
    optimizer: str,
    kind: str,
    value: str,
    last: int,
    window: int = 1,
    columns: Sequence[str] | None = None,
) -> list[Band]:
    """A band for each column that recorded `value` up to step `last`.

    window: each point is the mean over this many steps of one seed, drawn at their middle.
    columns: those to look at; all of the study's if left out.
    """
    bands = [
        _make_band(column, study.select(optimizer, column), kind, value, last, window)
        for column in (study.columns if columns is None else columns)
    ]
    return [band for band in bands if len(band.steps)]


def last_step(study: Study) -> int:
    """The last step that any run recorded or reached."""
    return max((run.step for run in study.runs), default=0)


def thin(band: Band, rows: int) -> list[int]:
    """Indices of at most `rows` evenly spaced points of a band, the first and last among them."""
    return sorted({int(k) for k in np.linspace(0, len(band.steps) - 1, rows).round()})


def _make_band(column: str, runs: list[Run], kind: str, value: str, last: int, window: int) -> Band:
    """The band of one column over its runs."""
    series = [_average(run, kind, value, last, window) for run in runs]
    bins = np.unique(np.concatenate([np.empty(0, np.int64), *(b for b, _ in series)]))
    table = np.full((len(series), len(bins)), np.nan)
    for row, (own, values) in zip(table, series, strict=True):
        row[np.searchsorted(bins, own)] = values
    table, bins = _keep_shared(table, bins)
    stops = [_stop(run, kind, value, last) for run in runs if run.status == "diverged"]
    return Band(
        column=column,
        steps=(bins * window + (window - 1) / 2).astype(np.float64),
        middle=np.asarray([np.nanmedian(point) for point in table.T], dtype=np.float64),
        low=np.fmin.reduce(table, axis=0, initial=np.inf),
        high=np.fmax.reduce(table, axis=0, initial=-np.inf),
        stops=tuple(stop for stop in stops if stop),
    )


def _keep_shared(table: Array, bins: npt.NDArray[np.int64]) -> tuple[Array, npt.NDArray[np.int64]]:
    """The points that at least half of the runs still going have; table is (runs, points).

    A run that diverges records a last point between the others' points: alone it is no band.
    """
    there = np.isfinite(table)
    running = np.maximum.accumulate(there[:, ::-1], axis=1)[:, ::-1]
    shared = there.sum(axis=0) * 2 >= running.sum(axis=0)
    return table[:, shared], bins[shared]


def _average(
    run: Run, kind: str, value: str, last: int, window: int
) -> tuple[npt.NDArray[np.int64], Array]:
    """The finite values of one run, averaged in windows: the windows' numbers and the means."""
    steps, values = _finite(run, kind, value, last)
    bins, place = np.unique(steps // window, return_inverse=True)
    return bins, np.bincount(place, values) / np.bincount(place)


def _finite(run: Run, kind: str, value: str, last: int) -> tuple[npt.NDArray[np.int64], Array]:
    """Steps up to `last` and the values there, without NaN and infinities."""
    steps = run.series[kind]["step"].to_numpy()
    values = run.series[kind][value].to_numpy()
    keep = np.isfinite(values) & (steps <= last)
    return steps[keep], values[keep]


def _stop(run: Run, kind: str, value: str, last: int) -> tuple[float, float] | None:
    """Where a diverged run was last seen, if that is within `last` steps."""
    steps, values = _finite(run, kind, value, last)
    return (float(steps[-1]), float(values[-1])) if len(steps) and run.step <= last else None
