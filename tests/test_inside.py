"""What is read off a run from inside: weights, preconditioners, memory; it costs no bit."""

import json
from collections.abc import Callable
from math import degrees
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from tapeout.optimizers import Shampoo, Shampoo4bit
from tapeout.reports import write_report
from tapeout.reports.study import read_study
from tapeout.scenarios import open_study
from tapeout.scenarios.execution import execute
from tapeout.scenarios.inside import BINS, describe_weights, preconditioner_rows, root_errors
from tapeout.scenarios.measures import counting_activations
from tapeout.scenarios.session import Session
from tapeout.scenarios.training import no_rows, train_until
from tapeout.simulator import emulate, load_chip, load_recipe

NAMES = ("weights", "preconditioners", "metrics")


def test_weights_are_described_as_scipy_does() -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(40, 50)).astype(np.float32)
    weights[0, :3] = [0.0, np.inf, np.nan]
    row = describe_weights(weights)
    assert (row["values"], row["zeros"], row["nonfinite"]) == (2000, 1, 2)
    sizes = np.abs(weights[np.isfinite(weights) & (weights != 0)].astype(np.float64))
    logs = np.log(sizes)
    assert row["mean_ln"] == pytest.approx(logs.mean()) and row["std_ln"] == pytest.approx(
        logs.std()
    )
    assert row["ks"] == pytest.approx(
        stats.kstest(logs, "norm", (logs.mean(), logs.std())).statistic
    )
    assert sum(row["counts"]) == len(sizes) and row["bins"] == sorted(row["bins"])
    inside = (np.log2(sizes) * BINS >= row["bins"][-1]).sum()
    assert inside == row["counts"][-1]


def test_lognormal_weights_are_near_and_constant_ones_have_no_distance() -> None:
    rng = np.random.default_rng(0)
    assert describe_weights(rng.lognormal(size=20000))["ks"] < 0.01
    assert describe_weights(rng.normal(size=20000))["ks"] > 0.08
    for weights in (np.full(7, 0.5), np.zeros(4), np.array(3.0)):
        assert describe_weights(weights)["ks"] is None


def test_root_errors_in_closed_form() -> None:
    values = np.array([16.0, 1.0, 1.0 / 16.0])
    exact = np.diag(values**-0.25)
    assert root_errors(np.diag(values), exact, 0.0) == pytest.approx((0.0, 0.0), abs=1e-5)
    nre, angle = root_errors(np.diag(values), 1.5 * exact, 0.0)
    assert nre == pytest.approx(0.5) and angle == pytest.approx(0.0, abs=1e-5)
    other = np.diag([0.5, 1.0, 0.0])  # the exact one is 1/2, 1, 2
    nre, angle = root_errors(np.diag(values), other, 0.0)
    assert nre == pytest.approx(2.0 / 5.25**0.5)
    assert angle == pytest.approx(degrees(np.arccos(1.25 / (5.25 * 1.25) ** 0.5)))
    assert root_errors(np.zeros((2, 2)), np.eye(2), 1e-6) == (None, None)
    assert root_errors(np.diag([1.0, np.nan]), np.eye(2), 1e-6) == (None, None)


@pytest.mark.parametrize("storage", ["float32", "vq", "cq", "cq_ef", "eigen"])
def test_stored_roots_are_held_against_exact_ones(storage: str) -> None:
    """In float32 with eigenvalues the root is exact; 4 bits are a few percent off."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 64, bias=False)
    optimizer = Shampoo(
        layer.parameters(), storage=storage, root="eigh", statistics_every=2, roots_every=4,
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    for step in range(1, 13):
        layer.weight.grad = torch.randn(64, 64)
        optimizer.step()
        rows += [{"step": step} | r for r in preconditioner_rows(optimizer, layer, step, 8)]
    assert [(r["step"], r["side"]) for r in rows] == [
        (4, "left"), (4, "right"), (12, "left"), (12, "right"),
    ]  # fmt: skip
    assert all(r["parameter"] == "weight" and r["order"] == 64 for r in rows)
    worst = max(r["nre"] for r in rows)
    assert worst < 1e-4 if storage == "float32" else 0.005 < worst < 0.5


def test_other_optimizers_have_no_preconditioners() -> None:
    layer = torch.nn.Linear(4, 4)
    adamw = torch.optim.AdamW(layer.parameters())
    assert not list(preconditioner_rows(adamw, layer, 4, 1))
    assert not list(preconditioner_rows(Shampoo4bit(layer.parameters()), layer, 3, 1))


def test_counting_activations_changes_no_bit() -> None:
    weights = []
    for count in (False, True):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 3))
        recipe = load_recipe("fp8")
        used = counting_activations(recipe) if count else recipe
        with emulate(load_chip("generic-fp8-sr"), used, model=model, seed=1) as trace:
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=False)
            for _ in range(2):
                loss = model(torch.ones(4, 8)).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        weights.append([p.detach().clone() for p in model.parameters()])
        roles = [row["role"] for row in trace.memory()]
        assert ("activation" in roles) is count
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, write_tiny: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("inside")
    shampoo = 'name = "shampoo4bit"\nstatistics_every = 2\nroots_every = 2'
    changes = (("steps = 5", "steps = 4"), ('name = "shampoo4bit"', shampoo))
    plan = open_study(write_tiny(folder, *changes, optimizers="lmd shampoo4bit"), folder)
    for run, place in zip(plan.runs, plan.folders, strict=True):
        execute(run, place)
    return plan.path


def test_runs_record_their_inside(study: Path) -> None:
    for run in read_study(study).runs:
        weights = run.series["weights"].to_pylist()
        assert {row["step"] for row in weights} == {1, 3}
        assert {row["parameter"] for row in weights} >= {"embed.weight", "head.weight", "position"}
        roots = run.series["preconditioners"].to_pylist()
        assert {row["step"] for row in roots} == (
            {2, 4} if "shampoo" in run.entry.optimizer else set()
        )
        result = run.result
        assert result is not None and (result.gemm_macs or 0) > 0
        assert result.memory["weight"].bytes == result.memory["weight"].float32_bytes > 0
        assert result.memory["activation"].bytes > 0 and result.optimizer_paper_bytes is not None


def test_the_multiply_adds_are_those_of_the_model(study: Path) -> None:
    """AdamW and LMD multiply no matrices: a step is forward, and twice as much backward."""
    (run,) = [
        r for r in read_study(study).runs if (r.entry.column, r.entry.optimizer) == ("ieee", "lmd")
    ]
    batch, tokens, width, patch, heads = 8, 4, 16, 16, 2
    layers = [
        (patch, width),
        (width, 3 * width),
        (width, width),
        (width, 2 * width),
        (2 * width, width),
    ]
    forward = batch * tokens * sum(a * b for a, b in layers) + batch * width * 10
    attention = 2 * batch * heads * tokens * tokens * (width // heads)
    first = batch * tokens * patch * width  # images need no gradient
    assert run.result is not None
    assert run.result.gemm_macs == 4 * (3 * (forward + attention) - first)


def test_looking_inside_changes_no_bit(
    study: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, write_tiny: Callable[..., Path]
) -> None:
    plan = open_study(write_tiny(tmp_path, optimizers="shampoo4bit"), tmp_path)
    run = next(r for r in plan.runs if r.column.name == "int4")
    ends = []
    for look in (True, False):
        if not look:
            monkeypatch.setattr("tapeout.scenarios.training.look_inside", lambda *args: None)
        session, rows = Session(run), no_rows()
        train_until(session, 4, rows, lambda *args: None)
        assert bool(rows["weights"]) is look
        ends.append((rows["metrics"], session.emulation, session.model.state_dict()))
    assert str(ends[0]) == str(ends[1])


def test_the_report_shows_the_inside(study: Path) -> None:
    report = write_report(study)
    twin = json.loads(report.json.read_text(encoding="utf-8"))
    names = [figure["name"] for figure in twin["figures"]]
    for name in (
        "lognormal-lmd", "weights-lmd-int4", "gradient-norm-lmd", "nre-shampoo4bit",
        "ae-degrees-shampoo4bit", "map-sqnr-lmd-int4", "map-underflow-lmd-int4",
    ):  # fmt: skip
        assert name in names
    roles = {(row["optimizer"], row["role"]) for row in twin["inside"]["memory"]}
    assert {("lmd", "optimizer"), ("shampoo4bit", "activation")} <= roles
    page = report.html.read_text(encoding="utf-8")
    assert 'id="inside"' in page and "Memory by role" in page
