"""Runs on disk: same bytes every time, whatever dies on the way and whatever is damaged."""

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
import torch
from torch import nn

from tapeout.formats import InputError
from tapeout.formats.jit import set_threads
from tapeout.scenarios import Study, open_study, run_study
from tapeout.scenarios.checkpoint import load_checkpoint, save_checkpoint
from tapeout.scenarios.data import batch_indices
from tapeout.scenarios.execution import Outcome, execute
from tapeout.scenarios.folder import TABLES, RunFolder
from tapeout.scenarios.lanes import CONTEXT
from tapeout.scenarios.layout import step_of
from tapeout.scenarios.measures import gradient_norm, mean_loss, quality
from tapeout.scenarios.progress import Progress
from tapeout.scenarios.schedule import cosine
from tapeout.scenarios.session import Session
from tapeout.scenarios.storage import DamagedFile, encode_rows, read_rows, write_bytes

WriteTiny = Callable[..., Path]
OTHER = {"timing.json"}  # the only file that may differ between identical runs


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a run by its path, but for the time it took."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in OTHER]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def compute(study: Study, number: int = 0) -> Outcome:
    """Run one run of `study` here and now."""
    return execute(study.runs[number], study.folders[number])


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As the workers do, so that no test waits for another's threads."""
    threads = torch.get_num_threads()
    set_threads(1)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def plain(write_tiny: WriteTiny, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """LMD, whose weights carry noise, on the reference and on INT4; computed without a break."""
    folder = tmp_path_factory.mktemp("plain")
    study = open_study(write_tiny(folder, optimizers="lmd"), folder / "runs")
    for number in range(len(study.runs)):
        assert compute(study, number).computed
    return study


def copy_of(study: Study, folder: Path) -> Study:
    """The same study with its files copied under `folder`."""
    path = folder / study.path.name
    shutil.copytree(study.path, path)
    return Study(path, study.runs, tuple(RunFolder(path / f.path.name) for f in study.folders))


def test_run_folder_holds_what_was_promised(plain: Study) -> None:
    folder = plain.folders[1]
    steps = {table: [path.name for path in folder.segments(table)] for table in TABLES}
    names = ["step-000002.parquet", "step-000004.parquet", "step-000005.parquet"]
    assert steps == dict.fromkeys(TABLES, names) | {"preconditioners": []}  # of Shampoo alone
    assert folder.checkpoints() == [2, 4, 5]
    assert [row["step"] for row in folder.rows("metrics")] == [1, 2, 3, 4, 5]
    assert [row["step"] for row in folder.rows("evaluations")] == [3, 5]
    assert {row["step"] for row in folder.rows("trace")} == {1, 3, 5}
    result = folder.result()
    assert result is not None and result["status"] == "finished" and result["step"] == 5
    assert result["final"]["test_loss"] == folder.rows("evaluations")[-1]["test_loss"]
    assert result["optimizer_state_bytes"] > 0 and any(result["coverage"].values())
    inputs = json.loads((folder.path / "run.json").read_text())
    assert inputs["chip"]["name"] == "generic-int4" and inputs["train"]["steps"] == 5
    record = json.loads((plain.path / "study.json").read_text())
    assert [row["folder"] for row in record["runs"]] == [f.path.name for f in plain.folders]
    assert record["reference"] == "ieee" and set(record["versions"]) >= {"torch", "python"}


def test_columns_differ_so_that_equal_bytes_mean_something(plain: Study) -> None:
    losses = [[row["loss"] for row in folder.rows("metrics")] for folder in plain.folders]
    assert losses[0] != losses[1]


@pytest.mark.parametrize("number", [0, 1])
def test_identical_runs_give_identical_bytes(
    write_tiny: WriteTiny, plain: Study, tmp_path: Path, number: int
) -> None:
    study = open_study(write_tiny(tmp_path, optimizers="lmd"), tmp_path / "again")
    compute(study, number)
    assert contents(study.folders[number].path) == contents(plain.folders[number].path)


def _die_at_write(study: Study, number: int, write: int) -> None:
    """Kill this process with SIGKILL when it is about to rename its `write`-th file."""
    set_threads(1)
    torch.set_num_threads(1)
    rename, count = Path.replace, 0

    def replace(self: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count == write:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(self, target)

    Path.replace = replace  # type: ignore[assignment, method-assign]
    execute(study.runs[number], study.folders[number])


def test_run_killed_again_and_again_ends_with_the_same_bytes(
    write_tiny: WriteTiny, plain: Study, tmp_path: Path
) -> None:
    study = open_study(write_tiny(tmp_path, optimizers="lmd"), tmp_path / "killed")
    folder, deaths = study.folders[1], 0
    # Every attempt survives one write more: inputs, segments, checkpoint, timing, result.
    for write in range(1, 12):
        process = CONTEXT.Process(target=_die_at_write, args=(study, 1, write))
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        deaths += 1
        assert folder.result() is None
    assert deaths >= 4
    assert not list(study.path.rglob(".writing-*"))
    assert contents(folder.path) == contents(plain.folders[1].path)


def test_finished_run_is_not_computed_again(plain: Study, tmp_path: Path) -> None:
    study = copy_of(plain, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in study.path.rglob("*") if path.is_file()}
    outcome = compute(study, 1)
    assert not outcome.computed and outcome.result == plain.folders[1].result()
    assert {p: p.stat().st_mtime_ns for p in study.path.rglob("*") if p.is_file()} == before


def test_changed_input_gets_its_own_folder_and_leaves_the_others_alone(
    write_tiny: WriteTiny, tmp_path: Path
) -> None:
    first = open_study(write_tiny(tmp_path), tmp_path / "runs")
    compute(first)
    before = contents(first.path)
    second = open_study(write_tiny(tmp_path, ("batch = 8", "batch = 4")), tmp_path / "runs")
    compute(second)
    assert second.path != first.path and second.folders[0].path.name != first.folders[0].path.name
    assert contents(first.path) == before
    assert open_study(write_tiny(tmp_path), tmp_path / "runs").path == first.path


DAMAGE = [
    "result.json",
    "run.json",
    "metrics/step-000002.parquet",
    "evaluations/step-000004.parquet",
    "trace/step-000005.parquet",
]


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("how", ["flipped", "truncated"])
def test_damaged_file_is_named(plain: Study, tmp_path: Path, name: str, how: str) -> None:
    folder = copy_of(plain, tmp_path).folders[1]
    damage(folder.path / name, how)
    with pytest.raises(DamagedFile) as fault:
        folder.result()
    assert "\n" not in str(fault.value)
    # A changed run.json shows in the result that was computed from another one.
    assert str(folder.path / name) in str(fault.value) or name == "run.json"


def damage(path: Path, how: str) -> None:
    """Flip the lowest bit of the middle byte, cut the file in half, or delete it."""
    if how == "missing":
        path.unlink()
        return
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    if how == "flipped":
        data[middle] ^= 1
    path.write_bytes(data if how == "flipped" else data[:middle])


@pytest.mark.parametrize("how", ["flipped", "truncated"])
def test_single_files_are_checked_on_their_own(plain: Study, tmp_path: Path, how: str) -> None:
    folder = copy_of(plain, tmp_path).folders[1]
    damage(folder.checkpoint(4), how)
    with pytest.raises(DamagedFile, match=r"step-000004\.safetensors: is damaged"):
        load_checkpoint(folder.checkpoint(4))
    segment = folder.segment("trace", 2)
    rows = [{"step": step, "module": str(step)} for step in range(999)]
    write_bytes(segment, encode_rows(rows, TABLES["trace"]))
    damage(segment, how)
    with pytest.raises(DamagedFile, match=r"trace/step-000002\.parquet: is damaged"):
        read_rows(segment)


UNFINISHED = {
    "checkpoints/step-000005.safetensors": {5},
    "checkpoints/step-000002.safetensors": set(),
    "metrics/step-000002.parquet": {1, 2},
    "trace/step-000004.parquet": {3, 4},
    "evaluations/step-000005.parquet": {5},
    "run.json": set(),
    "result.json": set(),
}


@pytest.mark.parametrize("how", ["flipped", "truncated", "missing"])
@pytest.mark.parametrize("name", UNFINISHED)
def test_damage_is_named_and_only_that_segment_computed_again(
    plain: Study, tmp_path: Path, name: str, how: str
) -> None:
    study = copy_of(plain, tmp_path)
    folder, steps = study.folders[0], set()
    (folder.path / "result.json").unlink()
    if name == "result.json":
        shutil.copy(plain.folders[0].path / name, folder.path / name)
    damage(folder.path / name, how)
    if "checkpoints/step-000002" in name:  # found out only when it is needed
        damage(folder.path / "metrics/step-000004.parquet", "flipped")

    def report(step: int, loss: float) -> None:
        steps.add(step)

    outcome = execute(study.runs[0], folder, report)
    redone = UNFINISHED[name] if "step-000002.s" not in name else {1, 2, 3, 4}
    assert steps == redone and outcome.computed
    told = how == "missing" and "parquet" not in name
    assert told or any(str(folder.path / name) in note for note in outcome.notes)
    assert contents(folder.path) == contents(plain.folders[0].path)


@pytest.mark.parametrize("name", ["metrics/step-000004.parquet", "trace/step-000002.parquet"])
def test_damaged_segment_of_a_finished_run_is_computed_again_from_what_is_left(
    plain: Study, tmp_path: Path, name: str
) -> None:
    study = copy_of(plain, tmp_path)
    folder, steps = study.folders[1], set()
    damage(folder.path / name, "flipped")
    shutil.rmtree(folder.path / "checkpoints")
    write_bytes(folder.segment("metrics", 3), b"a stranger")
    report = lambda step, loss: steps.add(step)  # noqa: E731
    outcome = execute(study.runs[1], folder, report)
    assert steps == set(range(1, step_of(name) + 1)) and outcome.result == plain_result(plain)
    assert "is no segment of this run; deleted" in outcome.notes[0]
    expected = {k: v for k, v in contents(plain.folders[1].path).items() if "checkp" not in k}
    assert contents(folder.path) == expected


def plain_result(plain: Study) -> dict[str, Any] | None:
    """What the run on INT4 came to."""
    return plain.folders[1].result()


def test_checkpoint_keeps_every_kind_of_state(tmp_path: Path) -> None:
    state: dict[Any, Any] = {
        "codes": torch.arange(7, dtype=torch.uint8).reshape(7, 1)[::2],
        "half": torch.tensor([1.5, float("nan")], dtype=torch.bfloat16),
        "step": torch.tensor(3.0),
        "empty": torch.empty(0, 4),
        1: {"1": [None, True, -0.0, float("inf"), 1 << 70], 1: (torch.ones(2),)},
    }
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, state)
    first = path.read_bytes()
    loaded: dict[Any, Any] = load_checkpoint(path)
    save_checkpoint(path, loaded)
    assert path.read_bytes() == first
    assert loaded["codes"].tolist() == [[0], [2], [4], [6]]
    assert loaded["codes"].dtype == torch.uint8 and loaded["half"].dtype == torch.bfloat16
    assert str(loaded[1]["1"]) == str([None, True, -0.0, float("inf"), 1 << 70])
    assert isinstance(loaded[1][1], tuple) and loaded["empty"].shape == (0, 4)


def test_checkpoint_refuses_what_it_could_only_pickle(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"state\.a\.0 is a SimpleNamespace"):
        save_checkpoint(tmp_path / "c.safetensors", {"a": [SimpleNamespace()]})
    assert not list(tmp_path.iterdir())


def test_diverged_run_is_a_result(write_tiny: WriteTiny, tmp_path: Path) -> None:
    path = write_tiny(tmp_path, ('name = "adamw"', 'name = "adamw"\nlr = 1e30'))
    study = open_study(path, tmp_path / "runs")
    outcome = compute(study)
    rows = study.folders[0].rows("metrics")
    assert outcome.result["status"] == "diverged"
    assert "is not finite" in outcome.result["reason"]
    assert outcome.result["step"] == len(rows) < 5
    assert rows[-1]["loss"] != rows[-1]["loss"] or rows[-1]["grad_norm"] != rows[-1]["grad_norm"]
    assert set(outcome.result["final"].values()) == {None}
    assert not compute(study).computed


def test_evaluating_more_often_does_not_change_what_is_learned(
    write_tiny: WriteTiny, plain: Study, tmp_path: Path
) -> None:
    path = write_tiny(tmp_path, ("evaluate_every = 3", "evaluate_every = 1"), optimizers="lmd")
    study = open_study(path, tmp_path / "runs")
    compute(study, 1)
    assert study.folders[1].rows("metrics") == plain.folders[1].rows("metrics")
    assert len(study.folders[1].rows("evaluations")) == 5


def test_float32_emulation_trains_as_plain_torch_does(plain: Study) -> None:
    """On the reference machine the losses are those of a loop that knows nothing of chips."""
    session = Session(plain.runs[0])
    model, optimizer, data = session.model, session.optimizer, session.data
    losses = []
    for step in range(5):
        optimizer.param_groups[0]["lr"] = session.base_rates[0] * cosine(step, 5, 0)
        batch = batch_indices(0, step, 8, len(data.train_targets))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(
            model(data.train_inputs[batch]), data.train_targets[batch]
        )
        losses.append(loss.item())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    recorded = [row["loss"] for row in plain.folders[0].rows("metrics")]
    # The reference machine sums in its own order: a few ulp a step, not a bit-equal run.
    assert recorded == pytest.approx(losses, rel=1e-4)


def test_measures_equal_torch_and_see_what_is_not_finite() -> None:
    torch.manual_seed(0)
    scores, labels = torch.randn(50, 10, dtype=torch.float64), torch.randint(10, (50,))
    assert mean_loss(scores, labels) == pytest.approx(
        nn.functional.cross_entropy(scores, labels).item(), rel=1e-12
    )
    assert quality(scores, labels)[1] == (scores.argmax(1) == labels).double().mean().item()
    right = scores.argmax(1)
    scores[0, (right[0] + 1) % 10] = float("nan")
    loss, accuracy = quality(scores, right)
    assert loss != loss and accuracy == 49 / 50
    model = nn.Linear(3, 2)
    for p in model.parameters():
        p.grad = torch.full_like(p, 2.0)
    assert gradient_norm(model) == pytest.approx(32**0.5, rel=1e-15)
    model.bias.grad = torch.tensor([1.0, float("inf")])
    assert gradient_norm(model) == float("inf")


class Watcher:
    """A display that keeps what it is told, and may act on it."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.seen: list[Progress] = []
        self.victim: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, at: object) -> None:
        return None

    def note(self, text: str) -> None:
        self.notes.append(text)

    def update(self, progress: Progress) -> None:
        self.seen.append(progress)
        if self.victim is None and any(step > 0 for step, _, _ in progress.active.values()):
            self.victim = next(p.pid for p in multiprocessing.active_children() if p.pid)
            os.kill(self.victim, signal.SIGKILL)


def test_sweep_with_a_killed_worker_ends_with_the_same_bytes(
    write_tiny: WriteTiny, plain: Study, tmp_path: Path
) -> None:
    study = open_study(write_tiny(tmp_path, optimizers="lmd"), tmp_path / "swept")
    watcher = Watcher()
    endings = run_study(study, watcher, jobs=2)
    assert [ending.error for ending in endings] == ["", ""]
    assert watcher.victim is not None and "its process died" in watcher.notes[0]
    assert watcher.seen[-1].steps_done == watcher.seen[-1].steps == 10
    for mine, other in zip(study.folders, plain.folders, strict=True):
        assert contents(mine.path) == contents(other.path)


def test_read_only_folder_and_full_disk_are_refused_by_name(
    write_tiny: WriteTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(InputError, match=r"file/.*: the folder cannot be made: .*--out"):
        open_study(write_tiny(tmp_path), blocked)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"a\.json: cannot be written: No space left on device"):
        write_bytes(tmp_path / "a.json", b"{}")
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "tiny.toml"]
