"""The page and its twin: self-contained, well-formed, described, deterministic, in agreement."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes

from tapeout.formats.errors import InputError
from tapeout.reports import Report, verdict_rows, write_report
from tapeout.reports.drawing import draw_svg, spread_labels
from tapeout.reports.study import read_study
from tapeout.reports.traces import trace_rows
from tapeout.reports.wording import gap, quality, share, size_in_bytes
from tapeout.tests.test_reports_folders import COLUMNS, Finals, write_study

FINALS: Finals = {
    ("adamw", "ieee-float32"): [0.93, 0.94, 0.935],
    ("adamw", "h100-fp8"): [0.93, 0.938, 0.935],
    ("adamw", "int4-nearest"): [None, None, None],
    ("adamw", "int4-stochastic"): [0.91, 0.92, 0.924],
    ("lmd", "ieee-float32"): [0.92, 0.95, 0.933],
    ("lmd", "h100-fp8"): [0.91, 0.95, 0.935],
    ("lmd", "int4-nearest"): [0.85, 0.86, None],
    ("lmd", "int4-stochastic"): [0.91, 0.94, 0.922],
}
VOID = {"meta", "link", "br", "hr", "img", "input", "path", "use"}


class Page(HTMLParser):
    """A page as a list of elements; refuses tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.texts.append((self.open[-1], data.strip()))

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.elements if name in attrs]

    def count(self, tag: str) -> int:
        return sum(found == tag for found, _ in self.elements)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return write_report(write_study(tmp_path_factory.mktemp("page") / "study", FINALS))


@pytest.fixture(scope="module")
def page(report: Report) -> Page:
    return Page(report.html.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def twin(report: Report) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(report.json.read_text(encoding="utf-8"))
    return content


def test_the_page_loads_nothing(report: Report, page: Page) -> None:
    text = report.html.read_text(encoding="utf-8")
    assert "http://" not in text and "https://" not in text and "@import" not in text
    assert not {"script", "iframe", "img", "object"} & {tag for tag, _ in page.elements}
    links = page.attributes("href") + page.attributes("src")
    assert all(link.startswith("#") or link == "data:," for link in links)


def test_ids_are_unique_and_every_reference_has_its_target(page: Page) -> None:
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    targets = [link[1:] for link in page.attributes("href") if link.startswith("#")]
    targets += [part for ids in page.attributes("aria-labelledby") for part in ids.split()]
    targets += [
        match
        for name in ("clip-path", "style")
        for value in page.attributes(name)
        for match in re.findall(r"url\(#([^)]+)\)", value)
    ]
    assert set(targets) <= set(ids)


def test_every_figure_has_a_title_a_description_and_a_table(
    page: Page, twin: dict[str, Any]
) -> None:
    figures = len(twin["figures"])
    kinds = [figure["name"].split("-")[0] for figure in twin["figures"]]
    expected = {"gaps": 1, "grid": 1, "pareto": 2, "signals": 1, "rounding": 1}
    expected |= dict.fromkeys(("loss", "early", "quality"), 2)
    expected |= dict.fromkeys(("underflow", "saturation", "sqnr"), 1)
    expected |= {"gradient": 2, "map": 4}  # of the section on the inside
    assert {kind: kinds.count(kind) for kind in kinds} == expected
    for tag in ("figure", "svg", "desc"):
        assert page.count(tag) == figures, tag
    spots = sum(attrs.get("class") == "spot" for _, attrs in page.elements)
    assert spots > 200 and page.count("title") == 1 + figures + spots
    assert all(len(row) == len(f["header"]) for f in twin["figures"] for row in f["rows"])
    assert all(text for tag, text in page.texts if tag in ("title", "desc"))
    assert all(attrs.get("role") == "img" for tag, attrs in page.elements if tag == "svg")
    tables = (
        "verdicts",
        "reasons",
        "spikes",
        "warnings",
        "trace",
        "memory",
        "evidence",
        "coverage",
    )
    assert page.count("table") == figures + len(tables) + 1  # and the runs


def test_headings_descend_one_level_at_a_time_and_headers_have_a_scope(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))
    assert all(attrs.get("scope") in ("row", "col") for tag, attrs in page.elements if tag == "th")


def test_drawings_use_the_colours_of_the_page_only(page: Page) -> None:
    styles = ";".join(page.attributes("style"))
    assert "#" not in styles.replace("url(#", "")
    used = set(re.findall(r"var\(--([a-z0-9-]+)\)", styles))
    css = (Path(__file__).parent.parent / "reports" / "templates" / "style.css").read_text()
    light, dark, printed = (part.split("}")[0] for part in css.split(":root {")[1:])
    for theme in (light, dark, printed):
        assert used <= set(re.findall(r"--([a-z0-9-]+):", theme))


def numbers(value: Any) -> Iterator[float]:
    """Every number in a JSON value."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from numbers(part)
    elif isinstance(value, int | float):
        yield float(value)


def test_the_numbers_of_the_page_are_those_of_the_twin(page: Page, twin: dict[str, Any]) -> None:
    shown = {float(a["value"] or "nan") for tag, a in page.elements if tag == "data"}
    assert len(shown) > 50
    parts = ("headline", "rows", "trace", "memory", "runs", "warnings", "evidence")
    assert shown <= set(numbers([twin[k] for k in parts]))
    for row in twin["rows"]:
        assert {row[k] for k in ("mean", "gap", "gap_low", "equivalence_p")} - {None} <= shown
    for row in twin["trace"]:
        assert {row[k] for k in ("values", "underflow", "sqnr_db", "stalled")} - {None} <= shown


def test_the_twin_holds_the_verdicts(report: Report, twin: dict[str, Any]) -> None:
    assert twin["schema"] == 1
    assert twin["rows"] == json.loads(json.dumps([asdict(row) for row in report.rows]))
    assert list(report.rows) == verdict_rows(report.html.parent)
    assert (twin["headline"]["diverged"], twin["headline"]["ended"]) == (4, 24)
    assert twin["headline"]["worst"]["column"] == "int4-nearest"
    assert [run["seed"] for run in twin["runs"]] == [0, 1, 2] * 8


def test_a_loss_counts_upwards_on_the_first_screen(tmp_path: Path) -> None:
    finals: Finals = {
        ("lmd", "ieee-float32"): [0.20, 0.21],
        ("lmd", "h100-fp8"): [0.19, 0.20],
        ("lmd", "int4-stochastic"): [0.25, 0.27],
    }
    report = write_report(write_study(tmp_path / "study", finals, "test_loss"))
    worst = json.loads(report.json.read_text(encoding="utf-8"))["headline"]["worst"]
    assert (worst["column"], worst["gap"]) == ("int4-stochastic", pytest.approx(0.055))
    assert "better to the left" in report.html.read_text(encoding="utf-8")


def test_the_trace_sums_what_the_segments_hold(report: Report) -> None:
    rows = {(r.column, r.role): r for r in trace_rows(read_study(report.html.parent))}
    weight = rows["int4-stochastic", "weight"]
    assert weight.values == 1000 * 2 * 4 * 3 * 2  # modules, segments, seeds, optimizers
    assert weight.underflow == pytest.approx(18 / 1000)
    assert weight.sqnr_db == pytest.approx(23.979400086720375)  # 10·log10(1000/4)
    assert rows["ieee-float32", "weight"].sqnr_db is None
    assert rows["int4-nearest", "update"].stalled == pytest.approx(0.155)
    assert weight.stalled is None


def test_results_that_rest_on_assumed_values_say_so(page: Page, twin: dict[str, Any]) -> None:
    assert twin["assumed"]["h100-fp8"] == ["nvidia-h100: accumulator width"]
    assert twin["assumed"]["ieee-float32"] == []
    marks = sum("assumed value" in label for label in page.attributes("aria-label"))
    matrix, reasons = 3, 6
    assert marks == matrix + reasons + sum(
        bool(twin["assumed"][r["column"]]) for r in twin["trace"]
    )


def test_the_same_study_gives_the_same_bytes_in_any_process(report: Report, tmp_path: Path) -> None:
    study = write_study(tmp_path / "elsewhere", FINALS)
    program = "import sys, pathlib, tapeout.reports as r; r.write_report(pathlib.Path(sys.argv[1]))"
    environment = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", program, str(study)], env=environment, check=True)
    for name in ("report.html", "report.json"):
        assert (study / name).read_bytes() == (report.html.parent / name).read_bytes()


def test_importing_the_package_is_cheap() -> None:
    program = "import sys, tapeout.reports; print(sorted({n.split('.')[0] for n in sys.modules}))"
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    heavy = {"torch", "numpy", "scipy", "matplotlib", "pyarrow", "jinja2", "pydantic"}
    assert not heavy & set(json.loads(told.stdout.replace("'", '"')))


def test_names_of_the_study_cannot_break_the_page(tmp_path: Path) -> None:
    name = '<script>alert("$x$")</script>'
    column = COLUMNS[0] | {"chip": "chips/<b>.toml"}
    finals: Finals = {(name, "ieee-float32"): [0.9, 0.91]}
    study = write_study(tmp_path / "study", finals, name=name, columns=[column])
    page = Page(write_report(study).html.read_text(encoding="utf-8"))
    assert page.count("script") == 0
    assert ("h1", name) in page.texts


def test_a_study_that_has_only_begun_still_has_a_page(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", FINALS)
    for folder in study.iterdir():
        if folder.is_dir():
            folder.rename(tmp_path / folder.name)
    report = write_report(study)
    text = report.html.read_text(encoding="utf-8")
    Page(text)
    assert "24 of 24 runs have not ended" in text
    assert {row.verdict for row in report.rows} == {"REFERENCE", "INCONCLUSIVE"}


def test_what_was_left_out_stands_on_the_page(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", FINALS)
    run = "h100-fp8--lmd--s1--0a1b2c3d"
    for name in ("metrics/step-000050.parquet", "result.json", "run.json"):
        path = study / run / name
        path.write_bytes(path.read_bytes()[:40])
    report = write_report(study)
    page = Page(report.html.read_text(encoding="utf-8"))
    for name in ("metrics/step-000050.parquet", "result.json", "run.json"):
        assert ("code", f"{run}/{name}") in page.texts
    assert ("td", "unreadable") in page.texts
    assert len(json.loads(report.json.read_text())["left_out"]) == 3


def test_a_page_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", {("lmd", "ieee-float32"): [0.9]})
    (study / "report.html").mkdir()
    with pytest.raises(InputError, match=r"report\.html: cannot be written"):
        write_report(study)
    assert not list(study.glob(".writing-*"))


def test_labels_are_moved_apart_but_not_across() -> None:
    heights = [0.5, 0.5, 0.1, 0.52]
    placed = spread_labels(heights, 0.1)
    assert placed[2] == 0.1
    assert placed[2] < placed[0] < placed[1] < placed[3]
    assert all(b - a > 0.1 - 1e-5 for a, b in pairwise(sorted(placed)))
    raised = spread_labels([-0.3, 0.02, 0.9], 0.1, floor=0.05)
    assert raised == pytest.approx([0.05, 0.15, 0.9])


def test_a_drawing_keeps_its_text_as_text() -> None:
    def paint(axes: Axes) -> None:
        axes.set_xlabel("label $x$")

    svg = draw_svg("a b", "T <1>", "D", (100, 50), paint)
    assert ">label $x$</text>" in svg and 'aria-labelledby="a-b-title a-b-desc"' in svg
    assert "T &lt;1&gt;" in svg and "DejaVu" not in svg


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (gap("test_accuracy", -0.0123), "−1.2\u202fpp"),
        (gap("test_accuracy", -0.0001), "0.0\u202fpp"),
        (gap("test_loss", 0.0123), "+0.0123"),
        (quality("test_accuracy", 0.9351), "93.5\u202f%"),
        (quality("test_loss", 0.123456), "0.1235"),
        (quality("test_loss", None), "–"),
        (share(0.0), "0\u202f%"),
        (share(1e-9), "<\u202f0.1\u202f%"),
        (share(0.0123), "1.2\u202f%"),
        (share(0.996), "100\u202f%"),
        (size_in_bytes(1023), "1023\u202fB"),
        (size_in_bytes(205000), "200.2\u202fKiB"),
    ],
)
def test_numbers_read_well(shown: str, text: str) -> None:
    assert shown == text
