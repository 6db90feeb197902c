"""How the magnitudes of weights are distributed, and whether they are log-normal."""

from collections import Counter
from dataclasses import dataclass
from math import exp, log, pi, sqrt
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from .drawing import INK, MUTED, SERIES, Figure, draw_svg, spread_labels
from .inside import Array, rows_of
from .study import Study

SIZE = (390.0, 240.0)
#: Bins of the recorded histograms in one octave.
BINS = 4
#: Of a distribution, the times that are drawn; of the distances, parameters with fewer weights
#: are left out: their distribution says little.
TIMES, LEAST = 3, 256
#: The axis reaches so many deviations of ln |w| to both sides.
REACH = 4.0
#: sup |F − Φ| of ln |w| of weights that are normally distributed, as most start.
GAUSSIAN = 0.0964


@dataclass(frozen=True)
class Distribution:
    """The histogram of one parameter at one step, all seeds together: density by octave.

    places: log2 |w| at the middle of each bin. mean, std: of ln |w|.
    """

    step: int
    places: Array
    density: Array
    mean: float
    std: float
    ks: float


def draw_weights(study: Study, optimizer: str, column: str) -> Figure | None:
    """The largest parameter's distribution at the start, halfway and at the end, with the fit."""
    rows = rows_of(study, "weights", optimizer, column)
    if not rows:
        return None
    parameter = max(rows, key=lambda row: (row["values"], row["parameter"]))["parameter"]
    own = [row for row in rows if row["parameter"] == parameter]
    steps = sorted({row["step"] for row in own})
    chosen = sorted({steps[int(k)] for k in np.linspace(0, len(steps) - 1, TIMES).round()})
    found = [d for step in chosen if (d := _distribution(step, own))]
    if not found:
        return None
    last = found[-1]

    def paint(axes: Axes) -> None:
        for k, one in enumerate(found):
            colour = SERIES[1] if one is last else MUTED
            alpha = 1.0 if one is last else 0.45 + 0.3 * k
            axes.plot(one.places, one.density, color=colour, linewidth=1.5, alpha=alpha)
        middle, reach = last.mean / log(2), REACH * last.std / log(2)
        grid = np.linspace(middle - reach, middle + reach, 200)
        axes.plot(grid, _fit(last, grid), color=SERIES[2], linewidth=1.3, linestyle=(0, (4, 2)))
        _label_lines(axes, found, last)
        axes.set_xlabel("|w|")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"2^{x:.0f}".replace("-", "−")))
        axes.set_ylabel("share of weights per octave")
        axes.set_xlim(middle - reach, middle + reach)
        axes.set_ylim(bottom=0)

    title = f"Weights of {parameter}: {optimizer} on {column}"
    alt = (
        f"Distribution of the magnitude at steps {', '.join(str(d.step) for d in found)}, on a "
        f"logarithmic axis, beside the log-normal fit of the last: distance {last.ks:.3f}."
    )
    header = ("Step", "Median of |w|", "Deviation of ln|w|", "Distance to log-normal")
    table = tuple((str(d.step), f"{exp(d.mean):.3g}", f"{d.std:.2f}", f"{d.ks:.3f}") for d in found)
    name = f"weights-{optimizer}-{column}"
    return Figure(name, title, alt, draw_svg(name, title, alt, SIZE, paint), header, table)


def draw_distances(study: Study, optimizer: str) -> Figure | None:
    """The distance of ln |w| to a normal distribution over time: mean over all weights."""
    series = {
        column: found
        for column in study.columns
        if (found := _distances(rows_of(study, "weights", optimizer, column)))
    }
    if not series:
        return None

    def paint(axes: Axes) -> None:
        axes.axhline(GAUSSIAN, color=MUTED, linewidth=1.0, linestyle=(0, (2, 2)))
        ends = []
        for column, points in series.items():
            colour = SERIES[study.columns.index(column) % len(SERIES)]
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, color=colour, linewidth=1.5, marker="o", markersize=3)
            ends.append((column, values[-1], colour))
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel("step (dotted: normally distributed weights)")
        label_ends(axes, ends)

    title = f"Distance of the weights to log-normal, {optimizer}"
    told = [f"{c} {p[0][1]:.3f} to {p[-1][1]:.3f}" for c, p in series.items()]
    alt = (
        f"Kolmogorov-Smirnov distance of ln|w| to its normal fit, mean over the weights, from the "
        f"first to the last step: {'; '.join(told)}. Normally distributed weights have {GAUSSIAN}."
    )
    table = tuple(
        (c, str(step), f"{ks:.4f}") for c, points in series.items() for step, ks in points
    )
    name = f"lognormal-{optimizer}"
    svg = draw_svg(name, title, alt, SIZE, paint)
    return Figure(name, title, alt, svg, ("Column", "Step", "Distance"), table)


def label_ends(axes: Axes, ends: list[tuple[str, float, str]]) -> None:
    """Each name beside the end of its line."""
    inside = axes.transData + axes.transAxes.inverted()
    heights = [float(inside.transform((0, value))[1]) for _, value, _ in ends]
    places = spread_labels(heights, 0.08, 0.03)
    for (name, _, colour), height in zip(ends, places, strict=True):
        axes.plot([1.02, 1.06], [height] * 2, transform=axes.transAxes, clip_on=False,
                  linewidth=2.2, color=colour)  # fmt: skip
        axes.text(1.075, height, name, transform=axes.transAxes, va="center", fontsize=10)


def _distribution(step: int, rows: list[dict[str, Any]]) -> Distribution | None:
    """All seeds' weights of one parameter at one step."""
    own = [row for row in rows if row["step"] == step and row["std_ln"]]
    total: Counter[int] = Counter()
    for row in own:
        total.update(dict(zip(row["bins"], row["counts"], strict=True)))
    if not total:
        return None
    bins = np.arange(min(total) - 1, max(total) + 2)
    counts = np.array([total[int(k)] for k in bins], np.float64)
    logs = [row["mean_ln"] for row in own]
    return Distribution(
        step=step,
        places=(bins + 0.5) / BINS,
        density=counts / counts.sum() * BINS,
        mean=float(np.mean(logs)),
        std=float(np.sqrt(np.mean([row["std_ln"] ** 2 for row in own]))),
        ks=float(np.mean([row["ks"] for row in own])),
    )


def _fit(one: Distribution, places: Array) -> Array:
    """The normal density of ln |w|, an octave wide."""
    z = (places * log(2) - one.mean) / one.std
    fitted: Array = np.exp(-z * z / 2) / (one.std * sqrt(2 * pi)) * log(2)
    return fitted


def _label_lines(axes: Axes, found: list[Distribution], last: Distribution) -> None:
    lines = [(f"step {d.step}", SERIES[1] if d is last else MUTED, "-") for d in found]
    lines.append((f"log-normal, distance {last.ks:.3f}", SERIES[2], "--"))
    for k, (text, colour, style) in enumerate(lines):
        height = 0.95 - 0.085 * k
        axes.plot([0.02, 0.06], [height] * 2, transform=axes.transAxes, color=colour,
                  linestyle=style, linewidth=1.6)  # fmt: skip
        axes.text(0.08, height, text, transform=axes.transAxes, va="center", fontsize=10, color=INK)


def _distances(rows: list[dict[str, Any]]) -> list[tuple[int, float]]:
    """(step, mean of ks over the weights of all larger parameters and seeds)."""
    steps = sorted({row["step"] for row in rows})
    points = []
    for step in steps:
        own = [
            row for row in rows
            if row["step"] == step and row["ks"] is not None and row["values"] >= LEAST
        ]  # fmt: skip
        if own:
            weights = [row["values"] for row in own]
            points.append((step, float(np.average([row["ks"] for row in own], weights=weights))))
    return points
