"""The twins of the page: JSON by its published schema, Markdown that a parser reads, the gate."""

import json
import re
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner
from markdown_it import MarkdownIt

from tapeout.__main__ import cli, main
from tapeout.reports import Report, write_report
from tapeout.reports.document import schema_of_report
from tapeout.tests.report_samples import Sample, Truth, sweep_sample, write_sample
from tapeout.tests.test_reports_folders import Finals, write_study

DOCS = Path(__file__).parent.parent / "docs"
Command = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A sweep with thresholds: two columns are enough to have every table filled."""
    whole = sweep_sample(seeds=3, lr_factors=(1.0, 2.0))
    kept = ("ieee-fp32", "h100-fp8", "int4-nearest_even-chain", "int4-toward_zero-tree")
    columns = {name: whole.columns[name] for name in kept}
    sample = Sample(columns, ("lmd",), 3, whole.lr_factors, whole.facts)
    return write_report(write_sample(tmp_path_factory.mktemp("twins") / "study", sample))


def test_the_json_follows_its_schema_and_the_schema_is_closed(report: Report) -> None:
    schema = schema_of_report()
    jsonschema.Draft202012Validator.check_schema(schema)
    content = json.loads(report.json.read_text(encoding="utf-8"))
    jsonschema.validate(content, schema, cls=jsonschema.Draft202012Validator)
    changes: list[dict[str, Any]] = [{"unheard": 1}, {"schema": 2}, {"rows": [{}]}]
    for change in changes:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(content | change, schema)


def test_tapeout_prints_the_schema() -> None:
    printed = CliRunner().invoke(cli, ["schema", "report"])
    assert printed.exit_code == 0 and json.loads(printed.output) == schema_of_report()


def test_a_report_that_has_everything_says_everything(report: Report) -> None:
    content = json.loads(report.json.read_text(encoding="utf-8"))
    assert content["decision"]["overall"] == "NO-GO"
    assert {len(row["criteria"]) for row in content["decision"]["rows"]} == {5}
    assert [row["column"] for row in content["rates"]] == [
        c["name"] for c in content["study"]["columns"]
    ]
    assert content["evidence"][1]["chip"] == "nvidia-h100"
    assert content["evidence"][1]["measured"] > 0 and content["evidence"][1]["assumed"] > 0
    assert {"grid", "pareto", "rates", "signals"} <= {
        figure["name"].split("-")[0] for figure in content["figures"]
    }
    assert content["headline"]["ended"] == content["headline"]["swept"] == 12


def test_the_markdown_holds_every_verdict_in_tables_that_parse(report: Report) -> None:
    text = report.markdown.read_text(encoding="utf-8")
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    titles = [tokens[k + 1].content for k, t in enumerate(tokens) if t.type == "heading_open"]
    assert titles[0] == "sweep-sample: stability report"
    assert {"Verdicts and their reasons", "Go or no go", "Early warnings"} <= set(titles)
    figures = json.loads(report.json.read_text(encoding="utf-8"))["figures"]
    tables = sum(token.type == "table_open" for token in tokens)
    assert tables == len(figures) + 5  # and verdicts, decisions, warnings, rates, evidence
    for row in report.rows:
        assert f"| {row.column}" in text.replace("\\_", "_") and f"| {row.verdict} |" in text
    assert not re.search(r"\n{4,}", text) and "{{" not in text


def test_names_cannot_break_the_markdown(tmp_path: Path) -> None:
    name = "a|b <script> [x](y) `z` *w*"
    study = write_study(tmp_path / "study", {(name, "ieee-float32"): [0.9, 0.91]}, name=name)
    text = write_report(study).markdown.read_text(encoding="utf-8")
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert "<script>" not in html and "<em>" not in html and "<a " not in html
    assert "a|b &lt;script&gt; [x](y) `z` *w*: stability report</h1>" in html


@pytest.fixture
def tapeout(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command line in this process: its exit code and its error stream."""

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["tapeout", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return run


def study_of(folder: Path, verdict: str, **facts: Any) -> Path:
    """A study whose one pair has this verdict."""
    fine: list[float | None] = [0.930, 0.935, 0.940, 0.93]
    finals: dict[str, list[float | None]] = {
        "STABLE": fine,
        "AT RISK": [*fine[:3], None],
        "UNSTABLE": [None] * 4,
        "INCONCLUSIVE": [0.915, 0.935, 0.937, 0.93],
    }
    table: Finals = {("lmd", "ieee-float32"): fine, ("lmd", "h100-fp8"): finals[verdict]}
    return write_study(folder / verdict.lower(), table, **facts)


@pytest.mark.parametrize(
    ("verdict", "stopped"),
    [
        ("STABLE", set()),
        ("INCONCLUSIVE", {"inconclusive"}),
        ("AT RISK", {"inconclusive", "at-risk"}),
        ("UNSTABLE", {"inconclusive", "at-risk", "unstable", "no-go", "undecided"}),
    ],
)
def test_the_gate_stops_at_such_a_verdict_and_at_worse_ones(
    tmp_path: Path, tapeout: Command, verdict: str, stopped: set[str]
) -> None:
    thresholds = {"optimizer_state_ratio": 2.0}
    study = study_of(tmp_path, verdict, thresholds=thresholds)
    write_report(study)
    for gate in ("inconclusive", "at-risk", "unstable", "no-go", "undecided"):
        code, told = tapeout("report", study, "--fail-on", gate)
        assert code == int(gate in stopped), (verdict, gate)
        assert ("stopped by --fail-on: " in told) == (gate in stopped)
    assert tapeout("report", study, "--check")[0] == int(verdict != "STABLE")
    assert tapeout("report", study)[0] == 0


def test_a_gate_that_cannot_close_is_refused(tmp_path: Path, tapeout: Command) -> None:
    code, told = tapeout("report", study_of(tmp_path, "STABLE"), "--fail-on", "no-go")
    assert code == 2 and "states no [thresholds]" in told and told.count("\n") == 1
    code, told = tapeout("report", tmp_path / "stable", "--fail-on", "risky")
    assert code == 2 and "'risky' is not one of" in told


def test_the_workflow_in_the_docs_parses_and_its_commands_exist() -> None:
    text = (DOCS / "ci.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    steps = yaml.safe_load(block)["jobs"]["stability"]["steps"]
    commands = [step["run"] for step in steps if step.get("run", "").startswith("tapeout ")]
    commands += re.findall(r"^tapeout .*$", text, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        name, *arguments = command.partition(">")[0].split()[1:]
        options = {o for p in cli.commands[name].params for o in p.opts}
        assert {a for a in arguments if a.startswith("--")} <= options
        gates = [b for a, b in pairwise(arguments) if a == "--fail-on"]
        assert set(gates) <= {"unstable", "at-risk", "inconclusive", "no-go", "undecided"}


def test_every_word_of_the_gate_is_explained_in_the_docs() -> None:
    text = (DOCS / "ci.md").read_text(encoding="utf-8")
    from tapeout.commands.study import GATES

    assert all(f"| `{gate}` |" in text for gate in GATES)


def test_truths_of_samples_differ() -> None:
    truths = [truth for _, truth in sweep_sample().columns.values()]
    assert len(set(truths)) > 10 and Truth() not in truths
