"""Heat maps of modules over time: where numbers were lost, and when."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.ticker import FixedLocator, FuncFormatter

from .drawing import INK, SERIES, SHADE, Figure, draw_svg
from .inside import ModuleMap, module_maps
from .study import Study
from .wording import decibels, share

#: Pairs of optimizer and column that are drawn, those that lost most first.
PAIRS = 4
#: Modules and times of a map, at most; further times are left out evenly.
ROWS, TIMES, TABLE_TIMES = 18, 24, 6
WIDTH, ROW, FRAME = 390.0, 15.0, 58.0  # points
Text = Callable[[float | None], str]
TITLES = {
    "underflow": "Underflow",
    "saturation": "Saturation",
    "sqnr": "Signal over rounding noise of operands, in dB",
    "stalled": "Stalled updates",
}


def draw_maps(study: Study) -> list[Figure]:
    """The maps of the optimizers and columns whose numbers suffered most."""
    pairs = [
        maps
        for column in study.columns
        if column != study.facts.reference
        for optimizer in study.optimizers
        if (maps := module_maps(study, optimizer, column))
    ]
    pairs = sorted(pairs, key=lambda maps: -max(found.worst for found in maps))[:PAIRS]
    pairs = sorted(pairs, key=lambda maps: (study.columns.index(maps[0].column),
                                            study.optimizers.index(maps[0].optimizer)))  # fmt: skip
    return [_draw(found) for maps in pairs for found in maps]


def _draw(found: ModuleMap) -> Figure:
    rows, times = _worst_rows(found), _thin(len(found.steps), TIMES)
    modules = [found.modules[k] or "outside of the modules" for k in rows]
    steps = [found.steps[k] for k in times]
    values = found.values[np.ix_(rows, times)]
    text: Text = decibels if found.measure == "sqnr" else share

    def paint(axes: Axes) -> None:
        cells = [
            (y, x, _depth(found.measure, float(values[y, x]))) for y, x in np.ndindex(values.shape)
        ]
        boxes = PolyCollection(
            [_box(x, y) for y, x, _ in cells],
            facecolors=[
                to_rgba(SHADE) if depth is None else to_rgba(SERIES[2], depth)
                for _, _, depth in cells
            ],
            linewidths=0,
        )
        axes.add_collection(boxes, autolim=False)
        axes.set_xlim(-0.5, len(steps) - 0.5)
        axes.set_ylim(len(modules) - 0.5, -0.5)
        axes.set_yticks(range(len(modules)), modules)
        axes.xaxis.set_major_locator(FixedLocator(_thin(len(steps), 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{steps[round(x)]}"))
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_xlabel("step")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)

    what = f"{found.optimizer} on {found.column}"
    title = f"{TITLES[found.measure]}: {what}"
    name = f"map-{found.measure}-{found.optimizer}-{found.column}"
    left_out = len(found.modules) - len(rows)
    alt = f"{title}. {_tell(found, text)}"
    alt += f" {left_out} modules with less are left out." if left_out else ""
    shown = [times[k] for k in _thin(len(times), TABLE_TIMES)]
    table = tuple(
        (module, *(_cell(text, float(found.values[k, t])) for t in shown))
        for module, k in zip(modules, rows, strict=True)
    )
    header = ("Module", *(f"Step {found.steps[t]}" for t in shown))
    height = FRAME + ROW * len(modules)
    return Figure(
        name, title, alt, draw_svg(name, title, alt, (WIDTH, height), paint), header, table
    )


def _box(x: int, y: int) -> list[tuple[float, float]]:
    """The corners of a cell."""
    left, right, top, bottom = x - 0.5, x + 0.5, y - 0.46, y + 0.46
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _depth(measure: str, value: float) -> float | None:
    """How strong the colour is, 0 to 1; None where nothing was counted."""
    if not np.isfinite(value):
        return None
    if measure == "sqnr":
        return min(max(1 - value / 60, 0.0), 1.0)
    return float(min(value, 1.0) ** 0.5)


def _worst_rows(found: ModuleMap) -> list[int]:
    """The modules that lost most at any time, in the model's order."""
    if len(found.modules) <= ROWS:
        return list(range(len(found.modules)))
    lost = -found.values if found.measure == "sqnr" else found.values
    worst = np.max(np.where(np.isfinite(lost), lost, -np.inf), axis=1)
    return sorted(np.argsort(-worst, kind="stable")[:ROWS].tolist())


def _tell(found: ModuleMap, text: Text) -> str:
    """Where and when most was lost, in words."""
    lost = -found.values if found.measure == "sqnr" else found.values
    at = int(np.argmax(np.where(np.isfinite(lost), lost, -np.inf)))
    y, x = divmod(at, lost.shape[1])
    first, last = found.steps[0], found.steps[-1]
    value = text(float(found.values[y, x]))
    where = found.modules[y] or "outside of the modules"
    return (
        f"{len(found.modules)} modules over steps {first} to {last}; most in {where} at step "
        f"{found.steps[x]}: {value}."
    )


def _cell(text: Text, value: float) -> str:
    return text(value) if np.isfinite(value) else "–"


def _thin(count: int, most: int) -> list[int]:
    """At most `most` evenly spaced of 0 .. count − 1, the first and the last among them."""
    return sorted({int(k) for k in np.linspace(0, count - 1, min(count, most)).round()})
