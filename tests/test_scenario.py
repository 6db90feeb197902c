"""What a scenario file may say, and the sentence that refuses everything else."""

import inspect
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from torch import nn, optim

from tapeout.formats import InputError
from tapeout.scenarios import list_scenarios, load_scenario
from tapeout.scenarios.divergence import DivergenceWatch
from tapeout.scenarios.hyperparameters import TABLES
from tapeout.scenarios.models import VitSpec
from tapeout.scenarios.scenario import LIBRARY
from tapeout.scenarios.study import plan_runs
from tapeout.scenarios.train import DivergenceRule

WriteTiny = Callable[..., Path]
REFUSED = {
    'chip = "generic-int5"': (
        'chip = "generic-int4"',
        [
            "columns 2",
            "generic-int5",
            "is not one of",
            "ieee-float32",
            '(did you mean "generic-int4"?)',
        ],
    ),
    'recipe = "int44"': (
        'recipe = "int4"',
        ["columns 2", "int44", "is not one of", "fp32", '(did you mean "int4"?)'],
    ),
    'recipe = "int4"\noverride = { rounding = "nearest_evn" }': (
        'recipe = "int4"',
        ["columns 2", "nearest_evn", '(did you mean "nearest_even"?)'],
    ),
    'recipe = "fp8"\noverride = { substitute = false }': (
        'recipe = "int4"',
        ["tiny.toml, columns 2: ", "generic-int4", "no matrix unit for float8_e4m3fn"],
    ),
    'name = "adamww"': (
        'name = "adamw"',
        [
            f'tiny.toml, optimizers: table 1 name = "adamww" is not one of {", ".join(TABLES)} '
            '(did you mean "adamw"?)'
        ],
    ),
    'nam = "adamw"': (
        'name = "adamw"',
        [f"optimizers: table 1 has no name: add name = one of {', '.join(TABLES)}"],
    ),
    'name = "adamw"\nweight_dekay = 0.1': (
        'name = "adamw"',
        [
            'tiny.toml, optimizers: table 1 (adamw), weight_dekay: unknown key "weight_dekay" '
            '(did you mean "weight_decay"?); known keys: name, lr, betas, eps, weight_decay'
        ],
    ),
    'name = "adamw"\nlr = nan': (
        'name = "adamw"',
        ["tiny.toml, optimizers: table 1 (adamw), lr = nan: input should be a finite number"],
    ),
    'kind = "vitt"': (
        'kind = "vit"',
        [
            'model kind = "vitt" is not one of vit, gpt, mlp, resnet, quadratic, import '
            '(did you mean "vit"?)'
        ],
    ),
    "widht = 16": ("width = 16", ['model vit widht: unknown key "widht" (did you mean "width"?)']),
    "width = 17": (
        "width = 16",
        ["tiny.toml, model vit: width = 17 is not divisible by heads = 2"],
    ),
    "patch = 4\nimage_size = 16": (
        "patch = 4",
        ["tiny.toml, train: the model's image_size = 16 does not fit the digits: set 8"],
    ),
    "patch = 4\nclasses = 9": (
        "patch = 4",
        ["tiny.toml, train: the model's classes = 9 are fewer than the digits have: set 10"],
    ),
    "steps = 0": (
        "steps = 5",
        ["tiny.toml, train steps = 0: input should be greater than or equal to 1"],
    ),
    'steps = "5"': ("steps = 5", ["tiny.toml, train steps = '5': input should be a valid integer"]),
    "stepps = 5\nsteps = 5": (
        "steps = 5",
        ['tiny.toml, train stepps: unknown key "stepps" (did you mean "steps"?)'],
    ),
    "steps = 5\nwarmup = 5": (
        "steps = 5",
        ["tiny.toml, train: warmup = 5 must be below steps = 5"],
    ),
    "batch = 1800": ("batch = 8", ["tiny.toml, train: batch = 1800 is more than the "]),
    'steps = 5\nschedule = "cosin"': (
        "steps = 5",
        ['train schedule = "cosin" is not one of cosine, constant (did you mean "cosine"?)'],
    ),
    "seeds = []": ("seeds = [0]", ["tiny.toml, seeds: the list is empty: give at least one"]),
    "seeds = [3, 1, 3]": (
        "seeds = [0]",
        ["tiny.toml, seeds: 3 appears more than once: keep one of each"],
    ),
    'name = "ieee"\nchip = "ieee-float32"\nrecipe = "fp32"\n\n[[columns]]\nname = "ieee"': (
        'name = "ieee"',
        ["tiny.toml, columns: ieee appears more than once: keep one of each"],
    ),
    'name = "../../ieee"': ('name = "ieee"', ["columns 1 name", "../../ieee"]),
    'reference = "ieeee"': (
        'reference = "ieee"',
        [
            'tiny.toml, reference: "ieeee" is not one of the columns ieee, int4 '
            '(did you mean "ieee"?)'
        ],
    ),
    "tolerance = -0.5": ("tolerance = 0.5", ["tiny.toml, tolerance = -0.5"]),
    "test_fraction = 1.5": ("test_fraction = 0.05", ["tiny.toml, data digits test_fraction = 1.5"]),
    "seeds = [0": ("seeds = [0]", ["tiny.toml: is not valid TOML"]),
}


@pytest.mark.parametrize("written", REFUSED)
def test_bad_scenario_is_refused_in_one_sentence(
    write_tiny: WriteTiny, tmp_path: Path, written: str
) -> None:
    correct, told = REFUSED[written]
    with pytest.raises(InputError) as refusal:
        load_scenario(write_tiny(tmp_path, (correct, written)))
    sentence = str(refusal.value)
    assert "\n" not in sentence
    for part in told:
        assert part in sentence


def test_unknown_scenario_and_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as unknown:
        load_scenario("quickstrat")
    assert str(unknown.value) == (
        'scenario = "quickstrat" is not one of digits-vit, quadratic, quickstart '
        '(did you mean "quickstart"?)'
    )
    with pytest.raises(InputError, match=r"absent\.toml: no such file"):
        load_scenario(tmp_path / "absent.toml")


def test_every_fault_is_told_at_once(write_tiny: WriteTiny, tmp_path: Path) -> None:
    path = write_tiny(tmp_path, ("steps = 5", "steps = 0"), ("tolerance = 0.5", "tolerance = -1"))
    with pytest.raises(InputError, match=r"tolerance = -1.*; tiny.toml, train steps = 0"):
        load_scenario(path)


@pytest.mark.parametrize("name", list_scenarios())
def test_library_scenario_loads_and_says_what_its_file_says(name: str) -> None:
    scenario = load_scenario(name)
    table = tomllib.loads((LIBRARY / f"{name}.toml").read_text())
    assert scenario.name == name
    assert scenario.train.steps == table["train"]["steps"]
    assert [column.name for column in scenario.columns] == [c["name"] for c in table["columns"]]


def test_quickstart_is_the_full_study_cut_down_with_no_column_or_optimizer_dropped() -> None:
    full, quick = load_scenario("digits-vit"), load_scenario("quickstart")
    assert quick.columns == full.columns
    assert [o.name for o in quick.optimizers] == [o.name for o in full.optimizers]
    assert len(plan_runs(full)) == 4 * 3 * 5
    assert set(quick.seeds) < set(full.seeds)
    assert quick.train.steps < full.train.steps
    assert isinstance(full.model, VitSpec)
    assert quick.model == full.model and full.model.width >= 64


def test_a_scenario_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_scenario("quickstart").name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("name", TABLES)
def test_options_left_out_are_the_defaults_of_the_class(name: str) -> None:
    table = TABLES[name].model_validate({"name": name})
    built: Any = table.build(nn.Linear(4, 4), seed=7)
    own = inspect.signature(type(built)).parameters
    given = table.model_dump(exclude={"name"})
    assert given == {option: own[option].default for option in given}
    assert isinstance(built, optim.Optimizer)


def test_divergence_is_a_loss_that_is_not_finite_or_stays_too_high() -> None:
    watch = DivergenceWatch(DivergenceRule(factor=2.0, patience=3))
    losses = [1.0, 2.5, 2.5, 2.0, 2.5, 2.5, 2.5]
    verdicts = [watch.loss_verdict(loss) for loss in losses]
    assert verdicts[:-1] == [""] * 6
    assert verdicts[-1] == "the loss stayed above 2 times its first value 1 for 3 steps"
    assert watch.loss_verdict(float("inf")) == "the loss is not finite (inf)"
    assert watch.gradient_verdict(float("nan")) == "the gradient is not finite (nan)"
    assert watch.gradient_verdict(1e30) == ""
