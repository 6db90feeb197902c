"""Settings from the command line, sweeps along axes, learning-rate factors, changed chips."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeout.formats import InputError, quantize
from tapeout.scenarios import load_scenario, open_study
from tapeout.scenarios.session import Session
from tapeout.scenarios.settings import apply_settings
from tapeout.scenarios.study import plan_runs
from tapeout.scenarios.training import set_rates
from tapeout.simulator import list_assumptions, load_chip, load_recipe

WriteTiny = Callable[..., Path]
TABLE: dict[str, Any] = {
    "seeds": [0],
    "train": {"steps": 5},
    "optimizers": [{"name": "adamw"}, {"name": "lmd", "lr": 0.1}],
    "columns": [{"name": "a.b", "chip": "x"}],
}


def test_settings_replace_values_and_leave_the_table_alone() -> None:
    before = json.dumps(TABLE)
    changed = apply_settings(
        TABLE,
        ["train.steps=100", "optimizers.lmd.lr=1e-2", "optimizers.1.betas=[0.9, 0.95]",
         "seeds=[0,1]", "train.schedule=constant", 'summary="two words"',
         "thresholds.quality_gap=0.5", 'columns."a.b".override.weight.format=int8'],
    )  # fmt: skip
    assert changed["train"] == {"steps": 100, "schedule": "constant"}
    assert changed["optimizers"] == [
        {"name": "adamw", "betas": [0.9, 0.95]},
        {"name": "lmd", "lr": 0.01},
    ]
    assert changed["seeds"] == [0, 1] and changed["summary"] == "two words"
    assert changed["thresholds"] == {"quality_gap": 0.5}
    assert changed["columns"][0]["override"] == {"weight": {"format": "int8"}}
    assert json.dumps(TABLE) == before


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("train.steps", "is not of the form key=value"),
        ("train..steps=1", '"train..steps" is not a key of the file'),
        ("train.steps=two words", "'two words' is not a TOML value"),
        ("train.steps=1\nseeds=2", "is not a TOML value"),
        ("optimizers.adamww.lr=1", 'optimizers has no "adamww" (did you mean "adamw"?): give one'),
        ("optimizers.3.lr=1", 'has no "3": give one of adamw, lmd, or a number from 1 to 2'),
        ("train.steps.x=1", "train.steps is 5, which holds no x"),
    ],
)
def test_settings_that_lead_nowhere_are_refused(setting: str, told: str) -> None:
    with pytest.raises(InputError) as refusal:
        apply_settings(TABLE, [setting])
    assert told in str(refusal.value)


def test_a_setting_is_checked_as_the_file_is(write_tiny: WriteTiny, tmp_path: Path) -> None:
    path = write_tiny(tmp_path)
    assert load_scenario(path, ["train.steps=7"]).train.steps == 7
    with pytest.raises(InputError) as refusal:
        load_scenario(path, ["train.stepz=7"])
    assert str(refusal.value).startswith(
        'tiny.toml with --set, train stepz: unknown key "stepz" (did you mean "steps"?)'
    )


def test_a_setting_gives_another_address_and_stands_in_the_command(
    write_tiny: WriteTiny, tmp_path: Path
) -> None:
    path = write_tiny(tmp_path)
    plain = open_study(path, tmp_path / "runs")
    changed = open_study(path, tmp_path / "runs", ["optimizers.adamw.lr=0.01", 'summary="a b"'])
    assert plain.path != changed.path
    assert {f.path.name for f in plain.folders}.isdisjoint(f.path.name for f in changed.folders)
    record = json.loads((changed.path / "study.json").read_text())
    assert record["command"] == (
        f"tapeout run {path} --set optimizers.adamw.lr=0.01 --set 'summary=\"a b\"'"
    )
    assert record["settings"] == ["optimizers.adamw.lr=0.01", 'summary="a b"']


SWEEP = """
[sweep]
lr_factors = [0.5, 1, 2]
base = {{ chip = "generic-fp8-sr", recipe = "fp8" }}
{}
"""


def swept(write_tiny: WriteTiny, folder: Path, lines: str) -> Path:
    path = write_tiny(folder)
    path.write_text(path.read_text() + SWEEP.format(lines))
    return path


def test_a_sweep_is_the_product_of_its_axes_and_its_list(
    write_tiny: WriteTiny, tmp_path: Path
) -> None:
    lines = """
axes = { rounding = ["nearest_even", "toward_zero"], promotion = ["own", 64] }
list = [{ recipe = "bf16" }, { random_bits = 8, vector = "sequential" }]
choices = { vector = { sequential = { chip_override = { vector_unit = { reduction = "sequential" } } } } }
"""  # noqa: E501
    scenario = load_scenario(swept(write_tiny, tmp_path, lines))
    columns = {column.name: column for column in scenario.columns}
    assert list(columns) == [
        "ieee", "int4",
        "generic-fp8-sr-fp8-nearest_even-promotion-own",
        "generic-fp8-sr-fp8-nearest_even-promotion-64",
        "generic-fp8-sr-fp8-toward_zero-promotion-own",
        "generic-fp8-sr-fp8-toward_zero-promotion-64",
        "generic-fp8-sr-bf16",
        "generic-fp8-sr-fp8-random_bits-8-sequential",
    ]  # fmt: skip
    both = columns["generic-fp8-sr-fp8-toward_zero-promotion-64"]
    assert both.axes == {"rounding": "toward_zero", "promotion": 64}
    recipe = both.load_recipe()
    assert recipe.operand("weight").rounding == "toward_zero"
    assert {recipe.gemm(name).promote_every for name in ("fprop", "dgrad", "wgrad")} == {64}
    listed = columns["generic-fp8-sr-fp8-random_bits-8-sequential"].load_chip()
    assert listed.conversion_unit.random_bits == 8
    assert listed.vector_unit.reduction == "sequential"
    assert columns["ieee"].axes == {}
    assert len(plan_runs(scenario)) == len(columns) * 3


@pytest.mark.parametrize("order", ["chain", "tree", "exact"])
def test_the_order_axis_changes_the_units_of_layers_and_nothing_else(
    write_tiny: WriteTiny, tmp_path: Path, order: str
) -> None:
    lines = f'axes = {{ order = ["own", "{order}"] }}'
    scenario = load_scenario(swept(write_tiny, tmp_path, lines))
    own, other = (column.load_chip() for column in scenario.columns[2:])
    assert own.table == load_chip("generic-fp8-sr").table
    changed = [(a, b) for a, b in zip(own.matrix_units, other.matrix_units, strict=True) if a != b]
    assert [(b.order, b.promotion, b.split_k, b.k_order) for _, b in changed] == [
        (order, None, None, ())
    ]
    assert "float8_e4m3fn" in changed[0][0].a
    told = list_assumptions(other, load_recipe("fp8"))
    assert any("dot" in line and "chip_override" in line for line in told)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ('axes = { ordr = ["chain"] }', 'axis "ordr" is not one of chip, recipe, format'),
        ('axes = { order = ["chian"] }', 'order = "chian" is not one of chain, tree, exact (did'),
        ('axes = { rounding = ["evn"] }', "sweep column generic-fp8-sr-fp8-evn"),
        ('axes = { rounding = ["up", "up"] }', "must hold values, and each once"),
        ('axis = { rounding = ["up"] }', 'unknown key "axis" (did you mean "axes"?)'),
        ('list = [{ width = "wide" }]\nchoices = { width = { wid = {} } }', 'width = "wide"'),
    ],
)
def test_sweeps_that_mean_nothing_are_refused(
    write_tiny: WriteTiny, tmp_path: Path, lines: str, told: str
) -> None:
    with pytest.raises(InputError) as refusal:
        load_scenario(swept(write_tiny, tmp_path, lines))
    assert told in str(refusal.value) and "\n" not in str(refusal.value)


def test_learning_rate_factors_are_runs_of_their_own(write_tiny: WriteTiny, tmp_path: Path) -> None:
    study = open_study(swept(write_tiny, tmp_path, ""), tmp_path / "runs")
    runs = [run for run in study.runs if run.column.name == "int4"]
    assert [run.lr_factor for run in runs] == [0.5, 1.0, 2.0]
    assert runs[0].label == "int4 adamw seed 0 lr x0.5"
    names = [f.path.name.rpartition("--")[0] for f in study.folders[3:]]
    assert names == ["int4--adamw--s0--lr0.5", "int4--adamw--s0", "int4--adamw--s0--lr2"]
    record = json.loads((study.path / "study.json").read_text())
    assert [row["lr_factor"] for row in record["runs"]] == [0.5, 1.0, 2.0] * 2
    rates = [set_rates(Session(run)) for run in runs]
    assert rates[0] == rates[1] / 2 == rates[2] / 4


def test_thresholds_go_into_the_study_and_are_checked(
    write_tiny: WriteTiny, tmp_path: Path
) -> None:
    path = write_tiny(tmp_path)
    settings = ["thresholds.quality_gap=0.01", "thresholds.baseline=adamw"]
    study = open_study(path, tmp_path / "runs", settings)
    record = json.loads((study.path / "study.json").read_text())
    assert record["thresholds"] == {"quality_gap": 0.01, "baseline": "adamw"}
    for setting, told in (
        ("thresholds.baseline=adam", 'baseline = "adam" is not one of adamw (did you mean'),
        ("thresholds.lr_margin=0.5", "lr_margin needs [sweep] lr_factors"),
        ("sweep.lr_factors=[2, 4]", "must hold 1, on which verdicts rest"),
        ("thresholds.qualty_gap=1", 'did you mean "quality_gap"?'),
    ):
        with pytest.raises(InputError) as refusal:
            load_scenario(path, [setting])
        assert told in str(refusal.value)


def test_a_chip_override_computes_as_a_copy_of_the_file_would() -> None:
    plain = load_chip("nvidia-h100")
    change = {"matrix_units": {"wgmma:e4m3,e4m3,float32": {"dot": {"fraction_bits": 5}}}}
    unit = load_chip("nvidia-h100", change).matrix_unit("e4m3", "e4m3", instruction="wgmma")
    own = plain.matrix_unit("e4m3", "e4m3", instruction="wgmma")
    draw = np.random.default_rng(0)
    a, b = (quantize(draw.standard_normal(s).astype(np.float32), "e4m3")
            for s in ((4, 64), (64, 4)))  # fmt: skip
    assert not np.array_equal(unit.matmul(a, b), own.matmul(a, b))
    assert np.array_equal(unit.matmul(a, b), unit.reference.matmul(a, b))
    assert plain.table == load_chip("nvidia-h100").table  # what was loaded before is not touched


def test_a_chip_override_becomes_an_assumption_of_just_that_value() -> None:
    chip = load_chip("nvidia-h100", {"matrix_units": {"5": {"dot": {"fraction_bits": 20}}}})
    entries = chip.matrix_units[4].values()
    assert entries["dot.fraction_bits"].basis == "assumed"
    assert entries["dot"].basis == load_chip("nvidia-h100").matrix_units[4].values()["dot"].basis


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ({"vectorunit": {}}, 'key = "vectorunit" is not one of matrix_units, vector_unit'),
        ({"vector_unit": {"reductoin": "tree"}}, '(did you mean "reduction"?)'),
        ({"vector_unit": 3}, "vector_unit = 3 is not a table"),
        ({"vector_unit": {"evidence": []}}, "evidence cannot be overridden"),
        ({"matrix_units": {"wgmm": {}}}, '(did you mean "wgmma"?)'),
        ({"matrix_units": {"wgmma": {"output": "float16"}}}, 'key = "output" is not one of dot'),
        ({"matrix_units": {"5": {"dot": {"fraction_bis": 3}}}}, '(did you mean "fraction_bits"?)'),
        ({"matrix_units": {"5": {"dot": {"order": "chain"}}}}, "accumulator: is missing"),
    ],
)
def test_chip_overrides_that_fit_nothing_are_refused(override: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as refusal:
        load_chip("nvidia-h100", override)
    assert "chips/nvidia-h100.toml" in str(refusal.value) and told in str(refusal.value)


def test_paths_start_from_the_folder_of_the_scenario(
    write_tiny: WriteTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, elsewhere = tmp_path / "study", tmp_path / "elsewhere"
    for place in (folder, elsewhere):
        place.mkdir()
    table = Path(load_chip("generic-int4").place)
    chips = Path(__file__).parent.parent / "simulator" / "chips"
    (folder / "mine.toml").write_text((chips / table.name).read_text())
    path = write_tiny(folder, ('chip = "generic-int4"', 'chip = "mine.toml"'))
    monkeypatch.chdir(elsewhere)
    first = open_study(path, tmp_path / "runs")
    assert tomllib.loads(path.read_text())["columns"][1]["chip"] == "mine.toml"
    moved = folder.rename(tmp_path / "moved")
    second = open_study(moved / "tiny.toml", tmp_path / "runs")
    assert [f.path.name for f in first.folders] == [f.path.name for f in second.folders]
