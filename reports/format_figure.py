"""A figure of a format's relative spacing, as a file of its own: SVG or PNG."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ..formats import InputError
from ..formats.listing import is_blocked, parts_of, values_of
from ..formats.spacing import spacing_rows
from .drawing import GRID, INK, MUTED, NO_METADATA, STYLE

#: The colours of the report's page in daylight, in place of the stand-ins of `drawing`.
_INK, _MUTED, _GRID, _LINE = "#1b1f24", "#57606a", "#e3e6ea", "#0072b2"
_COLOURS = {INK: _INK, MUTED: _MUTED, GRID: _GRID}
_SIZE = (7.0, 4.0)  # inches
#: Up to so many positive values each is a point; beyond, binades are drawn as a band.
_POINTS = 1024
_SUFFIXES = (".svg", ".png")


def write_figure(fmt: Any, path: Path) -> Path:
    """The relative spacing over the positive values, both axes in powers of two.

    Equal formats give equal SVG files.

    Raises:
        InputError: the file is not an SVG or PNG by its name, or cannot be written; the format
            has no spacing to draw.
    """
    if path.suffix not in _SUFFIXES:
        raise InputError(f'--figure "{path}": the name must end in .svg or .png')
    drawn = parts_of(fmt)["element"] if is_blocked(fmt) else fmt
    rows = spacing_rows(drawn)
    if not rows:
        raise InputError(f"--figure: {fmt.name} has no two positive values to draw a spacing of")
    style = {key: _COLOURS.get(value, value) if isinstance(value, str) else value
             for key, value in STYLE.items()}  # fmt: skip
    with mpl.rc_context(style):
        figure = Figure(figsize=_SIZE, layout="constrained")
        _paint(figure.add_subplot(), fmt, drawn)
        metadata: Any = NO_METADATA if path.suffix == ".svg" else {"Software": None}
        try:
            figure.savefig(path, dpi=160, metadata=metadata, facecolor="white")
        except OSError as error:
            raise InputError(f"--figure {path}: cannot be written: {error.strerror}") from None
    return path


def _paint(axes: Axes, fmt: Any, drawn: Any) -> None:
    rows, values = spacing_rows(drawn), values_of(drawn)
    positive = np.empty(0)
    if values is not None:
        positive = np.unique(values[np.isfinite(values) & (values > 0)])
    if 2 <= positive.size <= _POINTS:
        marker = "o" if positive.size <= 256 else ""
        share = np.diff(positive) / positive[:-1]
        axes.plot(np.log2(positive[:-1]), np.log2(share), color=_LINE, linewidth=1.2,
                  marker=marker, markersize=2.6)  # fmt: skip
    else:
        edges = [float(end) for row in rows for end in (row.first, row.last + 1)]
        widest = [row.widest for row in rows for _ in range(2)]
        finest = [row.finest for row in rows for _ in range(2)]
        axes.fill_between(edges, np.log2(finest), np.log2(widest), color=_LINE, alpha=0.35,
                          linewidth=0)  # fmt: skip
        axes.plot(edges, np.log2(widest), color=_LINE, linewidth=1.2)
        axes.annotate(
            "line: the widest of each binade; shade: down to the finest",
            (1, 1), xycoords="axes fraction", ha="right", va="bottom", color=_MUTED, fontsize=9,
        )  # fmt: skip
    name = fmt.name if drawn is fmt else f"{fmt.name}: elements {drawn.name}"
    axes.set_title(f"{name}: relative spacing", loc="left", fontsize=12, color=_INK)
    axes.set_xlabel("value")
    axes.set_ylabel("(next value − value) / value")
    powers = FuncFormatter(lambda x, _: f"$2^{{{x:.0f}}}$")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, nbins=9))
        axis.set_major_formatter(powers)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(True)
