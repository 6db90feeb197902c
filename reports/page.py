"""The report of a study: one self-contained HTML page and its JSON twin, in the study folder."""

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..formats.errors import InputError
from . import wording
from .blame_section import BlameSection, make_blame
from .comparisons import draw_gaps, draw_roundings
from .curves import draw_early_losses, draw_losses, draw_qualities
from .drawing import Figure, slug
from .heatmaps import draw_heatmaps
from .inside_section import Inside, draw_inside
from .study import Study, read_study
from .traces import TraceRow, trace_rows
from .twin import describe_study
from .verdict import VerdictRow, judge_study

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Report:
    """The two files that were written, and the verdicts in them."""

    html: Path
    json: Path
    rows: tuple[VerdictRow, ...]


@dataclass(frozen=True)
class Gallery:
    """The figures by the section of the page that they stand in."""

    gaps: tuple[Figure, ...]
    training: dict[str, tuple[Figure, ...]]
    roundings: tuple[Figure, ...]
    traces: tuple[Figure, ...]

    def __iter__(self) -> Iterator[Figure]:
        yield from self.gaps
        for figures in self.training.values():
            yield from figures
        yield from self.roundings
        yield from self.traces


def write_report(study: Path) -> Report:
    """Write report.html and report.json into the study folder; the same study gives equal bytes.

    Files that are missing, damaged or foreign are listed on the page with the reason.

    Raises:
        InputError: `study` is no study folder, its study.json is damaged, or the folder cannot
            be written.
    """
    found = read_study(study)
    rows = judge_study(found)
    trace = trace_rows(found)
    gallery = _draw(found, rows, trace)
    inside, blame = draw_inside(found), make_blame(found)
    found = replace(found, left_out=(*found.left_out, *blame.left_out))
    figures = (*gallery, *blame.figures, *inside.figures)
    content = describe_study(found, rows, trace, figures)
    content |= {"blame": blame.describe(), "inside": {"memory": inside.memory}}
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    report = Report(study / "report.html", study / "report.json", tuple(rows))
    _replace(report.html, _render(content, gallery, inside, blame))
    _replace(report.json, text)
    return report


def _draw(study: Study, rows: list[VerdictRow], trace: list[TraceRow]) -> Gallery:
    """All figures for which something was recorded."""
    gaps = draw_gaps(study, rows)
    kinds = (draw_losses, draw_early_losses, draw_qualities)
    training = {
        optimizer: tuple(f for draw in kinds if (f := draw(study, optimizer)))
        for optimizer in study.optimizers
    }
    return Gallery(
        gaps=(gaps,) if gaps else (),
        training={name: figures for name, figures in training.items() if figures},
        roundings=tuple(draw_roundings(study)),
        traces=tuple(draw_heatmaps(trace)),
    )


def _render(content: dict[str, Any], gallery: Gallery, inside: Inside, blame: BlameSection) -> str:
    """The page; every text of the study is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": wording.count,
        "decibels": wording.decibels,
        "exponent_range": wording.exponent_range,
        "in_bytes": wording.size_in_bytes,
        "share": wording.share,
        "slug": slug,
        "svg": lambda figure: Markup(figure.svg),
    }
    metric = content["study"]["metric"]
    return environment.get_template("report.html").render(
        content | {"inside": inside, "blame": blame},
        gallery=gallery,
        quality=lambda value: wording.quality(metric, value),
        gap=lambda value: wording.gap(metric, value),
        size=lambda value: wording.size(metric, value),
    )


def _replace(path: Path, text: str) -> None:
    """Put `text` at `path`, whole or not at all."""
    try:
        handle, name = tempfile.mkstemp(prefix=".writing-", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
