"""The gap over what a sweep varied: rounding by accumulation order by format, a cell a column."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from .drawing import INK, MUTED, SERIES, VERDICTS, Figure, Spot, draw_svg
from .rules import REFERENCE
from .study import Study
from .verdict import VerdictRow
from .wording import gap, lower_is_better

CELL, ROW, LABELS, FRAME = 62.0, 30.0, 110.0, 52.0  # points
WIDEST = 9  # cells side by side, before facets stand below each other
DEEPEST = 0.6  # opacity at which both light and dark text stays readable
FULL = 3.0  # tolerances at which a cell has its full colour
BETTER, WORSE = SERIES[1], SERIES[2]
MARKS = {"STABLE": "✓", "AT RISK": "!", "UNSTABLE": "✕", "INCONCLUSIVE": "?"}

LEGEND = (
    "Each cell is a column of the study: its mean gap to the reference and the verdict's sign (✓ "
    "stable, ! at risk, ✕ unstable, ? inconclusive). Blue is better than the reference, orange "
    f"worse, at full strength from {FULL:g} tolerances on. An empty cell was not run."
)


@dataclass(frozen=True)
class Plane:
    """Two axes drawn against each other, one facet for every combination of the rest.

    cells: verdict row by (facet, line, place), as indices.
    """

    down: str
    across: str
    lines: tuple[str, ...]
    places: tuple[str, ...]
    facets: tuple[str, ...]
    cells: dict[tuple[int, int, int], VerdictRow]


def draw_grids(study: Study, rows: Sequence[VerdictRow]) -> list[Figure]:
    """A figure for each optimizer and sweep; columns outside of sweeps against the optimizers."""
    swept = [row for row in rows if len(row.axes) > 1 and row.verdict != REFERENCE]
    figures = []
    for axes in dict.fromkeys(tuple(row.axes) for row in swept):
        for optimizer in study.optimizers:
            own = [row for row in swept if tuple(row.axes) == axes and row.optimizer == optimizer]
            if own:
                name = f"grid-{'-'.join(axes)}-{optimizer}"
                title = f"Gap by {', '.join(map(_words, axes))}: {optimizer}"
                figures.append(_draw(study, name, title, make_plane(own, axes)))
    rest = [row for row in rows if len(row.axes) <= 1 and row.verdict != REFERENCE]
    if len({row.column for row in rest}) > 1:
        columns, optimizers = (tuple(dict.fromkeys(x)) for x in zip(
            *((row.column, row.optimizer) for row in rest), strict=True))  # fmt: skip
        cells = {(0, columns.index(r.column), optimizers.index(r.optimizer)): r for r in rest}
        plane = Plane("column", "optimizer", columns, optimizers, ("",), cells)
        figures.append(_draw(study, "grid-columns", "Gap by column and optimizer", plane))
    return figures


def make_plane(rows: Sequence[VerdictRow], axes: Sequence[str]) -> Plane:
    """The two axes with the most values against each other, the others as facets.

    Where two columns stand at one place, the later is drawn.
    """
    values = {a: tuple(dict.fromkeys(row.axes[a] for row in rows)) for a in axes}
    order = sorted(axes, key=lambda axis: -len(values[axis]))
    down, across, rest = order[0], order[1], [a for a in axes if a in order[2:]]
    combinations = list(product(*(values[axis] for axis in rest)))
    cells = {
        (
            combinations.index(tuple(row.axes[axis] for axis in rest)),
            values[down].index(row.axes[down]),
            values[across].index(row.axes[across]),
        ): row
        for row in rows
    }
    used = sorted({facet for facet, _, _ in cells})
    facets = tuple(
        ", ".join(f"{_words(a)} {v}" for a, v in zip(rest, combinations[k], strict=True))
        for k in used
    )
    cells = {(used.index(facet), i, j): row for (facet, i, j), row in cells.items()}
    return Plane(down, across, values[down], values[across], facets, cells)


def _draw(study: Study, name: str, title: str, plane: Plane) -> Figure:
    """The facets beside each other as long as they fit, then below."""
    metric, tolerance = study.facts.metric, study.facts.tolerance
    a_row = max(1, (WIDEST + 1) // (len(plane.places) + 1))
    across = min(a_row, len(plane.facets))
    down = -(-len(plane.facets) // a_row)
    wide, high = len(plane.places) + 0.4, len(plane.lines) + 1.2

    def corner(facet: int) -> tuple[float, float]:
        return facet % a_row * wide, facet // a_row * high

    def paint(axes: Axes) -> list[Spot]:
        for facet, label in enumerate(plane.facets):
            x, y = corner(facet)
            axes.text(x - 0.5, y - 0.82, label, fontsize=10, color=INK, va="bottom", weight="bold")
            for k, place in enumerate(plane.places):
                text = _broken(place)
                axes.text(x + k, y - 0.55, text, ha="center", va="bottom", fontsize=9, color=MUTED)
            for i in range(len(plane.lines)):
                for j in range(len(plane.places)):
                    row = plane.cells.get((facet, i, j))
                    _paint_cell(axes, x + j, y + i, row, study)
        lines = [(corner(f)[1] + i, t) for f in range(0, len(plane.facets), a_row)
                 for i, t in enumerate(plane.lines)]  # fmt: skip
        axes.set_yticks([y for y, _ in lines], [t for _, t in lines])
        axes.set_xlim(-0.5, across * wide - 0.9)
        axes.set_ylim(down * high - 1.7, -1.3)
        axes.set_xticks([])
        axes.tick_params(labelcolor=INK)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        return [
            Spot(x + j, y + i, _told(row, metric), 0.94, 0.9)
            for (facet, i, j), row in plane.cells.items()
            for x, y in [corner(facet)]
        ]

    texts = [_told(row, metric) for row in plane.cells.values()]
    alt = f"{title}, {plane.down} down, {plane.across} across. {'; '.join(texts)}."
    size = (LABELS + CELL * across * wide, FRAME + ROW * (down * high - 0.4))
    svg = draw_svg(name, title, alt, size, paint)
    header = ("Column", "Optimizer", *map(str.capitalize, _axes(plane)), "Gap", "Verdict")
    table = tuple(
        (
            row.column,
            row.optimizer,
            *(row.axes.get(axis, "–") for axis in _axes(plane)),
            gap(metric, row.gap) if row.gap is not None else _lost(row),
            row.verdict,
        )
        for row in plane.cells.values()
    )
    return Figure(name, f"{title} (tolerance {gap(metric, tolerance).lstrip('+')})", alt, svg,
                  header, table)  # fmt: skip


def _axes(plane: Plane) -> list[str]:
    """Every axis of the rows drawn."""
    return list(dict.fromkeys(axis for row in plane.cells.values() for axis in row.axes))


def _paint_cell(axes: Axes, x: float, y: float, row: VerdictRow | None, study: Study) -> None:
    """One cell: colour by the gap in tolerances, the gap and the verdict's sign in it."""
    corner, width, height = (x - 0.47, y - 0.45), 0.94, 0.9
    if row is None:
        frame = Rectangle(corner, width, height, fill=False, edgecolor=MUTED, linewidth=0.4)
        frame.set_linestyle((0, (2, 3)))
        axes.add_patch(frame)
        return
    colour, depth = _colour(row, study)
    axes.add_patch(Rectangle(corner, width, height, facecolor=colour, alpha=depth, linewidth=0))
    text = gap(study.facts.metric, row.gap) if row.gap is not None else _lost(row)
    axes.text(x, y, f"{MARKS.get(row.verdict, '')} {text}", ha="center", va="center", fontsize=9.5)


def _colour(row: VerdictRow, study: Study) -> tuple[str, float]:
    """The colour of a gap and how strong it is: full from `FULL` tolerances, or unstable."""
    if row.gap is None or row.verdict == "UNSTABLE":
        return (VERDICTS["INCONCLUSIVE"], 0.15) if not row.diverged else (WORSE, DEEPEST)
    worse = (row.gap > 0) == lower_is_better(study.facts.metric)
    size = abs(row.gap) / (FULL * study.facts.tolerance) if study.facts.tolerance else 1.0
    return WORSE if worse else BETTER, DEEPEST * min(size, 1.0) + 0.02


def _told(row: VerdictRow, metric: str) -> str:
    """A cell in words."""
    text = gap(metric, row.gap) if row.gap is not None else "no gap"
    lost = f", {_lost(row)}" if row.diverged else ""
    return f"{row.optimizer} on {row.column}: {text}{lost}, {row.verdict}"


def _lost(row: VerdictRow) -> str:
    return f"{row.diverged} of {row.runs} lost" if row.runs else "no run"


def _words(axis: str) -> str:
    return axis.replace("_", " ")


def _broken(text: str) -> str:
    """A long name in two lines, so that neighbours do not meet."""
    if len(text) <= 10:
        return text
    cut = next((k for k in range(len(text) // 2, len(text)) if text[k - 1] in "_-. "), None)
    return f"{text[:cut]}\n{text[cut:]}" if cut else text
