"""Final quality against the learning rate: where each column stops training."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from .drawing import SERIES, Figure, Spot, draw_svg
from .learning_rates import RateRow
from .study import Study
from .wording import quality

SIZE = (470.0, 250.0)


def draw_rates(
    study: Study, rows: Sequence[RateRow], optimizer: str, columns: tuple[str, ...]
) -> Figure | None:
    """The mean over the finished seeds at each factor; a cross where a factor does not train."""
    shown = [row for row in rows if row.optimizer == optimizer and row.column in columns]
    if not shown:
        return None
    metric = study.facts.metric
    factors = sorted({p.factor for row in shown for p in row.points})
    texts = {
        (row.column, p.factor): f"{row.column} at × {p.factor:g}: {quality(metric, p.mean)}, "
        f"{p.failed} of {p.runs} failed"
        for row in shown
        for p in row.points
    }

    def paint(axes: Axes) -> list[Spot]:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(factors))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"× {x:g}"))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: quality(metric, y)))
        axes.set_xlabel("factor on the learning rate (cross: does not train)")
        known = [p.mean for row in shown for p in row.points if p.mean is not None]
        floor = min(known, default=0.0)
        spots = []
        for row in shown:
            colour = SERIES[columns.index(row.column) % len(SERIES)]
            axes.plot(
                [p.factor for p in row.points if p.mean is not None],
                [p.mean for p in row.points if p.mean is not None],
                color=colour,
                linewidth=1.4,
                marker="o",
                markersize=3.5,
                label=row.column,
            )
            for p in row.points:
                height = floor if p.mean is None else p.mean
                if not p.trains:
                    axes.plot(p.factor, height, "X", color=colour, markersize=7, clip_on=False)
                spots.append(Spot(p.factor, height, texts[row.column, p.factor]))
        axes.legend(frameon=False, fontsize=9.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return spots

    title = f"Final {metric.replace('_', ' ')} by learning rate, {optimizer}"
    if len(columns) < len(study.columns):
        title += f": reference and worst {len(columns) - 1} of {len(study.columns) - 1}"
    alt = f"{title}. {'; '.join(texts.values())}."
    header = ("Column", "Factor", "Mean", "Failed", "Trains")
    table = tuple(
        (
            row.column,
            f"× {p.factor:g}",
            quality(metric, p.mean),
            f"{p.failed} of {p.runs}",
            "yes" if p.trains else "no",
        )
        for row in shown
        for p in row.points
    )
    name = f"rates-{optimizer}"
    return Figure(name, title, alt, draw_svg(name, title, alt, SIZE, paint), header, table)
