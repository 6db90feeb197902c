"""The report of a study: one self-contained HTML page, with Markdown and JSON twins beside it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from . import decision, grids, learning_rates, pareto, spikes, wording
from .blame_section import make_blame
from .comparisons import draw_gaps, draw_roundings
from .curves import draw_early_losses, draw_losses, draw_qualities, drawn_columns
from .decision import Decision, decide
from .document import Findings, describe
from .drawing import Figure, slug
from .files import write_text
from .heatmaps import draw_heatmaps
from .inside_section import draw_inside
from .modules import worst_modules
from .pareto import draw_paretos, pareto_rows
from .provenance import chip_evidence
from .rate_figure import draw_rates
from .signal_figure import draw_signals
from .signals import find_warnings
from .study import Study, read_study
from .traces import trace_rows
from .verdict import VerdictRow, judge_study

TEMPLATES = Path(__file__).parent / "templates"
#: The page below its first screen, in this order; a template may hold several sections.
SECTIONS = (
    "decision.html",
    "reasons.html",
    "blame.html",
    "comparison.html",
    "robustness.html",
    "evidence.html",
    "inside.html",
    "provenance.html",
)
#: Rules and legends that the pages print: kept beside the code that they describe.
TEXTS = {
    "decision_rules": decision.RULES,
    "decision_note": decision.NOTE,
    "grid_legend": grids.LEGEND,
    "pareto_legend": pareto.LEGEND,
    "rate_rule": learning_rates.RULE,
    "spike_rule": spikes.RULE,
}


@dataclass(frozen=True)
class Report:
    """The three files that were written, the verdicts in them, and what follows from them."""

    html: Path
    json: Path
    markdown: Path
    rows: tuple[VerdictRow, ...]
    decision: Decision


@dataclass(frozen=True)
class Gallery:
    """The figures by the section of the page that they stand in."""

    gaps: tuple[Figure, ...]
    grids: tuple[Figure, ...]
    paretos: tuple[Figure, ...]
    rates: tuple[Figure, ...]
    signals: tuple[Figure, ...]
    training: dict[str, tuple[Figure, ...]]
    roundings: tuple[Figure, ...]
    traces: tuple[Figure, ...]

    def __iter__(self) -> Iterator[Figure]:
        yield from (*self.gaps, *self.grids, *self.paretos, *self.rates, *self.signals)
        for figures in self.training.values():
            yield from figures
        yield from (*self.roundings, *self.traces)


def write_report(study: Path) -> Report:
    """Write report.html, report.md and report.json into the study folder.

    The same study gives equal bytes. Files that are missing, damaged or foreign are listed on the
    page with the reason.

    Raises:
        InputError: `study` is no study folder, its study.json is damaged, or the folder cannot
            be written.
    """
    found = conclude(read_study(study))
    gallery = _draw(found)
    inside, blame = draw_inside(found.study), make_blame(found.study)
    document = describe(found, (*gallery, *blame.figures, *inside.figures), blame, inside)
    content = document.model_dump(mode="json", by_alias=True)
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    files = {name: study / f"report.{name}" for name in ("html", "json", "md")}
    shown = {"inside": inside, "blame": blame}
    for name in ("html", "md"):
        write_text(files[name], _render(f"report.{name}", content, gallery, shown))
    write_text(files["json"], text)
    return Report(files["html"], files["json"], files["md"], document.rows, found.decision)


def conclude(study: Study) -> Findings:
    """Everything that follows from a study that has been read."""
    rows, trace = judge_study(study), trace_rows(study)
    rates = learning_rates.rate_rows(study)
    return Findings(
        study=study,
        rows=rows,
        decision=decide(study, rows, rates),
        rates=rates,
        warnings=find_warnings(study),
        pareto=pareto_rows(study, rows, trace),
        trace=trace,
        modules=worst_modules(study),
        evidence=chip_evidence(study),
    )


def _draw(found: Findings) -> Gallery:
    """All figures for which something was recorded."""
    study, rows = found.study, found.rows
    gaps, signals = draw_gaps(study, rows), draw_signals(found.warnings)
    kinds = (draw_losses, draw_early_losses, draw_qualities)
    training = {
        optimizer: tuple(
            f for draw in kinds if (f := draw(study, optimizer, drawn_columns(rows, optimizer)))
        )
        for optimizer in study.optimizers
    }
    rates = (
        draw_rates(study, found.rates, optimizer, drawn_columns(rows, optimizer))
        for optimizer in study.optimizers
    )
    return Gallery(
        gaps=(gaps,) if gaps else (),
        grids=tuple(grids.draw_grids(study, rows)),
        paretos=tuple(draw_paretos(study, found.pareto)),
        rates=tuple(figure for figure in rates if figure),
        signals=(signals,) if signals else (),
        training={name: figures for name, figures in training.items() if figures},
        roundings=tuple(draw_roundings(study)),
        traces=tuple(draw_heatmaps(found.trace)),
    )


def _render(template: str, content: dict[str, Any], gallery: Gallery, shown: dict[str, Any]) -> str:
    """The page; every text of the study is escaped.

    shown: sections that bring objects of their own, in place of their part of the content.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=template.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "cell": _markdown_cell,
        "contents": _list_contents,
        "count": wording.count,
        "decibels": wording.decibels,
        "exponent_range": wording.exponent_range,
        "in_bytes": wording.size_in_bytes,
        "plural": wording.plural,
        "share": wording.share,
        "slug": slug,
        "svg": lambda figure: Markup(figure.svg),
    }
    metric = content["study"]["metric"]
    return environment.get_template(template).render(
        content | shown,
        gallery=gallery,
        figures=(*gallery, *shown["blame"].figures, *shown["inside"].figures),
        sections=SECTIONS,
        texts=TEXTS,
        quality=lambda value: wording.quality(metric, value),
        gap=lambda value: wording.gap(metric, value),
        size=lambda value: wording.size(metric, value),
    )


def _list_contents(body: str) -> list[tuple[str, str]]:
    """The sections of the page, each id with its title."""
    found = re.findall(r'<section id="([^"]+)"[^>]*>\s*<h2[^>]*>(.*?)</h2>', body, re.DOTALL)
    return [(place, Markup(title)) for place, title in found]


def _markdown_cell(value: object) -> str:
    """A text that cannot break a Markdown table or become markup."""
    text = " ".join(str(value).split())
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", text)
