"""The page as Chromium shows it: no error, no request, every figure, readable and accessible."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tapeout.reports import Report, write_report
from tapeout.tests.report_samples import sweep_sample, write_sample
from tapeout.tests.test_reports_folders import write_study
from tapeout.tests.test_reports_page import FINALS

sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome")
     if (found := shutil.which(name))), None)  # fmt: skip
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: make browser")
PATIENCE = 300_000  # milliseconds: a loaded machine is slow, not wrong
QUIET = ("no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking",
         "disable-component-update", "disable-sync")  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        options = {"executable_path": CHROMIUM, "args": [f"--{flag}" for flag in QUIET]}
        browser = playwright.chromium.launch(headless=True, **options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A study with everything in it: thresholds, a sweep, learning rates, divergences, spikes."""
    sample = sweep_sample(2, (1.0, 2.0), ("chain", "exact"), ("lmd",))
    return write_report(write_sample(tmp_path_factory.mktemp("swept") / "study", sample))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A study without a sweep or thresholds, with a damaged file and a foreign one."""
    study = write_study(tmp_path_factory.mktemp("plain") / "study", FINALS)
    (study / "notes.txt").write_text("mine")
    (study / "h100-fp8--lmd--s1--0a1b2c3d" / "result.json").write_text("{")
    return write_report(study)


@pytest.mark.parametrize(
    ("which", "width", "scheme"),
    [
        ("swept", 1440, "light"),
        ("swept", 390, "dark"),
        ("plain", 1440, "dark"),
        ("plain", 390, "light"),
    ],
)
def test_the_page_is_whole_quiet_and_accessible(
    browser: Any, which: str, width: int, scheme: str, request: pytest.FixtureRequest
) -> None:
    report: Report = request.getfixturevalue(which)
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda asked: told.append(asked.url) if asked.url[:5] != "file:" else None)
    page.goto(report.html.as_uri())
    assert told == []
    figures = json.loads(report.json.read_text(encoding="utf-8"))["figures"]
    boxes = page.eval_on_selector_all(
        "figure svg", "all => all.map(svg => { const b = svg.getBoundingClientRect();"
        " return [b.width, b.height, svg.querySelectorAll('text').length] })"
    )  # fmt: skip
    assert len(boxes) == len(figures)
    assert all(w > 200 and h > 40 and texts > 2 for w, h, texts in boxes), boxes
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    violations = axe.Axe().run(page).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in violations] == []
    context.close()


def test_values_show_under_the_pointer_and_tables_open(browser: Any, swept: Report) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(swept.html.as_uri())
    spot = page.locator("#comparison svg .spot").first
    assert re.search(r"on \S+: \S+.*, [A-Z ]+$", spot.locator("title").inner_html())
    spot.hover()
    assert spot.evaluate("e => getComputedStyle(e).strokeWidth") == "1px"
    assert spot.evaluate("e => getComputedStyle(e).fill") in ("rgba(0, 0, 0, 0)", "transparent")
    table = page.locator("#comparison details table").first
    assert not table.is_visible()
    page.locator("#comparison summary").first.click()
    assert table.is_visible()
    page.close()


def test_the_first_screen_holds_verdict_numbers_and_picture(browser: Any, swept: Report) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(swept.html.as_uri())
    for selector in (".answer .badge", ".numbers div:nth-child(3) dd", ".hero svg"):
        box = page.locator(selector).first.bounding_box()
        assert box["y"] + box["height"] <= 900, selector
    assert page.locator(".answer .badge").inner_text().endswith("NO-GO")
    page.close()


def test_it_prints(browser: Any, swept: Report, tmp_path: Path) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(swept.html.as_uri())
    printed = page.pdf(path=tmp_path / "report.pdf", format="A4", print_background=False)
    assert printed.startswith(b"%PDF-")
    pages = len(re.findall(rb"/Type\s*/Page\b", printed))
    assert 5 <= pages <= 40
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.close()


@pytest.mark.slow
def test_200_runs_render_in_20_seconds_and_8_megabytes(browser: Any, tmp_path: Path) -> None:
    import time

    study = write_sample(tmp_path / "study", sweep_sample(lr_factors=(1.0,)))
    assert len(list(study.glob("*--*"))) == 200
    start = time.process_time()
    report = write_report(study)
    seconds = time.process_time() - start
    size = report.html.stat().st_size
    print(f"200 runs: {seconds:.1f} s of CPU, {size / 1e6:.2f} MB")
    assert seconds < 20 and size < 8e6
    page = browser.new_page()
    page.goto(report.html.as_uri())
    assert page.evaluate("performance.timing.loadEventEnd > 0")
    page.close()
