"""The machinery of the optimizers' studies: splits, choices, what a killed run leaves behind."""

import json
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from scipy.stats import ttest_1samp

from tapeout.formats.errors import InputError
from tapeout.optimizers.shampoo.options import method_of
from tapeout.simulator import load_recipe
from tapeout.tests.bench.studies import __main__ as command
from tapeout.tests.bench.studies import plan
from tapeout.tests.bench.studies.comparison import Interval, difference, interval, verdict
from tapeout.tests.bench.studies.contenders import CONTENDERS, Contender
from tapeout.tests.bench.studies.page import PAGE, renewed
from tapeout.tests.bench.studies.plan import chosen, final_jobs, missing, tuning_jobs
from tapeout.tests.bench.studies.results import RESULTS, Results
from tapeout.tests.bench.studies.spectra import packed_parameters, spectrum
from tapeout.tests.bench.studies.tasks import TASKS, Task, build, examples
from tapeout.tests.bench.studies.training import ARITHMETICS, train

TINY = replace(TASKS["vit"], steps=3, batch=8, tuning_seeds=(100, 101), seeds=(0, 1))
ADAMW = Contender("adamw", "adamw", {}, {"": {"lr": (0.001, 0.01)}})


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Task:
    """One task of three steps and one optimizer with two settings, in place of all."""
    monkeypatch.setattr(plan, "TASKS", {"vit": TINY})
    monkeypatch.setattr(plan, "CONTENDERS", {"adamw": ADAMW})
    return TINY


def rows_of(x: torch.Tensor) -> set[bytes]:
    return {row.numpy().tobytes() for row in x}


@pytest.mark.parametrize("name", TASKS)
def test_nothing_is_chosen_by_the_test_part(name: str) -> None:
    task = TASKS[name]
    assert not set(task.tuning_seeds) & set(task.seeds)
    whole = examples(task, None)
    fits = []
    for fold in task.tuning_seeds:
        part = examples(task, fold)
        fits.append(part.train_inputs)
        taken = len(part.train_targets) + len(part.test_targets)
        assert taken == len(whole.train_targets)
        assert len(part.test_targets) == pytest.approx(0.2 * taken, rel=0.1)
        seen = rows_of(part.train_inputs) | rows_of(part.test_inputs)
        assert seen == rows_of(whole.train_inputs)
        if name != "gpt":  # a stretch of text may stand in a text twice
            assert not rows_of(part.test_inputs) & rows_of(part.train_inputs)
            assert not seen & rows_of(whole.test_inputs)
    assert not torch.equal(*fits[:2])


@pytest.mark.parametrize("name", TASKS)
def test_every_weight_can_be_multiplied(name: str) -> None:
    model, again, other = (build(TASKS[name], seed) for seed in (3, 3, 4))
    sets = (model.parameters(), again.parameters(), other.parameters())
    differ = 0
    for p, q, r in zip(*sets, strict=True):
        assert bool(p.any())
        assert torch.equal(p, q)
        differ += not torch.equal(p, r)
    gains = sum(bool((p == 1).all()) for p in model.parameters())
    assert differ == len(list(model.parameters())) - gains


def outcome(accuracy: float, loss: float | None, diverged: bool = False) -> dict[str, Any]:
    return {"accuracy": accuracy, "loss": loss, "diverged": diverged}


def fill(results: Results, task: Task, values: dict[float, list[dict[str, Any]]]) -> None:
    jobs = tuning_jobs(task, ADAMW)
    for job in jobs:
        results.add(job, values[job.values["lr"]][task.tuning_seeds.index(job.seed)])


@pytest.mark.parametrize(
    ("low", "high", "best"),
    [
        ([outcome(0.9, 0.3), outcome(0.9, 0.5)], [outcome(0.8, 0.1), outcome(0.8, 0.6)], 0.01),
        ([outcome(0.7, 0.3), outcome(0.7, 0.5)], [outcome(0.8, 0.1), outcome(0.8, 0.8)], 0.001),
        ([outcome(0.2, 2.0)] * 2, [outcome(0.9, 0.1), outcome(0.9, 0.1, True)], 0.001),
        ([outcome(0.2, 2.0)] * 2, [outcome(0.9, 0.1), outcome(0.9, None)], 0.001),
        ([outcome(0.9, None, True)] * 2, [outcome(0.9, None)] * 2, None),
    ],
    ids=["mean", "other mean", "diverged", "no loss", "all diverged"],
)
def test_the_choice(tmp_path: Path, tiny: Task, low: Any, high: Any, best: float | None) -> None:
    results = Results(tmp_path / "rows")
    fill(results, tiny, {0.001: low, 0.01: high})
    choice = chosen(tiny, ADAMW, results)
    assert (choice and choice.setting["lr"]) == best
    jobs = list(final_jobs(tiny, ADAMW, results))
    assert [(job.seed, job.fold, job.values) for job in jobs] == [
        (seed, None, {"lr": best}) for seed in tiny.seeds if best
    ]


def test_no_choice_before_the_grid_is_whole(tmp_path: Path, tiny: Task) -> None:
    results = Results(tmp_path / "rows")
    for job in list(tuning_jobs(tiny, ADAMW))[:-1]:
        results.add(job, outcome(0.5, 1.0))
    assert chosen(tiny, ADAMW, results) is None
    assert list(final_jobs(tiny, ADAMW, results)) == []


def test_an_optimum_at_the_end_of_a_grid_is_told() -> None:
    contender = CONTENDERS["lmd"]
    inner = {"lr": 0.02, "decay": 0.1, "sigma": 0.03}
    assert contender.at_edge(TASKS["vit"], inner) == []
    assert contender.at_edge(TASKS["vit"], inner | {"lr": 0.04}) == ["lr"]


def test_a_cut_run_goes_on_and_runs_nothing_twice(
    tmp_path: Path, tiny: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []

    def counted(*arguments: Any) -> dict[str, Any]:
        ran.append(arguments)
        if len(ran) == 3:
            raise KeyboardInterrupt
        return train(*arguments)

    monkeypatch.setattr(command, "train", counted)
    path = tmp_path / "rows"
    arguments = ["run", "--task", "vit", "--optimizer", "adamw", "--results", str(path)]
    assert CliRunner().invoke(command.main, arguments).exit_code == 1
    assert len(path.read_text().splitlines()) == 2
    with path.open("a") as file:
        file.write('{"key": "cut in the mid')
    assert CliRunner().invoke(command.main, arguments).exit_code == 0
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(ran) == 1 + len(rows) == 1 + 4 + 2
    assert len({row["key"] for row in rows}) == 6
    assert list(missing(Results(path), ["vit"], ["adamw"], 2)) == []
    assert CliRunner().invoke(command.main, arguments).output == ""
    # A row is a function of its job: trained again it is the same.
    job = next(tuning_jobs(tiny, ADAMW))
    again = train(job.task, job.contender, job.values, job.arithmetic, job.fold, job.seed)
    assert rows[0] | again | {"seconds": 0} == rows[0] | {"seconds": 0}


def test_a_damaged_row_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_text('{"key": "a"}\n{"ke\n{"key": "b"}\n')
    with pytest.raises(InputError, match="line 2"):
        Results(path)


def test_a_key_tells_apart_all_that_a_result_depends_on(tiny: Task) -> None:
    first = next(tuning_jobs(tiny, ADAMW))
    others = [
        replace(first, task=replace(tiny, steps=4)),
        replace(first, setting=(("lr", 0.01),)),
        replace(first, contender=Contender("adamw", "adamw", {"eps": 1e-7})),
        replace(first, arithmetic="mxfp6_e3m2"),
        replace(first, fold=None),
        replace(first, seed=101),
    ]
    assert len({job.key() for job in (first, *others)}) == 1 + len(others)
    assert replace(first, contender=Contender("another name", "adamw")).key() == first.key()


def test_intervals() -> None:
    ours, theirs = {0: 98.0, 1: 97.5, 2: 97.0, 9: 0.0}, {2: 96.5, 1: 97.5, 0: 97.1, 5: 1.0}
    found = difference(ours, theirs)
    assert found is not None
    wanted = ttest_1samp([0.9, 0.0, 0.5], 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
    assert found.n == 3
    assert interval([1.0]) == Interval(1.0, -inf, inf, 1)
    assert difference({0: 1.0}, {1: 1.0}) is None
    diverged = interval([1.0, -inf, 2.0])
    assert (diverged.mean, diverged.low, diverged.high) == (-inf, -inf, inf)
    assert verdict(diverged, -0.5) == "open"


@pytest.mark.parametrize(
    ("low", "high", "says"), [(-0.4, 0.3, "yes"), (-0.6, 0.3, "open"), (-2.0, -0.5, "no")]
)
def test_verdicts(low: float, high: float, says: str) -> None:
    assert verdict(Interval(0.0, low, high, 5), -0.5) == says
    assert verdict(Interval(0.0, low, high, 4), -0.5) == "open"


@pytest.mark.parametrize("name", [name for name, row in ARITHMETICS.items() if row])
def test_only_forward_products_are_narrow(name: str) -> None:
    row = ARITHMETICS[name]
    assert row is not None
    recipe = load_recipe(row[1], row[2])
    assert {recipe.operand(role, "fprop").format for role in ("weight", "activation")} == {name}
    backward = [("weight", "dgrad"), ("gradient", "dgrad"), ("activation", "wgrad")]
    backward.append(("gradient", "wgrad"))
    assert {recipe.operand(role, gemm).format for role, gemm in backward} == {"bfloat16"}


def test_narrow_products_reach_the_result(tiny: Task) -> None:
    found = {
        name: train(tiny, ADAMW, {"lr": 0.01}, name, None, 0)["loss"]
        for name in ("float32", "mxfp6_e3m2")
    }
    assert found["float32"] != found["mxfp6_e3m2"]
    assert found["float32"] == pytest.approx(found["mxfp6_e3m2"], rel=0.2)


def test_packed_parameters_of_the_vit() -> None:
    task, contender = TASKS["vit"], CONTENDERS["shampoo cq_ef"]
    model = build(task, 0)
    optimizer = contender.build(task, {"lr": 0.01}, model, 0)
    found = packed_parameters(model, optimizer)
    assert found.orders == [64, 128, 192]
    # Two blocks of (192 + 64 + 128 + 128) x 64; embedding 64 x 16, positions 4 x 64, head 10 x 64.
    assert (found.both, found.one) == (2 * 512 * 64, 64 * (16 + 4 + 10))
    assert found.parameters == sum(p.numel() for p in model.parameters())


def test_spectra_rank_the_storages() -> None:
    task, contender = TASKS["vit"], CONTENDERS["shampoo cq"]
    optimizer = contender.build(task, {"lr": 0.01}, build(task, 0), 0)
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(96, 96, generator=generator)).Q
    matrix = (axes * torch.logspace(0, -3, 96)) @ axes.T
    found = spectrum("", (matrix + matrix.T) / 2, method_of(optimizer.param_groups[0]))
    assert found.nre["float32"] < 0.01 < found.nre["cq"] < found.nre["vq"]
    assert found.ae["cq"] < found.ae["vq"]
    assert (found.order, found.above) == (96, 1.0)


def test_the_page_shows_what_the_rows_say() -> None:
    text = PAGE.read_text("utf-8")
    assert renewed(text, Results(RESULTS)) == text, "python -m tapeout.tests.bench.studies page"
    with pytest.raises(InputError, match="Claims"):
        renewed(text.replace("<!-- table: Claims -->", ""), Results(RESULTS))
