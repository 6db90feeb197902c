"""SIGKILL at random moments: to a worker, to the process that starts them, to the parent of all.

Times are drawn anew in every session: the figure that pytest prints with a failure repeats them
only roughly, because the machine's own timing decides what a process was doing.
"""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tapeout.scenarios import Study, open_study, run_study
from tapeout.scenarios.execution import execute
from tapeout.tests.processes import descendants, kill, wait_for
from tapeout.tests.sweeps import Watcher, assert_same_runs, write_study


class Command:
    """`tapeout run` in a process of its own, started again after it was killed."""

    def __init__(self, path: Path, out: Path, *options: str) -> None:
        self.line = [sys.executable, "-m", "tapeout", "run", str(path), "--out", str(out)]
        self.line += ["--jobs", "2", *options]
        self.log = (out.parent / "log").open("ab")
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.line, stdout=self.log, stderr=self.log)

    def workers(self) -> list[int]:
        """The processes that compute: children of the server, which is a child of the command."""
        return [
            pid for server in descendants(self.process.pid, 1) for pid in descendants(server, 1)
        ]

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None


def harass(command: Command, kills: int, draw: random.Random) -> dict[str, int]:
    """Kill a process of the sweep `kills` times, or until it has ended; how often which."""
    done = {"worker": 0, "server": 0, "parent": 0}
    while sum(done.values()) < kills and not command.ended:
        wait_for(lambda: command.ended or len(command.workers()) == 2)
        time.sleep(draw.uniform(0.0, 2.0))
        who = draw.choices(list(done), [12, 1, 3])[0]
        if command.ended:
            break
        if who == "parent":
            kill(command.process.pid)
            command.process.wait()
            command.start()
        else:
            targets = command.workers() if who == "worker" else descendants(command.process.pid, 1)
            kill(draw.choice(targets or [0]))
        done[who] += 1
    return done


def sweep_under_fire(folder: Path, path: Path, whole: Study, kills: int) -> dict[str, int]:
    """Let the study be killed all the time, then let it end; its files are those of `whole`."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # shown where the test fails
    command = Command(path, folder / "runs")
    done = harass(command, kills, random.Random(seed))
    if command.process.wait() != 0:  # a run that was killed too often is a run to go on with
        command.start()
        assert command.process.wait() == 0, (folder / "log").read_text()
    study = open_study(path, folder / "runs")
    assert study.path.name == whole.path.name
    assert_same_runs(study, whole)
    assert not list(study.path.rglob(".writing-*"))
    return done


@pytest.mark.usefixtures("one_thread")
def test_killed_workers_and_a_killed_parent_leave_the_same_bytes(tmp_path: Path) -> None:
    path = write_study(tmp_path, seeds=1, steps=60)
    (tmp_path / "whole").mkdir()
    whole = open_study(path, tmp_path / "whole")
    for run, folder in zip(whole.runs, whole.folders, strict=True):
        execute(run, folder)
    command = Command(path, tmp_path / "runs")
    wait_for(lambda: list((tmp_path / "runs").rglob("step-*.safetensors")), 240)
    kill(command.workers()[0])
    time.sleep(0.3)
    assert not command.ended, "the sweep was over before it could be killed"
    kill(command.process.pid)
    assert command.process.wait() == -signal.SIGKILL
    command.start()
    assert command.process.wait(240) == 0, (tmp_path / "log").read_text()
    assert_same_runs(open_study(path, tmp_path / "runs"), whole)


@pytest.mark.slow
def test_fifty_kills_over_a_sweep_leave_the_same_bytes(tmp_path: Path) -> None:
    path = write_study(tmp_path, seeds=8, steps=80, evaluate_every=10, checkpoint_every=8)
    whole = open_study(path, tmp_path / "whole")
    assert not [ending.error for ending in run_study(whole, Watcher()) if ending.error]
    kills = 0
    for number in range(20):
        (folder := tmp_path / str(number)).mkdir()
        done = sweep_under_fire(folder, path, whole, 50 - kills)
        print(f"sweep {number}: killed {done}")
        kills += sum(done.values())
        if kills == 50:
            break
    assert kills == 50


@pytest.mark.slow
def test_two_sweeps_in_one_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = write_study(tmp_path, seeds=4, steps=40)
    whole = open_study(path, tmp_path / "whole")
    assert not [ending.error for ending in run_study(whole, Watcher()) if ending.error]
    both = [Command(path, tmp_path / "runs") for _ in range(2)]
    assert [command.process.wait(600) for command in both] == [0, 0]
    study = open_study(path, tmp_path / "runs")
    assert_same_runs(study, whole)
    assert sorted(p.name for p in study.path.iterdir()) == sorted(
        [f.path.name for f in study.folders] + ["report.html", "report.json", "study.json"]
    )
