"""A run stopped after any step, and worked on by two at once, ends with the same bytes."""

import signal
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from tapeout.formats import InputError
from tapeout.scenarios import Study, open_study, run_study
from tapeout.scenarios.checkpoints import BUDGET, kept
from tapeout.scenarios.engine import ATTEMPTS, Task, make_engine
from tapeout.scenarios.execution import Outcome, execute
from tapeout.scenarios.folder import Busy
from tapeout.scenarios.lanes import LocalEngine
from tapeout.scenarios.training import Stopped
from tapeout.tests.sweeps import Watcher, assert_same_runs, contents, write_study

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two runs of LMD with int4 and loss-scaled float16, nine steps each, without a break."""
    folder = tmp_path_factory.mktemp("whole")
    study = open_study(write_study(folder, seeds=1), folder / "runs")
    for run, place in zip(study.runs, study.folders, strict=True):
        execute(run, place)
    return study


@pytest.mark.parametrize("number", [0, 1])
def test_a_run_stopped_after_every_step_ends_with_the_same_bytes(
    whole: Study, tmp_path: Path, number: int
) -> None:
    study = open_study(write_study(tmp_path, seeds=1), tmp_path / "runs")
    run, folder, steps = study.runs[number], study.folders[number], []

    def report(step: int, loss: float) -> bool:
        steps.append(step)
        return True

    for step in range(1, 9):
        with pytest.raises(Stopped):
            execute(run, folder, report)
        assert steps == list(range(1, step + 1)), "each attempt takes one step and loses none"
        assert folder.checkpoints()[-1] == step and not (folder.path / "result.json").exists()
    assert execute(run, folder, report).computed
    assert contents(folder.path) == contents(whole.folders[number].path)


def test_checkpoints_stay_until_they_are_too_large_then_every_second_goes() -> None:
    assert kept(5, 2, 10) == {2, 4, 5}
    assert kept(6, 2, BUDGET // 2) == {4, 6}
    assert kept(8, 2, BUDGET // 2) == {4, 8}
    assert kept(8, 2, 2 * BUDGET) == {8}
    for size in (1, BUDGET // 7, BUDGET // 3, BUDGET):
        stay: set[int] = set()
        for step in range(2, 400, 2):
            now = kept(step, 2, size)
            assert now <= stay | {step}, "nothing is kept that went before"
            assert (len(now) - 1) * size <= BUDGET
            stay = now


def test_a_run_that_another_process_is_in_comes_later(whole: Study, tmp_path: Path) -> None:
    study = open_study(write_study(tmp_path, seeds=1), tmp_path / "runs")
    run, folder = study.runs[0], study.folders[0]
    with folder.locked():
        with pytest.raises(Busy):
            execute(run, folder, wait=False)
        waiting: list[int] = []

        def report(step: int, loss: float) -> bool:
            waiting.append(step)
            return len(waiting) > 2

        with pytest.raises(Stopped):
            execute(run, folder, report)
        assert waiting == [0, 0, 0], "a run that waits can be stopped"
    assert not folder.checkpoints()
    assert execute(run, folder, wait=False).computed


def test_folder_deleted_while_another_waits_for_it_is_made_again(
    whole: Study, tmp_path: Path
) -> None:
    study = open_study(write_study(tmp_path, seeds=1), tmp_path / "runs")
    folder, moved = study.folders[0], tmp_path / "moved"
    outcome: list[Outcome] = []
    held = folder.locked()
    held.__enter__()
    thread = threading.Thread(
        target=lambda: outcome.append(execute(study.runs[0], folder)), daemon=True
    )
    thread.start()
    time.sleep(0.5)
    folder.path.rename(moved)
    held.__exit__(None, None, None)
    thread.join(60)
    assert outcome[0].computed and not list(moved.iterdir())
    assert contents(folder.path) == contents(whole.folders[0].path)


def test_finished_run_of_another_study_is_taken_over(whole: Study, tmp_path: Path) -> None:
    first = open_study(write_study(tmp_path, seeds=1), tmp_path / "runs")
    execute(first.runs[1], first.folders[1])
    second = open_study(write_study(tmp_path, seeds=2), tmp_path / "runs")
    assert second.path != first.path
    number = next(i for i, r in enumerate(second.runs) if r == first.runs[1])
    outcome = execute(second.runs[number], second.folders[number])
    assert outcome.ending == "found" and not outcome.notes
    assert contents(second.folders[number].path) == contents(whole.folders[1].path)
    # What one study loses, the other keeps.
    victim = second.folders[number].segment("metrics", 4)
    victim.unlink()
    victim.write_bytes(b"damaged")
    assert execute(second.runs[number], second.folders[number]).computed
    for study, index in ((first, 1), (second, number)):
        assert contents(study.folders[index].path) == contents(whole.folders[1].path)


def test_damaged_run_of_another_study_is_not_taken_over(whole: Study, tmp_path: Path) -> None:
    first = open_study(write_study(tmp_path, seeds=1), tmp_path / "runs")
    execute(first.runs[0], first.folders[0])
    segment = first.folders[0].segment("trace", 4)
    segment.write_bytes(segment.read_bytes()[:-1])
    second = open_study(write_study(tmp_path, seeds=2), tmp_path / "runs")
    number = next(i for i, r in enumerate(second.runs) if r == first.runs[0])
    assert execute(second.runs[number], second.folders[number]).ending == "computed"
    assert contents(second.folders[number].path) == contents(whole.folders[0].path)


class DyingLane:
    """A lane whose worker dies as often as it is told."""

    def __init__(self, deaths: int) -> None:
        self.deaths = deaths

    def run(self, task: Task) -> Outcome:
        self.deaths -= 1
        if self.deaths >= 0:
            raise BrokenProcessPool
        return Outcome("computed")

    def close(self) -> None:
        pass


@pytest.mark.parametrize("deaths", [ATTEMPTS - 1, ATTEMPTS])
def test_run_whose_process_keeps_dying_is_given_up_by_name(
    whole: Study, tmp_path: Path, deaths: int
) -> None:
    study = open_study(write_study(tmp_path, seeds=1), tmp_path / "runs")
    engine = LocalEngine(study, 1)
    lane: Any = DyingLane(deaths)
    engine.idle.get()
    engine.idle.put(lane)
    outcome = engine.submit(Task(0, study.runs[0], study.folders[0])).result()
    engine.__exit__(None, None, None)
    assert len(outcome.notes) == ATTEMPTS - 1
    assert "its process died; it continued from its checkpoint" in outcome.notes[0]
    told = f"its process died {ATTEMPTS} times (killed, or out of memory)"
    assert outcome.error == (told if deaths == ATTEMPTS else "")


class Interrupter(Watcher):
    """A display that presses Ctrl-C when the first step is done, and again when told so."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def update(self, progress: Any) -> None:
        super().update(progress)
        stopping = any("stopping after" in note for note in self.notes)
        if any(step for step, _, _ in progress.active.values()) and (self.times == 1 + stopping):
            self.times -= 1 if self.times == 1 else 0
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_saves_the_step_and_the_next_sweep_goes_on_from_it(
    whole: Study, tmp_path: Path
) -> None:
    study = open_study(write_study(tmp_path, seeds=1), tmp_path / "runs")
    display = Interrupter(1)
    with pytest.raises(KeyboardInterrupt):
        run_study(study, display, jobs=1)
    assert "stopping after the steps under way; Ctrl-C again stops at once" in display.notes
    folders = [folder for folder in study.folders if folder.checkpoints()]
    assert folders, "what was done has been saved"
    reached = sum(max(folder.checkpoints()) for folder in folders)
    again = Watcher()
    endings = run_study(study, again, jobs=1)
    assert [ending.error for ending in endings] == ["", ""]
    assert reached < 18 and again.seen[-1].steps_done == 18
    assert_same_runs(study, whole)


def test_unknown_engines_and_missing_devices_are_refused(whole: Study) -> None:
    with pytest.raises(InputError, match=r'engine = "rya" is not one of local, ray.*"ray"'):
        make_engine("rya", whole)
    with pytest.raises(InputError, match="jobs = 0 must be at least 1"):
        make_engine("local", whole, 0)


def test_gpus_that_the_machine_lacks_are_refused(tmp_path: Path) -> None:
    path = write_study(tmp_path, seeds=1, more="[resources]\ngpus = 99\n")
    with pytest.raises(InputError, match=r"resources gpus = 99: torch sees \d+ on this machine"):
        run_study(open_study(path, tmp_path / "runs"), Watcher())


@pytest.mark.slow
def test_resources_change_neither_the_folder_nor_the_bytes(whole: Study, tmp_path: Path) -> None:
    path = write_study(tmp_path, seeds=1, more="[resources]\ncpus = 2\n")
    study = open_study(path, tmp_path / "runs")
    assert study.path.name == whole.path.name and study.resources.cpus == 2
    endings = run_study(study, Watcher(), jobs=1)
    assert [ending.error for ending in endings] == ["", ""]
    assert_same_runs(study, whole)
