"""`tapeout init` and `tapeout schema`: files that are valid as they stand, and run."""

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tapeout.formats import InputError
from tapeout.reports import write_report
from tapeout.scenarios import load_scenario, open_study
from tapeout.scenarios.estimate import Estimate, estimate_study, told_time
from tapeout.scenarios.execution import execute
from tapeout.scenarios.hyperparameters import TABLES
from tapeout.scenarios.measurement import Cost
from tapeout.scenarios.models import VitSpec
from tapeout.scenarios.scenario import LIBRARY, Scenario
from tapeout.scenarios.schema import FILES, json_schema
from tapeout.scenarios.sweeping import SweepTable
from tapeout.scenarios.template import list_templates, render_template, write_template
from tapeout.scenarios.thresholds import Thresholds
from tapeout.scenarios.train import DivergenceRule, TrainSpec
from tapeout.simulator.chip import CHIPS
from tapeout.simulator.recipe import RECIPES

VALIDATORS = {name: jsonschema.Draft202012Validator(json_schema(name)) for name in FILES}
SHIPPED = [
    *(("scenario", path) for path in sorted(LIBRARY.glob("*.toml"))),
    *(("chip", path) for path in sorted(CHIPS.glob("*.toml"))),
    *(("recipe", path) for path in sorted(RECIPES.glob("*.toml"))),
]


def faults(name: str, table: Any) -> list[str]:
    return [error.message for error in VALIDATORS[name].iter_errors(table)]


@pytest.mark.parametrize("name", FILES)
def test_schema_is_one_and_knows_every_file_that_ships(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema(name))
    files = [path for kind, path in SHIPPED if kind == name]
    assert len(files) > 2
    for path in files:
        assert faults(name, tomllib.loads(path.read_text())) == [], path.name


def test_schema_refuses_what_the_reader_refuses() -> None:
    table = tomllib.loads((LIBRARY / "quickstart.toml").read_text())
    wrong: tuple[dict[str, object], ...] = (
        {"train": {"steps": 5, "stepz": 5}},
        {"train": {}},
        {"seed": [1]},
        {"model": {"kind": "vit", "widht": 3}},
        {"model": {"widths": [3]}},
        {"optimizers": [{"name": "adamw", "momentum": 1}]},
        {"optimizers": [{"lr": 1}]},
        {"thresholds": {"quality": 1}},
        {"sweep": {"axis": {}}},
    )
    right: tuple[dict[str, object], ...] = (
        {"model": {"width": 8}},
        {"optimizers": [{"name": "lmd"}]},
    )
    for change in wrong:
        assert faults("scenario", table | change), change
    for change in right:
        assert not faults("scenario", table | change), change


def test_schema_tells_the_defaults_of_the_optimizers_classes() -> None:
    rows = json_schema("scenario")["$defs"]["AdamWTable"]["properties"]
    assert rows["weight_decay"]["default"] == 0.01 and rows["lr"]["default"] == 0.001
    assert json_schema("scenario")["$defs"]["LmdTable"]["required"] == ["name"]
    with pytest.raises(InputError, match=r'schema = "chips" is not one of scenario, chip'):
        json_schema("chips")


@pytest.mark.parametrize("name", list_templates())
def test_template_is_valid_as_it_stands(name: str, tmp_path: Path) -> None:
    paths = write_template(name, tmp_path / "new")
    scenarios = [path for path in paths if path.suffix == ".toml"]
    assert len(scenarios) == (3 if name == "poc" else 1)
    for path in scenarios:
        assert path.read_text().startswith("#:schema scenario.schema.json\n")
        assert faults("scenario", tomllib.loads(path.read_text())) == []
        load_scenario(path)
    assert json.loads((tmp_path / "new" / "scenario.schema.json").read_text())
    scenarios[-1].write_text("mine")
    paths[-1].unlink()
    with pytest.raises(InputError) as refusal:
        write_template(name, tmp_path / "new")
    assert f"{scenarios[-1]}" in str(refusal.value)
    assert "already there, and nothing is overwritten" in str(refusal.value)
    assert scenarios[-1].read_text() == "mine" and not paths[-1].exists()


def test_template_takes_the_candidate_and_refuses_one_that_is_not_there(tmp_path: Path) -> None:
    shutil.copy(CHIPS / "generic-int4.toml", tmp_path / "ours.toml")
    write_template("quickstart", tmp_path, "ours.toml", "int4")
    scenario = load_scenario(tmp_path / "quickstart.toml")
    assert scenario.columns[1].load_chip().name == "generic-int4"
    template: Any = write_template  # called with tuples of arguments of several types
    cases: list[tuple[tuple[Any, ...], str]] = [
        (("quikstart",), '(did you mean "quickstart"?)'),
        (("sweep", tmp_path, "generic-int5"), '(did you mean "generic-int4"?)'),
        (("sweep", tmp_path, "generic-int4", "int44"), '(did you mean "int4"?)'),
    ]
    for arguments, told in cases:
        with pytest.raises(InputError) as refusal:
            template(*(arguments if len(arguments) > 1 else (*arguments, tmp_path)))
        assert told in str(refusal.value)
    assert not (tmp_path / "sweep.toml").exists()


def test_every_key_is_explained_in_the_full_template() -> None:
    lines = render_template("study", "nvidia-h100", "fp8")["study.toml"].splitlines()
    keys = {line.lstrip("# ").partition(" = ")[0] for line in lines if " = " in line}
    keys |= {line.strip("[]").rpartition(".")[2] for line in lines if line.startswith("[")}
    for model in (Scenario, TrainSpec, DivergenceRule, VitSpec, SweepTable, Thresholds):
        names = {row.alias or name for name, row in model.model_fields.items()}
        assert names <= keys, f"{model.__name__}: {sorted(names - keys)}"
    text = "\n".join(lines)
    assert all(name in text for name in TABLES)
    explained = [line for line in lines if " = " in line and not line.startswith("#")]
    bare = [line for line in explained if "#" not in line]
    assert {line.partition(" = ")[0] for line in bare} <= {
        "name", "chip", "recipe", "lr", "weight_decay", "statistics_every", "roots_every",
        "width", "depth", "heads", "channels", "classes", "factor", "patience", "summary",
    }  # fmt: skip


@pytest.mark.usefixtures("one_thread")
def test_smoke_test_of_the_evaluation_runs_end_to_end(tmp_path: Path) -> None:
    write_template("poc", tmp_path, "generic-int4", "int4")
    settings = ["train.steps=2", "train.warmup=0", "train.batch=8", "train.probe=8",
                "data.test_fraction=0.05", "model.width=16", "model.depth=1", "model.heads=2",
                "train.evaluate_every=2", "train.trace_every=2",
                'optimizers=[{ name = "adamw" }]']  # fmt: skip
    study = open_study(tmp_path / "smoke.toml", tmp_path / "runs", settings)
    for run, folder in zip(study.runs, study.folders, strict=True):
        assert execute(run, folder).result["status"] == "finished"
    record = json.loads((study.path / "study.json").read_text())
    assert record["thresholds"] == {"diverged_share": 0.0}
    rows = {row.column: row.verdict for row in write_report(study.path).rows}
    assert rows.keys() == {"ieee-fp32", "candidate"}


def test_estimate_adds_up_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_template("poc", tmp_path)
    study = open_study(tmp_path / "early.toml", tmp_path / "runs")
    first = study.runs[0]
    base = Cost(step=1.0, traced=2.0, evaluated=0.001, macs=10.0, checkpoint=100, segment=10)

    def cost(run: Any) -> Cost:
        slow = 1.0 if run.column.name != first.column.name else 0.0
        more = 5.0 if run.optimizer.name != first.optimizer.name else 0.0
        return base._replace(step=1.0 + slow + more, traced=2.0 + slow + more)

    monkeypatch.setattr("tapeout.scenarios.estimate.known_cost", cost)
    found = estimate_study(study, 2, lambda text: None)
    # 3 optimizers on 2 columns from 3 seeds, 100 steps, every fifth traced, 10 evaluations.
    added = sum(s + o for s in (0.0, 1.0) for o in (0.0, 5.0, 5.0)) * 3
    examples = 359 + 128
    seconds = 18 * (80 * 1.0 + 20 * 2.0 + 10 * examples * 0.001) + 100 * added
    assert (found.runs, found.finished, found.steps) == (18, 0, 1800)
    assert found.cpu_seconds == pytest.approx(seconds)
    assert found.hours == pytest.approx(seconds / 2 / 3600)
    assert found.macs == 18000 and found.disk_bytes == 18 * (100 + 20 * 10)
    assert found.measured == (4, 4)
    told = found.describe()
    assert "18 runs: 1,800 steps, 18 k multiply-adds" in told and "with 2 at a time" in told


def test_estimate_of_what_is_done_is_nothing_and_times_have_units(tmp_path: Path) -> None:
    done = Estimate(4, 4, 0, 0.0, 0.0, 2, 0.0, (0, 0))
    assert done.describe() == "4 runs, all finished: nothing to compute" and done.hours == 0
    assert [told_time(h) for h in (0.01, 0.5, 30)] == ["36 s", "30 min", "30.0 h"]
