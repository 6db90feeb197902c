"""The tutorial's three files, as printed, make a chip that loads, a plan, and runs that end."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from tapeout.__main__ import cli

PAGE = Path(__file__).parent.parent / "docs" / "tutorial.md"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the page's files in it."""
    found = re.findall(r"```(?:toml|python)\n# ([\w.-]+)\n(.*?)```", PAGE.read_text(), re.S)
    assert [name for name, _ in found] == ["my-chip.toml", "net.py", "study.toml"]
    for name, text in found:
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_tutorial_runs_as_printed(folder: Path) -> None:
    shown = CliRunner().invoke(cli, ["chips", "my-chip.toml"])
    assert shown.exit_code == 0 and "cut toward zero" in shown.output
    golden = [
        "vectors",
        "my-chip.toml",
        "1:e4m3,e4m3,float32",
        "--cases",
        "20",
        "--out",
        "operands.vectors",
    ]
    assert CliRunner().invoke(cli, golden).exit_code == 0
    short = ["--set", "train.steps=2", "--set", "train.warmup=0", "--set", "seeds=[0]"]
    run = CliRunner().invoke(cli, ["run", "study.toml", "--json", *short])
    assert run.exit_code == 0, run.output
    document = json.loads(run.stdout)
    assert document["failed"] == [] and Path(document["report"]).is_file()
    columns = [row["column"] for row in document["verdicts"]]
    assert columns == ["float32", "draft-b-fraction_bits-14", "draft-b-fraction_bits-8"]
