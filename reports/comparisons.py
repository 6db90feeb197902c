"""Final quality side by side: the gap to the reference, and rounding against rounding."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from .drawing import (
    GRID,
    INK,
    MUTED,
    SERIES,
    SHADE,
    VERDICTS,
    Figure,
    Paint,
    Spot,
    draw_svg,
)
from .records import Column
from .study import Study
from .verdict import VerdictRow, badness
from .wording import gap, lower_is_better, quality

WIDTH, ROW, FRAME = 440.0, 19.0, 64.0  # points
REACH = 8.0  # the gap axis ends this many tolerances away; what lies beyond is an arrow
MOST = 14  # lines of the picture on the first screen
MARKERS = {"STABLE": "o", "AT RISK": "^", "UNSTABLE": "X", "INCONCLUSIVE": "s"}


def draw_gaps(study: Study, rows: Sequence[VerdictRow]) -> Figure | None:
    """The mean gap to the reference with its 90 % interval, a line for each verdict."""
    judged = [row for row in rows if row.column != study.facts.reference]
    if not judged:
        return None
    worst = sorted(judged, key=badness, reverse=True)[:MOST]
    shown = [row for row in judged if row in worst]
    metric, tolerance = study.facts.metric, study.facts.tolerance
    limits = _gap_limits(shown, tolerance)

    def paint(axes: Axes) -> list[Spot]:
        axes.axvspan(-tolerance, tolerance, color=SHADE, linewidth=0)
        axes.axvline(0, color=MUTED, linewidth=0.8)
        for height, row in enumerate(shown):
            _paint_gap(axes, height, row, limits, metric)
        _finish_rows(axes, [f"{row.optimizer} · {row.column}" for row in shown])
        axes.set_xlim(*limits)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: gap(metric, x)))
        side = "left" if lower_is_better(metric) else "right"
        axes.set_xlabel(f"gap (better to the {side}; shaded: tolerance)")
        middle, span = sum(limits) / 2, limits[1] - limits[0]
        return [Spot(middle, k, texts[k], span, 1.0) for k in range(len(shown))]

    title = f"Gap of the final {metric.replace('_', ' ')} to {study.facts.reference}"
    if len(shown) < len(judged):
        title += f": the worst {len(shown)} of {len(judged)}"
    texts = [f"{r.optimizer} on {r.column} {gap(metric, r.gap)}, {r.verdict}" for r in shown]
    alt = f"Mean gap and verdict: {'; '.join(texts)}."
    header = ("Optimizer", "Column", "Gap", "Low", "High", "Verdict")
    table = tuple(
        (
            r.optimizer,
            r.column,
            *(gap(metric, v) for v in (r.gap, r.gap_low, r.gap_high)),
            r.verdict,
        )
        for r in shown
    )
    return Figure("gaps", title, alt, _draw("gaps", title, alt, len(shown), paint), header, table)


def draw_roundings(study: Study) -> list[Figure]:
    """For each chip and recipe with more than one rounding: every seed's final quality.

    Columns of a sweep are compared in heat maps instead.
    """
    families: dict[tuple[str, str], list[Column]] = {}
    for column in study.facts.columns:
        if len(column.axes) < 2:
            families.setdefault((column.chip, column.recipe), []).append(column)
    reference = study.facts.reference
    return [
        _draw_family(study, f"{chip}, {recipe}", family)
        for (chip, recipe), family in families.items()
        if len([c for c in family if c.name != reference]) > 1
    ]


def _draw_family(study: Study, what: str, family: list[Column]) -> Figure:
    """One chip and recipe: a line for each optimizer and rounding, a dot for each seed."""
    metric, reference = study.facts.metric, study.facts.reference
    names = [reference, *(c.name for c in family if c.name != reference)]
    lines = [(optimizer, name) for optimizer in study.optimizers for name in names]
    finals = {
        line: [v for run in study.select(*line) if (v := run.final(metric)) is not None]
        for line in lines
    }
    lost = {line: sum(r.status == "diverged" for r in study.select(*line)) for line in lines}

    def paint(axes: Axes) -> None:
        for height, line in enumerate(lines):
            colour = SERIES[study.columns.index(line[1]) % len(SERIES)]
            _paint_seeds(axes, height, finals[line], lost[line], colour)
            if line[1] == names[-1] and line != lines[-1]:
                axes.axhline(height + 0.5, color=GRID, linewidth=0.8)
        _finish_rows(axes, [f"{optimizer} · {name}" for optimizer, name in lines])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: quality(metric, x)))
        axes.set_xlabel(f"final {metric.replace('_', ' ')} (dot: a seed, bar: their mean)")

    title = f"Rounding compared: {what}"
    texts = [
        f"{o} on {c}: {', '.join(quality(metric, v) for v in finals[o, c]) or 'none finished'}"
        + (f", {lost[o, c]} diverged" if lost[o, c] else "")
        for o, c in lines
    ]
    alt = f"Final {metric.replace('_', ' ')} of each seed. {'; '.join(texts)}."
    name = f"rounding-{what.replace(', ', '-')}"
    header = ("Optimizer", "Column", "Rounding", "Seeds", "Mean", "Diverged")
    rounding = {
        c.name: str(c.override.get("rounding", "as in the recipe")) for c in study.facts.columns
    }
    table = tuple(
        (
            o,
            c,
            rounding[c],
            ", ".join(quality(metric, v) for v in finals[o, c]) or "–",
            quality(metric, _mean(finals[o, c])),
            str(lost[o, c]),
        )
        for o, c in lines
    )
    return Figure(name, title, alt, _draw(name, title, alt, len(lines), paint), header, table)


def _draw(name: str, title: str, alt: str, lines: int, paint: Paint) -> str:
    """A figure of so many text lines."""
    return draw_svg(name, title, alt, (WIDTH, FRAME + ROW * lines), paint)


def _paint_gap(
    axes: Axes, height: int, row: VerdictRow, limits: tuple[float, float], metric: str
) -> None:
    """One verdict: its interval and its mean, an arrow when the mean is off the axis."""
    colour = VERDICTS[row.verdict]
    _note_diverged(axes, height, row.diverged)
    if row.gap is None:
        text = "no run finished" if row.diverged else "nothing to compare"
        axes.annotate(
            text, (limits[0], height), (6, 0), textcoords="offset points", va="center", fontsize=10
        )
        return
    inside = limits[0] <= row.gap <= limits[1]
    if inside and row.gap_low is not None and row.gap_high is not None:
        axes.plot([row.gap_low, row.gap_high], [height] * 2, color=colour, linewidth=1.6)
    if inside:
        axes.plot(row.gap, height, MARKERS[row.verdict], color=colour, markersize=6)
        return
    edge, marker, side = (limits[0], "<", "left") if row.gap < 0 else (limits[1], ">", "right")
    axes.plot(edge, height, marker, color=colour, markersize=6, clip_on=False)
    axes.annotate(
        gap(metric, row.gap),
        (edge, height),
        (8 if side == "left" else -8, 0),
        textcoords="offset points",
        va="center",
        ha=side,
        fontsize=10,
    )


def _paint_seeds(axes: Axes, height: int, finals: list[float], diverged: int, colour: str) -> None:
    """One line of dots with the mean as a bar; diverged runs in words."""
    axes.plot(finals, [height] * len(finals), "o", color=colour, markersize=5, alpha=0.75)
    mean = _mean(finals)
    if mean is not None:
        axes.plot([mean] * 2, [height - 0.34, height + 0.34], color=colour, linewidth=1.8)
    _note_diverged(axes, height, diverged)


def _note_diverged(axes: Axes, height: int, diverged: int) -> None:
    """The number of diverged runs beside a line, where there are any."""
    if diverged:
        place = axes.get_yaxis_transform()
        axes.text(1.02, height, f"{diverged} diverged", va="center", fontsize=10, transform=place)


def _finish_rows(axes: Axes, labels: list[str]) -> None:
    """One labelled line below the other, the first on top."""
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5))


def _gap_limits(rows: Sequence[VerdictRow], tolerance: float) -> tuple[float, float]:
    """The axis: all intervals, but no further than `REACH` tolerances, and the tolerance band."""
    ends = [e for r in rows for e in (r.gap, r.gap_low, r.gap_high) if e is not None]
    low, high = min([*ends, 0.0]), max([*ends, 0.0])
    if tolerance > 0:
        low, high = max(low, -REACH * tolerance), min(high, REACH * tolerance)
    margin = 0.05 * (high - low) or 1.0
    return min(low, -1.3 * tolerance) - margin, max(high, 1.3 * tolerance) + margin


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
