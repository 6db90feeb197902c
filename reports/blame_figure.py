"""Who is to blame, drawn: the share explained by putting a part back, and caused by it alone."""

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from .blame_record import BlameRecord, BlameRow
from .blame_words import conclude, percent, percent_range
from .drawing import INK, MUTED, SERIES, Figure, draw_svg

WIDTH, ROW, FRAME = 470.0, 21.0, 62.0  # points
#: The axis: shares beyond are drawn at its ends.
LOW, HIGH = -0.25, 1.25
EXPLAINED, ALONE = SERIES[1], SERIES[2]


def draw_blame(blame: BlameRecord) -> Figure:
    """A line for each suspect: a disc and its interval for explained, a square for alone."""
    rows = blame.rows

    def paint(axes: Axes) -> None:
        axes.axvline(0, color=MUTED, linewidth=0.8)
        axes.axvline(1, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        for y, row in enumerate(rows):
            _paint(axes, y - 0.14, row.explained, row.explained_interval, EXPLAINED, "o")
            _paint(axes, y + 0.18, row.alone, row.alone_interval, ALONE, "s")
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(LOW - 0.03, HIGH + 0.03)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: percent(x)))
        axes.set_xlabel("share of the gap (● explained by putting it back, ■ caused alone)")

    what = f"{blame.optimizer} on {blame.column}"
    title = f"Who is to blame: {what}"
    told = "; ".join(f"{r.name} {percent(r.explained)}, alone {percent(r.alone)}" for r in rows)
    alt = f"{conclude(blame)}. Explained, and caused alone: {told}."
    header = (
        "Part",
        "What",
        "Explained",
        "90 % interval",
        "Alone",
        "90 % interval",
        "Of the final",
    )
    name = f"blame-{blame.optimizer}-{blame.column}"
    svg = draw_svg(name, title, alt, (WIDTH, FRAME + ROW * len(rows)), paint)
    return Figure(name, title, alt, svg, header, tuple(_cells(row) for row in rows))


def _paint(
    axes: Axes, y: float, share: float | None, interval: tuple[float, float] | None, colour: str,
    marker: str,
) -> None:  # fmt: skip
    if share is None:
        return
    if interval is not None:
        ends = [min(max(end, LOW), HIGH) for end in interval]
        axes.plot(ends, [y, y], color=colour, linewidth=1.6)
    place = min(max(share, LOW), HIGH)
    beyond = {LOW: "<", HIGH: ">"}.get(place, marker)
    axes.plot(place, y, beyond, color=colour, markersize=5.5)


def _cells(row: BlameRow) -> tuple[str, ...]:
    return (
        row.name,
        row.title,
        percent(row.explained),
        percent_range(row.explained_interval),
        percent(row.alone),
        percent_range(row.alone_interval),
        percent(row.final_explained),
    )
