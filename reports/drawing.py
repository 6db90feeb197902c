"""Figures as SVG that belongs to the page: its colours, its fonts, no file beside it.

Every colour is drawn as a stand-in and written as a CSS variable, so that the page's light, dark
and print styles colour the figure; text stays text. Equal input gives equal bytes.
"""

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

INK, MUTED, GRID, SHADE = "#000001", "#000002", "#000003", "#000004"
SERIES = tuple(f"#0000{16 + k:02x}" for k in range(7))  # the first is the reference's
VERDICTS = {
    "STABLE": "#000020",
    "AT RISK": "#000021",
    "UNSTABLE": "#000022",
    "INCONCLUSIVE": "#000023",
}
VARIABLES = (
    {INK: "ink", MUTED: "muted", GRID: "grid", SHADE: "shade"}
    | {colour: f"series-{k}" for k, colour in enumerate(SERIES)}
    | {colour: name.lower().replace(" ", "-") for name, colour in VERDICTS.items()}
)
# Its keys are matplotlib's own type, which older versions do not name.
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 10.5,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.unicode_minus": True,
    "figure.dpi": 72,
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
    "svg.hashsalt": "tapeout",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "xtick.labelsize": 10,
    "xtick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.color": MUTED,
    "ytick.labelsize": 10,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
}
NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}


@dataclass(frozen=True)
class Figure:
    """A picture with what a reader who cannot see it needs: a title, a description, its table."""

    name: str
    title: str
    alt: str
    svg: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Spot:
    """A place in a drawing whose value shows under the pointer: data coordinates and its text.

    width, height: of a rectangle around it, in data coordinates; a disc where they are 0.
    """

    x: float
    y: float
    text: str
    width: float = 0.0
    height: float = 0.0


Paint = Callable[[Axes], Sequence[Spot] | None]


def draw_svg(name: str, title: str, alt: str, size: tuple[float, float], paint: Paint) -> str:
    """What `paint` draws on one pair of axes, `size` in points, as an inline `<svg>` element.

    The spots that it returns become transparent shapes with a `<title>`, above everything.
    """
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(size[0] / 72, size[1] / 72), layout="constrained")
        axes = canvas.add_subplot()
        spots = paint(axes) or ()
        canvas.savefig(buffer, format="svg", transparent=True, metadata=NO_METADATA)
        root = _adopt(ET.fromstring(buffer.getvalue()), name, title, alt)
        root.extend(_place(axes, spot, size[1]) for spot in spots)
    return ET.tostring(root, encoding="unicode")


def _place(axes: Axes, spot: Spot, height: float) -> ET.Element:
    """The shape of a spot, in points from the upper left corner."""
    ends = [
        (spot.x + side * spot.width / 2, spot.y + side * spot.height / 2) for side in (-1, 0, 1)
    ]
    (x0, y0), (x, y), (x1, y1) = axes.transData.transform(ends)
    if spot.width and spot.height:
        left, top = min(x0, x1), height - max(y0, y1)
        attributes = {"x": left, "y": top, "width": abs(x1 - x0), "height": abs(y1 - y0)}
        shape = "rect"
    else:
        attributes, shape = {"cx": x, "cy": height - y, "r": 5.0}, "circle"
    element = ET.Element(shape, {key: f"{value:.1f}" for key, value in attributes.items()})
    element.set("class", "spot")
    ET.SubElement(element, "title").text = spot.text
    return element


def slug(name: str) -> str:
    """The name as an id of the page: letters, digits, dots and dashes."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")


def spread_labels(heights: list[float], least: float, floor: float = 0.0) -> list[float]:
    """The heights, moved so that neighbours stand `least` apart and none below `floor`."""
    order = sorted(range(len(heights)), key=lambda k: heights[k])
    placed = list(heights)
    for _ in range(100):
        moved = False
        for below, above in pairwise(order):
            lack = least - (placed[above] - placed[below])
            if lack > 1e-6:
                placed[below] -= lack / 2
                placed[above] += lack / 2
                moved = True
        if not moved:
            break
    for above in order:
        placed[above] = max(placed[above], floor)
        floor = placed[above] + least
    return placed


def _adopt(root: ET.Element, name: str, title: str, alt: str) -> ET.Element:
    """The drawing as an element of an HTML page: no namespaces, ids of its own, described."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    prefix = slug(name)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for key in list(element.attrib):
            value = element.attrib.pop(key)
            plain = key.rpartition("}")[2]
            element.set(plain, _localise(plain, value, prefix))
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{prefix}-title {prefix}-desc")
    for position, (tag, text) in enumerate((("title", title), ("desc", alt))):
        element = ET.Element(tag, {"id": f"{prefix}-{tag}"})
        element.text = text
        root.insert(position, element)
    return root


def _localise(key: str, value: str, name: str) -> str:
    """An attribute with its ids made unique in the page and its colours made variables."""
    if key == "id":
        return f"{name}-{value}"
    if key == "href" and value.startswith("#"):
        return f"#{name}-{value[1:]}"
    value = value.replace("url(#", f"url(#{name}-")
    if key == "style":
        for colour, variable in VARIABLES.items():
            value = value.replace(colour, f"var(--{variable})")
        kept = [part for part in value.split(";") if not part.strip().startswith("font-family")]
        value = ";".join(kept)
    return value
