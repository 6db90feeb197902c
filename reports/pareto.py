"""What quality costs: each pair of optimizer and column against bits, bytes and time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log, log2

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from ..formats import InputError, get_format
from .decision import median_of, state_memory, total_memory
from .drawing import INK, MUTED, SERIES, VERDICTS, Figure, Spot, draw_svg
from .rules import COLLAPSE, REFERENCE, UNSTABLE
from .study import Study
from .traces import TraceRow
from .verdict import VerdictRow
from .wording import lower_is_better, quality, size_in_bytes

SIZE = (520.0, 260.0)
OPERANDS = ("weight", "activation", "gradient")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

LEGEND = (
    "A pair is on the front (filled, numbered, joined by the line) when no other is at least as "
    "good and at least as cheap, and better in one. It is judged on means, and an UNSTABLE pair is "
    "no candidate. "
    "Bits of operands: mean over the values that went into matrix products. Emulation: time of the "
    "simulator where it ran, which says nothing about the speed of the chip."
)


@dataclass(frozen=True)
class Cost:
    """A quantity to be kept small; `read` gives it for a pair, None where it was not recorded."""

    name: str
    title: str
    show: Callable[[float], str]


@dataclass(frozen=True)
class ParetoRow:
    """One pair of optimizer and column: its quality and what it costs.

    quality: mean final metric; low and high: over the seeds; None where no run finished.
    costs: by name, None where not recorded: operand_bits (mean bits of an operand of matrix
        products), memory_bytes, optimizer_state_bytes, emulated_seconds (for a step).
    front: the costs under which the pair is not dominated.
    """

    optimizer: str
    column: str
    verdict: str
    quality: float | None
    low: float | None
    high: float | None
    costs: dict[str, float | None]
    front: tuple[str, ...]


COSTS = (
    Cost("operand_bits", "bits of an operand of matrix products", lambda v: f"{v:.3g} bits"),
    Cost("memory_bytes", "memory of all roles", lambda v: size_in_bytes(round(v))),
    Cost("optimizer_state_bytes", "optimizer state", lambda v: size_in_bytes(round(v))),
    Cost("emulated_seconds", "time to emulate a step", lambda v: f"{v:.3g} s"),
)


def pareto_rows(
    study: Study, rows: Sequence[VerdictRow], trace: Sequence[TraceRow]
) -> list[ParetoRow]:
    """Every pair with its costs, and under which of them it is not dominated."""
    bits = {column: operand_bits(trace, column) for column in study.columns}
    found = [(row, _costs(study, row, bits[row.column])) for row in rows]
    sign = -1 if lower_is_better(study.facts.metric) else 1
    fronts: dict[int, list[str]] = {index: [] for index in range(len(found))}
    for cost in COSTS:
        points = {
            index: (price, sign * row.mean)
            for index, (row, costs) in enumerate(found)
            if (price := costs[cost.name]) is not None
            and row.mean is not None
            and row.verdict != UNSTABLE
        }
        for index in find_front(points):
            fronts[index].append(cost.name)
    return [
        ParetoRow(
            row.optimizer,
            row.column,
            row.verdict,
            row.mean,
            row.low,
            row.high,
            costs,
            tuple(fronts[index]),
        )
        for index, (row, costs) in enumerate(found)
    ]


def find_front(points: dict[int, tuple[float, float]]) -> list[int]:
    """The keys of the points (cost, quality) that no other dominates, the cheapest first.

    One point dominates another when it costs at most as much, is at least as good, and differs.
    """

    def dominated(cost: float, value: float) -> bool:
        return any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in points.values())

    kept = [key for key, (cost, value) in points.items() if not dominated(cost, value)]
    return sorted(kept, key=lambda key: points[key])


def operand_bits(trace: Sequence[TraceRow], column: str) -> float | None:
    """Mean bits of the values that went into matrix products; None if any format is unknown."""
    own = [row for row in trace if row.column == column and row.role in OPERANDS]
    values = sum(row.values for row in own)
    try:
        bits = sum(row.values * get_format(row.format).bits for row in own)
    except InputError:
        return None
    return bits / values if values else None


def draw_paretos(study: Study, rows: Sequence[ParetoRow]) -> list[Figure]:
    """A figure for each cost that tells the pairs apart."""
    figures = []
    for cost in COSTS:
        shown = [r for r in rows if r.quality is not None and r.costs[cost.name] is not None]
        if len({r.costs[cost.name] for r in shown}) > 1:
            figures.append(_draw(study, cost, shown))
    return figures


def _draw(study: Study, cost: Cost, rows: Sequence[ParetoRow]) -> Figure:
    """Cost across, quality up, the front joined and numbered."""
    metric = study.facts.metric
    points = [(float(r.costs[cost.name] or 0), float(r.quality or 0), r) for r in rows]
    points.sort(key=lambda point: point[:2])
    texts = [
        f"{r.optimizer} on {r.column}: {quality(metric, y)} at {cost.show(x)}, {r.verdict}"
        + (", on the front" if cost.name in r.front else "")
        for x, y, r in points
    ]
    low, high = _limits(study, [y for _, y, _ in points])

    def paint(axes: Axes) -> list[Spot]:
        front = [point for point in points if cost.name in point[2].front]
        axes.plot(
            [x for x, _, _ in front],
            [y for _, y, _ in front],
            color=MUTED,
            linewidth=0.9,
            drawstyle="steps-post",
        )
        for x, y, row in points:
            if low <= y <= high:
                _paint_point(axes, study, cost, (x, y), row)
        _scale(axes, cost, [x for x, _, _ in points])
        axes.margins(x=0.08)
        axes.set_ylim(*((high, low) if lower_is_better(metric) else (low, high)))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: quality(metric, y)))
        axes.set_xlabel(f"{cost.title} (cheaper to the left)")
        _name_front(axes, study, front)
        return [
            Spot(x, y, text)
            for (x, y, _), text in zip(points, texts, strict=True)
            if low <= y <= high
        ]

    title = f"{metric.replace('_', ' ').capitalize()} against {cost.title}"
    left = sum(not low <= y <= high for _, y, _ in points)
    if left:
        title += f" ({left} far worse left out)"
    alt = f"{title}. {'; '.join(texts)}."
    name = f"pareto-{cost.name.replace('_', '-')}"
    header = ("Optimizer", "Column", "Quality", cost.title.capitalize(), "Verdict", "Front")
    table = tuple(
        (
            r.optimizer,
            r.column,
            quality(metric, y),
            cost.show(x),
            r.verdict,
            "yes" if cost.name in r.front else "no",
        )
        for x, y, r in points
    )
    return Figure(name, title, alt, draw_svg(name, title, alt, SIZE, paint), header, table)


def _limits(study: Study, values: Sequence[float]) -> tuple[float, float]:
    """All values, as long as they are within `COLLAPSE` tolerances of the best."""
    low, high = min(values), max(values)
    reach = COLLAPSE * study.facts.tolerance
    if reach > 0 and lower_is_better(study.facts.metric):
        high = min(high, low + reach)
    elif reach > 0:
        low = max(low, high - reach)
    margin = 0.08 * (high - low) or 0.01
    return low - margin, high + margin


def _name_front(axes: Axes, study: Study, front: Sequence[tuple[float, float, ParetoRow]]) -> None:
    """A number beside each point of the front, and the names in the margin."""
    for number, (x, y, _) in enumerate(front, start=1):
        axes.annotate(
            str(number), (x, y), (-5, 6), textcoords="offset points", fontsize=9.5, ha="right"
        )
    names = [f"{n} {r.optimizer} · {r.column}" for n, (_, _, r) in enumerate(front, start=1)]
    place = axes.transAxes
    axes.text(1.04, 1.0, "on the front", fontsize=9.5, color=MUTED, va="top", transform=place)
    for line, name in enumerate(names, start=1):
        axes.text(1.04, 1.0 - 0.07 * line, name, fontsize=9.5, va="top", transform=place)
    for k, optimizer in enumerate(study.optimizers):
        marker = MARKERS[k % len(MARKERS)]
        axes.plot([], [], marker, markerfacecolor="none", markeredgecolor=INK, label=optimizer)
    axes.legend(frameon=False, fontsize=9.5, loc="lower left", bbox_to_anchor=(1.0, -0.05))


def _paint_point(
    axes: Axes, study: Study, cost: Cost, place: tuple[float, float], row: ParetoRow
) -> None:
    """A marker by optimizer, coloured by verdict, filled on the front."""
    marker = MARKERS[study.optimizers.index(row.optimizer) % len(MARKERS)]
    colour = SERIES[0] if row.verdict == REFERENCE else VERDICTS[row.verdict]
    on_front = cost.name in row.front
    axes.plot(
        *place,
        marker=marker,
        markersize=7 if on_front else 6,
        color=colour if on_front else "none",
        markeredgecolor=colour,
        linestyle="none",
        zorder=4 if on_front else 3,
    )


def _scale(axes: Axes, cost: Cost, values: Sequence[float]) -> None:
    """Round ticks in the unit that is shown; logarithmic where the costs span a factor of three."""
    low, high = min(values), max(values)
    unit = 1024.0 ** floor(log(low, 1024)) if cost.name.endswith("bytes") and low > 0 else 1.0
    if 0 < 3 * low < high:
        axes.set_xscale("log", base=2)
        powers = range(floor(log2(low / unit)), ceil(log2(high / unit)) + 1)
        ticks = [unit * 2.0**power for power in powers][:: max(1, -(-len(powers) // 5))]
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        ticks = [unit * tick for tick in MaxNLocator(4).tick_values(low / unit, high / unit)]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: cost.show(x)))
    if cost.name.endswith("bytes"):
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _round_bytes(x)))


def _round_bytes(value: float) -> str:
    """A tick in bytes: `64 KiB`, without digits behind the point where there are none."""
    return size_in_bytes(round(value)).replace(".0", "")


def _costs(study: Study, row: VerdictRow, bits: float | None) -> dict[str, float | None]:
    """What one pair costs: medians over its runs."""
    runs = study.select(row.optimizer, row.column)
    return {
        "operand_bits": bits,
        "memory_bytes": median_of(runs, total_memory),
        "optimizer_state_bytes": median_of(runs, state_memory),
        "emulated_seconds": median_of(runs, lambda run: run.seconds),
    }
