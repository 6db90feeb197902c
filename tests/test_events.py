"""TensorBoard event files: the numbers of the segments, on request and beside what is compared."""

from pathlib import Path
from typing import Any

import pytest

from tapeout.formats import InputError
from tapeout.scenarios import events, open_study
from tapeout.scenarios.execution import execute
from tapeout.scenarios.folder import RunFolder
from tapeout.scenarios.training import Stopped
from tapeout.tests.sweeps import contents, write_study

pytestmark = pytest.mark.usefixtures("one_thread")


def scalars(folder: RunFolder) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard itself reads: step and value by name."""
    accumulator: Any = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard is not installed: make test-all installs it",
    )
    read = accumulator.EventAccumulator(str(folder.path / "tensorboard"))
    read.Reload()
    tags = read.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in tags}


def expected(folder: RunFolder, table: str, name: str) -> list[tuple[int, Any]]:
    """The same from the segments; event files hold float32."""
    return [(row["step"], pytest.approx(row[name], rel=1e-6)) for row in folder.rows(table)]


def test_event_files_hold_what_the_segments_hold(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="make test-all installs it")
    study = open_study(write_study(tmp_path, seeds=1), tmp_path / "runs")
    run, folder = study.runs[1], study.folders[1]
    with pytest.raises(Stopped):
        execute(run, folder, lambda step, loss: step == 6, events=True)
    assert len(scalars(folder)["metrics/loss"]) == 4, "readable before the run has ended"
    execute(run, folder, events=True)
    found = scalars(folder)
    assert found["metrics/loss"] == expected(folder, "metrics", "loss")
    assert found["evaluations/test_loss"] == expected(folder, "evaluations", "test_loss")
    late, plain = study.folders[0], contents(folder.path)
    execute(study.runs[0], late)
    before = contents(late.path)
    assert execute(study.runs[0], late, events=True).ending == "found"
    assert scalars(late)["metrics/lr"] == expected(late, "metrics", "lr")
    assert before.items() <= contents(late.path).items()
    assert all("tensorboard/" in name for name in plain.keys() - {n for n in plain if "step-" in n}
               - {"run.json", "result.json"})  # fmt: skip


def test_missing_package_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    load = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return load(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError, match=r"pip install 'tapeout\[tensorboard\]'"):
        events.require_tensorboard()
