"""Two runs in lockstep: the step, the module and the operation at which they part."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from tapeout.__main__ import cli
from tapeout.formats import InputError
from tapeout.reports.differences import compare_runs
from tapeout.scenarios.data.digits import DigitsSpec
from tapeout.scenarios.execution import execute
from tapeout.scenarios.folder import RunFolder
from tapeout.scenarios.frozen import FrozenColumn
from tapeout.scenarios.hyperparameters import check_optimizer
from tapeout.scenarios.lockstep import differing_inputs, find_parting
from tapeout.scenarios.models.mlp import MlpSpec
from tapeout.scenarios.storage import make_folder, write_json
from tapeout.scenarios.study import Run
from tapeout.scenarios.train import TrainSpec
from tapeout.simulator import emulate, load_chip, load_recipe
from tapeout.simulator.tracing import Recorder


def make_run(
    chip: str = "generic-int4",
    recipe: dict[str, Any] | None = None,
    seed: int = 0,
    lr: float = 0.01,
) -> tuple[Run, dict[str, Any]]:
    machine, low = load_chip(chip), load_recipe("bf16", recipe)
    column: Any = FrozenColumn(name="low", chip=machine.table, recipe=low.table)
    optimizer: Any = check_optimizer({"name": "adamw", "lr": lr}, 1)
    train = TrainSpec(steps=4, batch=8, probe=8, evaluate_every=4, checkpoint_every=2)
    run = Run(column, optimizer, seed, MlpSpec(widths=(12,)), DigitsSpec(), train)
    return run, run.inputs(machine, low)


def frozen(place: Path, **changes: Any) -> Path:
    """A folder with the inputs of a run, which differ in `changes`."""
    make_folder(place)
    write_json(place / "run.json", make_run(**changes)[1])
    return place


def computed(root: Path, **changes: Any) -> Path:
    """The folder of a run that has been carried out."""
    run, inputs = make_run(**changes)
    folder = RunFolder(root / run.folder_name(inputs))
    execute(run, folder)
    return folder.path


def test_a_run_does_not_part_from_itself(tmp_path: Path) -> None:
    a, b = frozen(tmp_path / "a"), frozen(tmp_path / "b")
    assert find_parting(a, b, 2) is None and differing_inputs(a, b) == []


def test_operands_rounded_otherwise_part_at_their_first_product(tmp_path: Path) -> None:
    a = frozen(tmp_path / "a")
    b = frozen(tmp_path / "b", recipe={"weight": {"format": "e4m3", "overflow": "saturate"}})
    found = find_parting(a, b, 1)
    assert found is not None and found.same_operands and found.same_operation
    assert (found.step, found.part, found.module, found.op, found.gemm) == (
        1, "forward", "layers.0", "addmm", "fprop",
    )  # fmt: skip
    assert found.values == 8 * 12 and 0 < found.differing <= found.values
    assert found.relative is not None and 1e-4 < found.relative < 0.1


def test_gradients_rounded_otherwise_part_backward(tmp_path: Path) -> None:
    """The last layer is zero at first, so dgrad of step 1 is, too: its wgrad tells them apart."""
    a = frozen(tmp_path / "a")
    row = {"format": "float8_e5m2", "overflow": "saturate"}
    b = frozen(tmp_path / "b", recipe={"gradient": row})
    found = find_parting(a, b, 1)
    assert found is not None and (found.part, found.module, found.gemm) == (
        "backward", "layers.1", "wgrad",
    )  # fmt: skip
    assert found.same_operands


def test_another_rate_parts_in_the_optimizer(tmp_path: Path) -> None:
    a, b = frozen(tmp_path / "a"), frozen(tmp_path / "b", lr=0.02)
    found = find_parting(a, b, 2)
    assert found is not None and (found.step, found.part) == (1, "optimizer step")
    assert differing_inputs(a, b) == ["optimizer.lr"]


def test_what_is_stored_otherwise_differs_before_it_is_multiplied(tmp_path: Path) -> None:
    a = frozen(tmp_path / "a")
    b = frozen(tmp_path / "b", recipe={"memory": {"weight": {"format": "e4m3"}}})
    found = find_parting(a, b, 1)
    assert found is not None and found.module == "layers.0" and not found.same_operands


def test_a_recorder_changes_no_bit_and_excludes_the_watch() -> None:
    ends = []
    for recorder in (None, Recorder()):
        torch.manual_seed(0)
        layer = torch.nn.Linear(4, 4)
        chip, recipe = load_chip("generic-fp8-sr"), load_recipe("fp8")
        with emulate(chip, recipe, model=layer, seed=2, recorder=recorder):
            torch.softmax(layer(torch.ones(2, 4)), -1)[:, 0].sum().backward()  # type: ignore[no-untyped-call]
        assert layer.weight.grad is not None
        ends.append(layer.weight.grad.clone())
    assert torch.equal(*ends) and recorder is not None
    assert [o.op for o in recorder.operations][:2] == ["addmm", "_softmax"]
    with pytest.raises(InputError, match="exclude each other"):
        with emulate(chip, recipe, recorder=Recorder(), stop_at_nonfinite=True):
            pass


def test_the_command_compares_two_runs(tmp_path: Path) -> None:
    a = computed(tmp_path)
    b = computed(tmp_path, recipe={"gradient": {"format": "float8_e5m2", "overflow": "saturate"}})
    assert compare_runs(a, a, 0.0).first is None
    assert compare_runs(a, b, 0.0).first == 1  # by the gradient norm
    answer = CliRunner().invoke(cli, ["compare", str(a), str(b), "--json"], catch_exceptions=False)
    content = json.loads(answer.stdout)
    (pair,) = content["pairs"]
    assert pair["first"] == 1 and pair["steps"] == 4 and pair["status"] == ["finished", "finished"]
    assert content["differing_inputs"] == ["recipe.gradient"]
    assert content["parting"]["gemm"] == "wgrad" and content["parting"]["step"] == 1
    words = CliRunner().invoke(cli, ["compare", str(a), str(b)], catch_exceptions=False).stdout
    assert "part at step 1, backward: layers.1" in " ".join(words.split())


def test_places_that_are_no_runs_are_refused(tmp_path: Path) -> None:
    a = frozen(tmp_path / "a")
    for b, words in ((tmp_path / "none", "neither"), (tmp_path, "neither")):
        answer = CliRunner().invoke(cli, ["compare", str(a), str(b)])
        assert isinstance(answer.exception, InputError) and words in str(answer.exception)


def test_python_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).parent.parent / "docs" / "compare.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    torch.manual_seed(0)
    exec(compile(block, "docs/compare.md", "exec"), {})
    assert capsys.readouterr().out.split() == ["forward", "addmm", "fprop", "True"]
