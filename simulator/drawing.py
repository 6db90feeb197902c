"""A datapath as boxes and arrows in text, 80 columns wide at most."""

from textwrap import wrap

from .datapath import Datapath, Entry

MARGIN, INSIDE, GUTTER = 2, 50, 22
RIGHT = MARGIN + INSIDE + 3
MIDDLE = MARGIN + 1 + INSIDE // 2


class Canvas:
    """Rows of characters, each as long as it needs to be."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []

    def put(self, row: int, column: int, text: str) -> None:
        """Write `text` from (row, column) to the right."""
        while len(self.rows) <= row:
            self.rows.append([])
        line = self.rows[row]
        line.extend(" " * (column + len(text) - len(line)))
        line[column : column + len(text)] = text

    def __str__(self) -> str:
        return "\n".join("".join(row).rstrip() for row in self.rows)


def draw_datapath(path: Datapath) -> str:
    """The picture: operands above, a box a stage, side entries and feedback on the right."""
    canvas = Canvas()
    row = _operands(canvas, path)
    tops: list[int] = []
    bottoms: list[int] = []
    for number, stage in enumerate(path.stages):
        taps = (MIDDLE,) if number else (MARGIN + 12, MARGIN + INSIDE - 11)
        tops.append(row)
        entering = [e for e in path.entries if e.at == number]
        lines = [stage.name, *_wrapped(stage.facts)]
        least = max((len(_labels(e)) for e in entering), default=0)
        lines += [""] * (least - len(lines))
        row = _box(canvas, row, lines, taps)
        bottoms.append(row)
        row += 1
    canvas.put(row, MIDDLE, "▼")
    canvas.put(row + 1, MIDDLE - len(path.result) // 2, path.result)
    for entry in path.entries:
        _enter(canvas, tops[entry.at] + 1, entry, bottoms)
    return str(canvas)


def _wrapped(facts: tuple[str, ...]) -> list[str]:
    return [line for fact in facts for line in wrap(fact, INSIDE - 3, subsequent_indent="  ")]


def _operands(canvas: Canvas, path: Datapath) -> int:
    for column, text in zip((MARGIN + 12, MARGIN + INSIDE - 11), path.operands, strict=True):
        canvas.put(0, max(column - len(text) // 2, 0), text)
        canvas.put(1, column, "│")
    return 2


def _box(canvas: Canvas, row: int, lines: list[str], taps: tuple[int, ...]) -> int:
    """A box with arrow heads at `taps`; returns the row below it, where its output line is."""
    canvas.put(row, MARGIN, "┌" + "─" * INSIDE + "┐")
    for tap in taps:
        canvas.put(row, tap, "▼")
    for text in lines:
        row += 1
        canvas.put(row, MARGIN, "│" + f" {text}".ljust(INSIDE) + "│")
    canvas.put(row + 1, MARGIN, "└" + "─" * INSIDE + "┘")
    canvas.put(row + 1, MIDDLE, "┬")
    canvas.put(row + 2, MIDDLE, "│")
    return row + 2


def _labels(entry: Entry) -> list[str]:
    """What stands beside the arrow: the start value, and when the result comes back."""
    back = wrap(f"then the result, {entry.back}", GUTTER) if entry.after is not None else []
    return [*wrap(entry.start, GUTTER), *back]


def _enter(canvas: Canvas, row: int, entry: Entry, bottoms: list[int]) -> None:
    """The arrow into a box from the right, and the line that brings a result back to it."""
    returns = entry.after is not None
    canvas.put(row, RIGHT - 1, "◄┬─ " if returns else "◄── ")
    for offset, text in enumerate(_labels(entry)):
        canvas.put(row + offset, RIGHT + 3, text)
    if entry.after is None:
        return
    end = bottoms[entry.after]
    for line in range(row + 1, end):
        canvas.put(line, RIGHT, "│")
    canvas.put(end, MIDDLE, "├" + "─" * (RIGHT - MIDDLE - 1) + "┘")
