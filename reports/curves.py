"""Loss and quality against the step: a figure for each optimizer, a seed band for each column."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from .bands import Band, last_step, make_bands, thin
from .drawing import MUTED, SERIES, Figure, Paint, Spot, draw_svg, spread_labels
from .rules import REFERENCE
from .segments import SCHEMAS
from .study import Study
from .verdict import VerdictRow, badness
from .wording import quality

SIZE = (390.0, 260.0)
POINTS = 100  # at most this many points a curve; each averages the steps between
SPOTS = 20  # at most this many points of a curve show their value under the pointer
ROWS = 8  # at most this many steps in the table behind a curve
HEADROOM = 2.0  # a loss axis ends at this many times the first loss: divergence leaves the frame


def drawn_columns(rows: Sequence[VerdictRow], optimizer: str) -> tuple[str, ...]:
    """All columns, as long as each has a colour; else the reference and those that do worst."""
    own = [row for row in rows if row.optimizer == optimizer]
    if len(own) <= len(SERIES):
        return tuple(row.column for row in own)
    worst = sorted((row for row in own if row.verdict != REFERENCE), key=badness, reverse=True)
    kept = {row.column for row in worst[: len(SERIES) - 1]}
    return tuple(row.column for row in own if row.verdict == REFERENCE or row.column in kept)


def draw_losses(study: Study, optimizer: str, columns: tuple[str, ...]) -> Figure | None:
    """The training loss over all steps."""
    last = last_step(study)
    window = max(1, -(-last // POINTS))
    title = "Training loss" if window == 1 else f"Training loss, mean of {window} steps"
    title = f"{title}, {optimizer}{_some(study, columns)}"
    return _draw_loss(study, optimizer, columns, title, "loss", last, window)


def draw_early_losses(study: Study, optimizer: str, columns: tuple[str, ...]) -> Figure | None:
    """The training loss over the first sixth of the steps (at least 25), step by step."""
    last = min(last_step(study), max(25, last_step(study) // 6))
    title = f"Training loss, first {last} steps, {optimizer}{_some(study, columns)}"
    return _draw_loss(study, optimizer, columns, title, "early", last, 1)


def draw_qualities(study: Study, optimizer: str, columns: tuple[str, ...]) -> Figure | None:
    """The test metric at each evaluation."""
    metric = study.facts.metric
    if metric not in SCHEMAS["evaluations"].names:
        return None
    last = last_step(study)
    bands = make_bands(study, optimizer, "evaluations", metric, last, columns=columns)

    def paint(axes: Axes) -> list[Spot]:
        _paint_bands(axes, bands, columns)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: quality(metric, y)))
        _label_bands(axes, bands, columns)
        return _spots(axes, bands, metric)

    title = f"{metric.replace('_', ' ').capitalize()}, {optimizer}{_some(study, columns)}"
    return _make_figure(f"quality-{optimizer}", title, bands, paint, metric)


def _some(study: Study, columns: tuple[str, ...]) -> str:
    """What a title says where not every column is drawn."""
    others = len(columns) - 1
    few = len(columns) < len(study.columns)
    return f": reference and worst {others} of {len(study.columns) - 1}" if few else ""


def _draw_loss(
    study: Study,
    optimizer: str,
    columns: tuple[str, ...],
    title: str,
    name: str,
    last: int,
    window: int,
) -> Figure | None:
    """The training loss up to step `last`."""
    bands = make_bands(study, optimizer, "metrics", "loss", last, window, columns)

    def paint(axes: Axes) -> list[Spot]:
        _paint_bands(axes, bands, columns)
        _scale_loss(axes, bands)
        _label_bands(axes, bands, columns)
        return _spots(axes, bands, "loss")

    return _make_figure(f"{name}-{optimizer}", title, bands, paint, "loss")


def _make_figure(
    name: str, title: str, bands: list[Band], paint: Paint, metric: str
) -> Figure | None:
    """The figure with its description and its table; None if nothing was recorded."""
    if not bands:
        return None
    ends = [
        f"{b.column} {quality(metric, b.middle[0])} to {quality(metric, b.middle[-1])}"
        + (f", {len(b.stops)} diverged" if b.stops else "")
        for b in bands
    ]
    alt = f"Median over the seeds from the first to the last point: {'; '.join(ends)}."
    rows = tuple(
        (
            band.column,
            f"{band.steps[k]:.0f}",
            *(quality(metric, float(v[k])) for v in (band.middle, band.low, band.high)),
        )
        for band in bands
        for k in thin(band, ROWS)
    )
    svg = draw_svg(name, title, alt, SIZE, paint)
    return Figure(name, title, alt, svg, ("Column", "Step", "Median", "Min", "Max"), rows)


def _spots(axes: Axes, bands: list[Band], metric: str) -> list[Spot]:
    """The values of the curves at a few steps, for the pointer."""
    low, high = axes.get_ylim()
    return [
        Spot(
            float(band.steps[k]),
            float(band.middle[k]),
            f"{band.column}, step {band.steps[k]:.0f}: {quality(metric, float(band.middle[k]))} "
            f"({quality(metric, float(band.low[k]))} to {quality(metric, float(band.high[k]))})",
        )
        for band in bands
        for k in thin(band, SPOTS)
        if low <= band.middle[k] <= high
    ]


def _paint_bands(axes: Axes, bands: list[Band], columns: tuple[str, ...]) -> None:
    """The bands, the reference's on top of the others' shading."""
    for band in bands:
        colour = _colour(band, columns)
        axes.fill_between(band.steps, band.low, band.high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(band.steps, band.middle, color=colour, linewidth=1.4)
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.margins(x=0.01)


def _scale_loss(axes: Axes, bands: list[Band]) -> None:
    """An axis that a diverging loss leaves, logarithmic if the losses span a factor of ten."""
    first = max(float(band.middle[0]) for band in bands)
    top = min(HEADROOM * first, 1.05 * max(float(band.high.max()) for band in bands))
    bottom = min(float(band.low.min()) for band in bands)
    if 0 < 10 * bottom < top:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.set_ylim(0.9 * bottom, top if top > bottom else None)


def _label_bands(axes: Axes, bands: list[Band], columns: tuple[str, ...]) -> None:
    """Each column's name beside the end of its curve, and a cross where a run diverged."""
    low, high = axes.get_ylim()
    heights = []
    for band in bands:
        end = min(max(float(band.middle[-1]), low), high)
        heights.append(axes.transAxes.inverted().transform(axes.transData.transform((0, end)))[1])
        for step, value in band.stops:
            axes.plot(
                step,
                min(max(value, low), high),
                marker="X",
                markersize=6.5,
                clip_on=False,
                color=_colour(band, columns),
                markeredgewidth=0,
                zorder=5,
            )
    placed = spread_labels([float(h) for h in heights], 0.08, 0.03)
    for band, height in zip(bands, placed, strict=True):
        axes.plot(
            [1.02, 1.06],
            [height] * 2,
            transform=axes.transAxes,
            clip_on=False,
            linewidth=2.2,
            color=_colour(band, columns),
        )
        axes.text(1.075, height, band.column, transform=axes.transAxes, va="center", fontsize=10)
    axes.tick_params(colors=MUTED)


def _colour(band: Band, columns: tuple[str, ...]) -> str:
    """The column's colour, the same in every figure of the study."""
    return SERIES[columns.index(band.column) % len(SERIES)]
