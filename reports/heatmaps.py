"""What rounding did, as a picture: a cell for each column with its format, and each role."""

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from .drawing import INK, SERIES, Figure, draw_svg
from .traces import TraceRow
from .wording import decibels, share

ROLES = ("weight", "activation", "gradient")
WIDTH, ROW, FRAME = 390.0, 24.0, 36.0  # points
DARKEST = 0.6  # opacity at which both light and dark text stays readable


def draw_heatmaps(rows: Sequence[TraceRow]) -> list[Figure]:
    """Underflow, saturation and signal-to-noise ratio of the operands of matrix products."""
    operands = [row for row in rows if row.role in ROLES]
    if not operands:
        return []
    return [
        _draw_heatmap(
            "underflow",
            "Underflow: operands rounded to zero",
            operands,
            lambda row: share(row.underflow),
            lambda row: row.underflow**0.5,
        ),
        _draw_heatmap(
            "saturation",
            "Saturation: operands clipped to the largest value",
            operands,
            lambda row: share(row.saturated),
            lambda row: row.saturated**0.5,
        ),
        _draw_heatmap(
            "sqnr",
            "Signal over rounding noise, in dB",
            operands,
            lambda row: decibels(row.sqnr_db),
            _noisiness,
        ),
    ]


def _noisiness(row: TraceRow) -> float:
    """0 at 60 dB and over, 1 at 0 dB and under."""
    return 0.0 if row.sqnr_db is None else min(max(1 - row.sqnr_db / 60, 0.0), 1.0)


def _draw_heatmap(
    name: str,
    title: str,
    operands: Sequence[TraceRow],
    text: Callable[[TraceRow], str],
    depth: Callable[[TraceRow], float],
) -> Figure:
    """One table of coloured cells; the number stands in each, so colour only helps the eye."""
    lines = list(dict.fromkeys((row.column, row.format) for row in operands))
    cells = {((row.column, row.format), row.role): row for row in operands}

    def paint(axes: Axes) -> None:
        for (line, role), row in cells.items():
            x, y = ROLES.index(role), lines.index(line)
            axes.add_patch(
                Rectangle(
                    (x - 0.48, y - 0.45),
                    0.96,
                    0.9,
                    facecolor=SERIES[2],
                    alpha=DARKEST * depth(row),
                    linewidth=0,
                )
            )
            axes.text(x, y, text(row), ha="center", va="center", fontsize=10)
        axes.set_xticks(range(len(ROLES)), ROLES)
        axes.set_yticks(range(len(lines)), [f"{column} · {form}" for column, form in lines])
        axes.set_xlim(-0.5, len(ROLES) - 0.5)
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.tick_params(labelcolor=INK, top=False, labeltop=True, bottom=False, labelbottom=False)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)

    texts = [f"{r.column} {r.format} {r.role} {text(r)}" for r in operands]
    alt = f"{title}. {'; '.join(texts)}."
    table = tuple(
        (
            column,
            form,
            *(text(r) if (r := cells.get(((column, form), role))) else "–" for role in ROLES),
        )
        for column, form in lines
    )
    svg = draw_svg(name, title, alt, (WIDTH, FRAME + ROW * len(lines)), paint)
    return Figure(name, title, alt, svg, ("Column", "Format", *map(str.capitalize, ROLES)), table)
