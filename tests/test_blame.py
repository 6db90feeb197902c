"""Blame: parts put back to float32, shares of a gap, and planted faults that must be found."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from rich.console import Console
from torch import nn
from torch.nn import functional as F

from tapeout.__main__ import cli
from tapeout.formats import InputError
from tapeout.reports import write_report
from tapeout.reports.blame import judge_blame
from tapeout.reports.blame_record import BlameRecord, read_blames, write_blame
from tapeout.reports.blame_section import make_blame
from tapeout.reports.blame_words import conclude
from tapeout.reports.shares import paired_interval, share_alone, share_explained
from tapeout.reports.study import read_study
from tapeout.scenarios import make_display, run_study
from tapeout.scenarios.blame import (
    Blame,
    Options,
    everything,
    list_ingredients,
    open_blame,
    restore,
)
from tapeout.scenarios.blame.part import Part, operands
from tapeout.scenarios.blame.swap import swap_memory, swap_operands
from tapeout.scenarios.data.digits import DigitsSpec
from tapeout.scenarios.execution import execute
from tapeout.scenarios.frozen import FrozenColumn, read_inputs, thaw
from tapeout.scenarios.hyperparameters import check_optimizer
from tapeout.scenarios.models.mlp import MlpSpec
from tapeout.scenarios.storage import make_folder, write_json
from tapeout.scenarios.study import Run
from tapeout.scenarios.train import TrainSpec
from tapeout.simulator import Chip, Recipe, emulate, load_chip, load_recipe
from tapeout.simulator.matrix import list_paths
from tapeout.tests.culprits import FAULTS, MODELS, freeze_run
from tapeout.tests.test_reports_folders import COLUMNS, Finals, write_study

PAIRS = (
    ("nvidia-h100", "fp8"),
    ("nvidia-h100", "bf16-sr"),
    ("nvidia-b200", "nvfp4"),
    ("generic-int4", "int4"),
    ("amd-mi300x", "deepseek-v3"),
)


class Network(nn.Module):
    """Two layers, an attention, a normalisation."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.norm, self.last = nn.Linear(32, 96), nn.LayerNorm(32), nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.first(x).chunk(3, -1)
        scores: torch.Tensor = self.last(self.norm(x + torch.softmax(q @ k.mT, -1) @ v))
        return scores


def trained(chip: Chip, recipe: Recipe) -> list[torch.Tensor]:
    """The weights after two steps."""
    model = Network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, foreach=False)
    x = torch.randn((4, 8, 32), generator=torch.Generator().manual_seed(0))
    with emulate(chip, recipe, model=model, seed=5):
        for _ in range(2):
            loss = F.cross_entropy(model(x).flatten(0, 1), torch.arange(32) % 4)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


def same(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(("chip", "recipe"), PAIRS)
def test_with_everything_back_a_run_has_the_bits_of_the_reference(chip: str, recipe: str) -> None:
    low = load_chip(chip), load_recipe(recipe)
    reference = trained(load_chip("ieee-float32"), load_recipe("fp32"))
    back = restore(*low, everything(low[1]))
    assert same(trained(back.chip, back.recipe), reference)
    assert not same(trained(*low), reference)
    nothing = restore(*low, frozenset())
    assert (nothing.chip.table, nothing.recipe.table) == (low[0].table, low[1].table)


def test_what_is_not_put_back_stays() -> None:
    chip, recipe = load_chip("nvidia-h100"), load_recipe("fp8")
    back = restore(chip, recipe, operands(["fprop"], ["weight"]))
    before, after = list_paths(chip, recipe), list_paths(back.chip, back.recipe)
    own = after["fprop", "activation", "weight"]
    assert [row.format for row in own.operands] == ["float8_e4m3fn", "float32"]
    assert own.unit.order == before["fprop", "activation", "weight"].unit.order
    assert after["dgrad", "gradient", "weight"] == before["dgrad", "gradient", "weight"]
    assert back.recipe.rows.output == recipe.rows.output and not back.notes
    sums = restore(chip, recipe, frozenset({Part("sums", "dgrad")}))
    path = list_paths(sums.chip, sums.recipe)["dgrad", "gradient", "weight"]
    assert path.unit.order.model_dump(exclude_defaults=True) == {
        "order": "chain", "accumulator": "float32",
    }  # fmt: skip
    assert [row.format for row in path.operands] == ["float8_e5m2", "float8_e4m3fn"]


@pytest.mark.parametrize(("chip", "recipe"), [*PAIRS, ("nvidia-b200", "mxfp4-rht")])
def test_every_ingredient_makes_a_pair_that_fits_together(chip: str, recipe: str) -> None:
    low = load_chip(chip), load_recipe(recipe)
    for ingredient in list_ingredients(low[1], Network()):
        pairs = [ingredient.without(*low), ingredient.alone(*low)]
        for pair in pairs:
            if pair is not None:
                with emulate(pair.chip, pair.recipe, model=Network()):
                    pass
                json.dumps([pair.chip.table, pair.recipe.table], allow_nan=False)


def test_a_group_of_layers_is_put_back_and_left_alone() -> None:
    low = load_chip("nvidia-h100"), load_recipe("fp8")
    (first,) = [i for i in list_ingredients(low[1], Network()) if i.name == "layers-first"]
    alone = first.alone(*low)
    assert alone is not None
    for pair, exempt in ((first.without(*low), "first"), (alone, "last")):
        model = Network()
        with emulate(pair.chip, pair.recipe, model=model) as trace:
            model(torch.randn(2, 8, 32)).square().mean().backward()
        formats = {
            row["module"]: row["format"] for row in trace.take() if row["operand"] == "weight"
        }
        assert formats[exempt] == "float32" and set(formats.values()) != {"float32"}


def test_roundings_are_swapped_where_anything_is_rounded() -> None:
    chip, recipe = load_chip("generic-int4"), load_recipe("int4")
    rows = swap_operands(chip, recipe).recipe
    assert [rows.operand(r, "fprop").rounding for r in ("weight", "activation")] == [
        "stochastic", "stochastic",
    ]  # fmt: skip
    assert rows.operand("gradient").rounding == "nearest_even"
    assert rows.operand("attention") == recipe.operand("attention")
    memory = swap_memory(chip, load_recipe("bf16-sr")).recipe.rows.memory
    assert memory.weight.rounding == "nearest_even" and memory.gradient.rounding == "stochastic"
    assert memory.optimizer["*"].rounding == "stochastic"


def test_shares_are_ratios_of_sums() -> None:
    full, floor = np.array([2.0, 4.0]), np.array([1.0, 1.0])
    assert share_explained(full, floor, np.array([1.5, 1.5])) == pytest.approx(3.0 / 4.0)
    assert share_alone(full, floor, np.array([1.2, 1.4])) == pytest.approx(0.6 / 4.0)
    assert share_explained(floor, floor, floor) is None
    assert paired_interval(share_explained, full[:1], floor[:1], floor[:1]) is None


def test_the_interval_is_that_of_all_resamples() -> None:
    """For three seeds the bootstrap's distribution is known: all 27 drawings."""
    rng = np.random.default_rng(1)
    floor = rng.random(3)
    full, without = floor + 1 + rng.random(3), floor + rng.random(3)
    series = (full, floor, without)
    drawn = [
        share_explained(*(values[list(i)] for values in series))
        for i in product(range(3), repeat=3)
    ]
    interval = paired_interval(share_explained, *series)
    exactly = np.array([share for share in drawn if share is not None])
    assert len(exactly) == 27
    exact = np.quantile(exactly, [0.05, 0.95], method="inverted_cdf")
    assert interval is not None
    spacing = np.diff(np.unique(np.round(exactly, 12))).max()
    assert np.abs(np.array(interval) - exact).max() <= spacing


def freeze_mlp(folder: Path, recipe: dict[str, Any], seed: int = 0) -> Path:
    """A frozen run of a perceptron on the digits."""
    chip, low = load_chip("generic-int4"), load_recipe("bf16", recipe)
    column: Any = FrozenColumn(name="low", chip=chip.table, recipe=low.table)
    optimizer: Any = check_optimizer({"name": "adamw", "lr": 0.01}, 1)
    train = TrainSpec(steps=12, batch=16, probe=16, evaluate_every=12, checkpoint_every=12)
    run = Run(column, optimizer, seed, MlpSpec(widths=(24,)), DigitsSpec(), train)
    make_folder(folder)
    write_json(folder / "run.json", run.inputs(chip, low))
    return folder


def blamed(blame: Blame) -> BlameRecord:
    """All runs of a plan computed in this process, and the ranking."""
    for run, folder in zip(blame.study.runs, blame.study.folders, strict=True):
        execute(run, folder, lambda step, loss: False)
    return judge_blame(blame.study.path)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BlameRecord]:
    folder = tmp_path_factory.mktemp("study") / "low--adamw--s0-00000000"
    folder.mkdir()
    freeze_mlp(folder, {"gradient": {"format": "float4_e2m1fn", "overflow": "saturate"}})
    suspects = ("weight", "gradient", "accumulator", "operand-rounding")
    return folder, blamed(open_blame(folder, Options(seeds=2, only=suspects)))


def test_a_planted_fault_of_a_perceptron_is_found(found: tuple[Path, BlameRecord]) -> None:
    record = found[1]
    assert record.verdict == "guilty" and record.rows[0].name == "gradient"
    explained, alone = record.rows[0].explained, record.rows[0].alone
    assert explained is not None and explained > 0.8 and alone is not None and alone > 0.8
    assert [row.kind for row in record.rows][-1] == "rounding" and record.rows[-1].alone is None
    assert "format of gradient operands" in conclude(record)


def test_the_result_lands_beside_the_run(found: tuple[Path, BlameRecord]) -> None:
    folder, record = found
    write_blame(folder.parent, record)
    write_blame(folder.parent, record)
    assert read_blames(folder.parent) == [record]
    plan = open_blame(folder, Options(seeds=2, only=("gradient",)))
    assert all(one.result() is not None for one in plan.study.folders)  # found again


def test_frozen_inputs_are_all_that_a_run_needs(tmp_path: Path) -> None:
    folder = freeze_mlp(tmp_path / "run", {})
    run = thaw(folder)
    assert run.inputs(*run.column.load()) == read_inputs(folder)
    with pytest.raises(InputError, match="holds no run"):
        thaw(tmp_path)


def test_bad_input_is_refused(tmp_path: Path) -> None:
    folder = freeze_mlp(tmp_path / "run", {})
    for options, words in (
        (Options(only=("gradients",)), "is not an ingredient"),
        (Options(steps=1), "steps = 1"),
        (Options(seeds=0), "seeds = 0"),
    ):
        with pytest.raises(InputError, match=words):
            open_blame(folder, options)
    answer = CliRunner().invoke(cli, ["blame", str(tmp_path)])
    assert isinstance(answer.exception, InputError) and "neither a run" in str(answer.exception)


def test_a_run_in_float32_has_nobody_to_blame(tmp_path: Path) -> None:
    folder = freeze_mlp(tmp_path / "run", {})
    run = thaw(folder)
    column: Any = FrozenColumn(
        name="wide",
        chip=load_chip("ieee-float32").table,
        recipe=load_recipe("fp32").table,
    )
    wide = replace(run, column=column)
    write_json(folder / "run.json", wide.inputs(*column.load()))
    with pytest.raises(InputError, match="nobody to blame"):
        open_blame(folder, Options())


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(tmp_path: Path, model: str, fault: str) -> None:
    blame = open_blame(freeze_run(tmp_path, model, fault), Options(seeds=2))
    endings = run_study(blame.study, make_display(Console(stderr=True)))
    assert not [ending.error for ending in endings if ending.error]
    record = judge_blame(blame.study.path)
    assert record.rows[0].name == FAULTS[fault], conclude(record)
    assert record.verdict in ("guilty", "together")


def test_the_report_names_the_culprit(found: tuple[Path, BlameRecord], tmp_path: Path) -> None:
    finals: Finals = {("adamw", str(row["name"])): [0.9, 0.92] for row in COLUMNS[:2]}
    study = write_study(tmp_path / "study", finals)
    write_blame(study, found[1])
    report = write_report(study)
    twin = json.loads(report.json.read_text(encoding="utf-8"))
    (blame,) = twin["blame"]
    assert blame["rows"][0]["name"] == "gradient" and "To blame" in blame["conclusion"]
    assert "blame-adamw-low" in [figure["name"] for figure in twin["figures"]]
    assert 'id="blame"' in report.html.read_text(encoding="utf-8")
    assert not [o for o in twin["left_out"] if "blame" in o["file"]]


def test_a_damaged_result_is_left_out_with_its_reason(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", {("adamw", "ieee-float32"): [0.9]})
    (study / "blame.json").write_text("{", encoding="utf-8")
    section = make_blame(read_study(study))
    assert not section.blames and "damaged" in section.left_out[0].reason
