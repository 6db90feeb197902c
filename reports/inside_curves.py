"""The gradient norm over time, and how far Shampoo's stored roots are from the exact ones."""

from collections import defaultdict
from statistics import median

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from .bands import last_step, make_bands, thin
from .drawing import SERIES, Figure, draw_svg
from .inside import rows_of
from .inside_weights import label_ends
from .study import Study

SIZE = (390.0, 240.0)
POINTS, ROWS = 100, 8


def draw_gradients(study: Study, optimizer: str) -> Figure | None:
    """The gradient norm of every column: median over the seeds, and their range."""
    last = last_step(study)
    window = max(1, -(-last // POINTS))
    bands = make_bands(study, optimizer, "metrics", "grad_norm", last, window)
    if not bands:
        return None

    def paint(axes: Axes) -> None:
        ends = []
        for band in bands:
            colour = SERIES[study.columns.index(band.column) % len(SERIES)]
            axes.fill_between(
                band.steps, band.low, band.high, color=colour, alpha=0.18, linewidth=0
            )
            axes.plot(band.steps, band.middle, color=colour, linewidth=1.4)
            ends.append((band.column, float(band.middle[-1]), colour))
        if all((band.low > 0).all() for band in bands):
            _log_axis(axes)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel("step")
        label_ends(axes, ends)

    title = f"Gradient norm, {optimizer}"
    told = [f"{b.column} {b.middle[0]:.3g} to {b.middle[-1]:.3g}" for b in bands]
    alt = f"Median over the seeds from the first to the last point: {'; '.join(told)}."
    header = ("Column", "Step", "Median", "Min", "Max")
    table = tuple(
        (b.column, f"{b.steps[k]:.0f}", *(f"{v[k]:.4g}" for v in (b.middle, b.low, b.high)))
        for b in bands
        for k in thin(b, ROWS)
    )
    name = f"gradient-norm-{optimizer}"
    return Figure(name, title, alt, draw_svg(name, title, alt, SIZE, paint), header, table)


def draw_roots(study: Study, optimizer: str) -> list[Figure]:
    """NRE and AE of Shampoo's roots: the median over sides and seeds, by column."""
    kinds = (
        ("nre", "Relative error (NRE) of the stored roots", "{:.3f}"),
        ("ae_degrees", "Angle (AE) between stored and exact roots, degrees", "{:.2f}"),
    )
    figures = (_draw_error(study, optimizer, *kind) for kind in kinds)
    return [figure for figure in figures if figure is not None]


def _draw_error(study: Study, optimizer: str, key: str, what: str, form: str) -> Figure | None:
    series = {
        column: points
        for column in study.columns
        if (points := _medians(study, optimizer, column, key))
    }
    if not series:
        return None

    def paint(axes: Axes) -> None:
        ends = []
        for column, points in series.items():
            colour = SERIES[study.columns.index(column) % len(SERIES)]
            steps, middles = [p[0] for p in points], [p[1] for p in points]
            axes.plot(steps, middles, color=colour, linewidth=1.4, marker="o", markersize=3)
            axes.plot(steps, [p[2] for p in points], color=colour, linewidth=1.2,
                      linestyle=(0, (1, 1.5)))  # fmt: skip
            ends.append((column, middles[-1], colour))
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel("step (dotted: the worst side)")
        label_ends(axes, ends)

    title = f"{what}, {optimizer}"
    told = [
        f"{c} {form.format(p[-1][1])}, at worst {form.format(p[-1][2])}" for c, p in series.items()
    ]
    alt = f"Median over sides and seeds at the last renewal: {'; '.join(told)}."
    table = tuple(
        (column, str(step), form.format(middle), form.format(worst))
        for column, points in series.items()
        for step, middle, worst in points
    )
    name = f"{key.replace('_', '-')}-{optimizer}"
    svg = draw_svg(name, title, alt, SIZE, paint)
    return Figure(name, title, alt, svg, ("Column", "Step", "Median", "Worst side"), table)


def _medians(study: Study, optimizer: str, column: str, key: str) -> list[tuple[int, float, float]]:
    """(step, median, largest) over all sides and seeds."""
    found: dict[int, list[float]] = defaultdict(list)
    for row in rows_of(study, "preconditioners", optimizer, column):
        if row[key] is not None:
            found[row["step"]].append(row[key])
    return [(step, median(values), max(values)) for step, values in sorted(found.items())]


def _log_axis(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
