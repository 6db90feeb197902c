"""The Python of docs/scenarios.md runs as printed, and its TOML is valid."""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tapeout.scenarios import load_scenario
from tapeout.scenarios.axes import AXES
from tapeout.scenarios.data import LOADERS
from tapeout.scenarios.models import MODELS
from tapeout.scenarios.scenario import LIBRARY
from tapeout.scenarios.thresholds import Thresholds

TEXT = (Path(__file__).parent.parent / "docs" / "scenarios.md").read_text()


@pytest.mark.usefixtures("one_thread")
def test_python_of_the_page_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    for block in blocks:
        exec(compile(block, "docs/scenarios.md", "exec"), names)
    printed = capsys.readouterr().out
    assert 'unknown key "stepz" (did you mean "steps"?)' in printed
    assert "0 appears more than once" in printed
    assert "25 fraction bits" in printed
    assert "ieee-fp32 adamw seed 0 finished 4" in printed
    assert "torch.Size" not in printed and "(8,)" in printed
    assert re.search(r"^0\.0\d\d$", printed, re.M)
    assert "spoilt.npz" in printed and "1 of" in printed and "NaN or infinite" in printed
    assert len(blocks) == 4


def test_sweep_of_the_page_is_valid(tmp_path: Path) -> None:
    block = next(b for b in re.findall(r"```toml\n(.*?)```", TEXT, re.S) if "[sweep]" in b)
    path = tmp_path / "page.toml"
    path.write_text((LIBRARY / "quadratic.toml").read_text() + block)
    assert len(load_scenario(path).columns) == 4 + 4 * 2 + 1
    assert tomllib.loads(block)["sweep"]["lr_factors"] == [0.25, 0.5, 1, 2, 4]


def test_page_names_every_kind_axis_and_threshold() -> None:
    kinds = [spec.model_fields["kind"].default for spec in LOADERS]
    for name in (*MODELS, *kinds, *AXES, *Thresholds.model_fields):
        assert f"`{name}`" in TEXT, name
