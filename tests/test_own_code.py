"""The user's own model and training step: run by workers alone, hashed with what they import."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tapeout.formats import InputError
from tapeout.reports import write_report
from tapeout.scenarios import load_scenario, open_study
from tapeout.scenarios.checkpoint import load_checkpoint
from tapeout.scenarios.execution import execute
from tapeout.scenarios.imports import find_source, load_object, source_digest
from tapeout.scenarios.models import ImportSpec, build_model
from tapeout.scenarios.session import Session
from tapeout.scenarios.study import Study
from tapeout.scenarios.training import train_until

WriteTiny = Callable[..., Path]
VIT = 'kind = "vit"\npatch = 4\nwidth = 16\ndepth = 1\nheads = 2\n'
MODEL = """
from pathlib import Path

import layers

Path(__file__).with_name("imported").write_text("by someone")


def build(width, twice=1):
    return layers.Net(width * twice)


number = 3


def not_a_module():
    return "nothing"
"""
LAYERS = """
import torch


class Net(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner, self.head = torch.nn.Linear(64, width), torch.nn.Linear(width, 10)

    def forward(self, x):
        return self.head(torch.relu(self.inner(x.flatten(1))))
"""
STEP = """
import torch
from torch.nn.functional import cross_entropy


def train(context, batch, scale=1.0):
    seen = context.state.setdefault("seen", torch.zeros(()))
    context.state["seen"] = seen + len(batch)
    data = context.data
    scores = context.model(data.train_inputs[batch])
    loss = cross_entropy(scores, data.train_targets[batch])
    # A step that forgot its state would scale otherwise after a cut.
    context.optimizer.zero_grad()
    (loss * scale * (1 + context.state["seen"] / 64)).backward()
    context.optimizer.step()
    return loss


def plain(context, batch):
    context.optimizer.zero_grad()
    data = context.data
    loss = cross_entropy(context.model(data.train_inputs[batch]), data.train_targets[batch])
    loss.backward()
    context.optimizer.step()
    return loss


def blows_up(context, batch):
    return float("nan")


def forgets(context, batch):
    return None
"""


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with model.py, layers.py and step.py; what was imported from it is forgotten."""
    for name, text in (("model.py", MODEL), ("layers.py", LAYERS), ("step.py", STEP)):
        (tmp_path / name).write_text(text)
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name == "layers" or name.startswith("tapeout_user_"):
            del sys.modules[name]


def own_study(write_tiny: WriteTiny, folder: Path, train: str = "", model: bool = True) -> Study:
    changes = []
    if model:
        own = 'kind = "import"\npath = "model.py:build"\noptions = { width = 12 }\n'
        changes.append((VIT, own))
    if train:
        changes.append(("steps = 5\n", f"steps = 5\n{train}\n"))
    return open_study(write_tiny(folder, *changes), folder / "runs")


def contents(study: Study, number: int) -> dict[str, bytes]:
    place = study.folders[number].path
    files = [p for p in place.rglob("*") if p.is_file() and p.name != "timing.json"]
    return {str(p.relative_to(place)): p.read_bytes() for p in files}


def test_reading_a_scenario_and_a_report_runs_nothing_of_it(
    write_tiny: WriteTiny, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = own_study(write_tiny, folder, 'function = "step.py:train"')
    load_scenario(folder / "tiny.toml")
    write_report(study.path)
    assert not (folder / "imported").exists()
    assert execute(study.runs[0], study.folders[0]).computed
    assert (folder / "imported").read_text() == "by someone"


def test_a_scenario_names_a_package_without_importing_its_parents(folder: Path) -> None:
    package = folder / "wreck"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "net.py").write_text("build = None")
    assert find_source("wreck.net:build", folder) == package / "net.py"
    before = source_digest("wreck.net:build", folder)
    (package / "other.py").write_text("x = 1")
    assert source_digest("wreck.net:build", folder) != before
    assert "wreck" not in sys.modules
    # An installed package is found where Python finds it.
    assert find_source("lion_pytorch.lion_pytorch:Lion", folder).name == "lion_pytorch.py"


def test_an_edit_of_what_the_model_imports_is_another_input(
    write_tiny: WriteTiny, folder: Path
) -> None:
    (folder / "unrelated.py").write_text("x = 1")
    (folder / "weights.bin").write_bytes(b"1")
    spec = ImportSpec.model_validate(
        {"path": "model.py:build", "files": ["weights.bin"]}, context={"folder": folder}
    )
    digests = [spec.digest()]
    for name, text in (
        ("layers.py", LAYERS + "#"),
        ("model.py", MODEL + "#"),
        ("weights.bin", "2"),
    ):
        (folder / name).write_text(text)
        digests.append(spec.digest())
    assert len(set(digests)) == 4
    (folder / "unrelated.py").write_text("x = 2")
    assert spec.digest() == digests[-1]
    first = own_study(write_tiny, folder).folders[0].path.name
    (folder / "layers.py").write_text(LAYERS + "##")
    assert own_study(write_tiny, folder).folders[0].path.name != first


def test_initial_weights_follow_from_the_seed(folder: Path) -> None:
    table = {"path": "model.py:build", "options": {"width": 3, "twice": 2}}
    spec = ImportSpec.model_validate(table, context={"folder": folder})
    weights = [build_model(spec, seed).state_dict()["inner.weight"] for seed in (1, 1, 2)]
    assert weights[0].shape == (6, 64)
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("model.py:biuld", 'has no biuld (did you mean "build"?)'),
        ("model.py:number", "is a int, not a function or class"),
        ("model.py:not_a_module", "returned a str, not a torch.nn.Module"),
    ],
)
def test_a_model_that_is_none_is_refused_by_its_worker(folder: Path, path: str, told: str) -> None:
    spec = ImportSpec.model_validate({"path": path}, context={"folder": folder})
    with pytest.raises(InputError) as refusal:
        build_model(spec, 0)
    assert told in str(refusal.value)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ('path = "absent.py:build"', "absent.py: no such file"),
        ('path = "absent_pkg.mod:build"', "there is no module absent_pkg in"),
        ('path = "model.py"', "string should match pattern"),
        ('path = "math:sin"', "has no Python source to keep a digest of"),
        ('path = "model.py:build"\nfiles = ["absent.bin"]', "absent.bin: no such file"),
    ],
)
def test_a_model_that_is_not_there_is_refused_at_once(
    write_tiny: WriteTiny, folder: Path, model: str, told: str
) -> None:
    path = write_tiny(folder, (VIT, f'kind = "import"\n{model}\n'))
    with pytest.raises(InputError) as refusal:
        load_scenario(path)
    assert told in str(refusal.value)


def test_a_training_step_of_ones_own_equals_the_usual_one(
    write_tiny: WriteTiny, folder: Path
) -> None:
    losses = []
    for train in ("", 'function = "step.py:plain"'):
        study = own_study(write_tiny, folder, train, model=False)
        execute(study.runs[0], study.folders[0])
        losses.append([row["loss"] for row in study.folders[0].rows("metrics")])
    assert losses[0] == losses[1] and len(set(losses[0])) == 5


def test_a_training_step_keeps_its_state_over_a_cut(write_tiny: WriteTiny, folder: Path) -> None:
    train = 'function = "step.py:train"\noptions = { scale = 2.0 }'
    study = own_study(write_tiny, folder, train)
    assert execute(study.runs[1], study.folders[1]).computed
    whole = contents(study, 1)
    folder_of_run = study.folders[1]
    kept = load_checkpoint(folder_of_run.checkpoint(5))["session"]["own_step"]
    assert kept["seen"].item() == 5 * 8
    (folder_of_run.path / "result.json").unlink()
    for step in folder_of_run.checkpoints():
        folder_of_run.checkpoint(step).unlink()

    def stop(step: int, loss: float) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(study.runs[1], study.folders[1], stop)
    assert folder_of_run.checkpoints() and not folder_of_run.result()
    execute(study.runs[1], study.folders[1])
    assert contents(study, 1) == whole
    norms = [row["grad_norm"] for row in study.folders[1].rows("metrics")]
    assert all(norm > 0 for norm in norms)


def test_a_training_step_that_fails_is_told(write_tiny: WriteTiny, folder: Path) -> None:
    study = own_study(write_tiny, folder, 'function = "step.py:blows_up"', model=False)
    result = execute(study.runs[0], study.folders[0]).result
    assert result["status"] == "diverged" and "the loss is not finite" in result["reason"]
    for name, told in (
        ("forgets", "returned a NoneType as the loss of step 1: return one number"),
        ("tain", 'has no tain (did you mean "train"?)'),
        ("torch", "is a module, not a function"),
    ):
        study = own_study(write_tiny, folder, f'function = "step.py:{name}"', model=False)
        with pytest.raises(InputError) as refusal:
            train_until(Session(study.runs[0]), 1, {"metrics": [], "trace": []}, lambda *_: None)
        assert told in str(refusal.value)
    with pytest.raises(InputError, match="options and files are for a function of your own"):
        own_study(write_tiny, folder, "options = { a = 1 }", model=False)


def test_a_file_that_fails_on_import_is_not_half_imported(folder: Path) -> None:
    (folder / "broken.py").write_text("import torch\nraise RuntimeError('not today')")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not today"):
            load_object("broken.py:build", folder)
