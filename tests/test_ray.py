"""The engine on Ray: the same bytes as on local cores, whatever is killed.

Needs the extra `ray`, which `make test-all` installs; skipped elsewhere.
"""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tapeout.formats import InputError
from tapeout.scenarios import Study, open_study, run_study
from tapeout.scenarios.cluster import Place
from tapeout.scenarios.sweep import Ending
from tapeout.tests.processes import descendants, kill
from tapeout.tests.sweeps import Watcher, assert_same_runs, write_study

ray: Any = pytest.importorskip("ray", reason="ray is not installed: make test-all installs it")
pytestmark = pytest.mark.slow
# Read when Ray starts: nobody else's business, and not behind everything else on a busy machine.
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
KILLS = int(os.environ.get("TAPEOUT_RAY_KILLS", "12"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The sweep on the local engine, without a break."""
    folder = tmp_path_factory.mktemp("local")
    study = open_study(write_study(folder, seeds=2, steps=40), folder / "runs")
    assert not [ending.error for ending in run_study(study, Watcher()) if ending.error]
    return study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """The same sweep, not begun."""
    return open_study(write_study(tmp_path, seeds=2, steps=40), tmp_path / "runs")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A Ray of this machine with two cores, and the address under which clients reach it."""
    port = 20000 + os.getpid() % 10000
    line = f"start --head --num-cpus=2 --port=0 --ray-client-server-port={port}"
    line += " --include-dashboard=false --object-store-memory=100000000 --disable-usage-stats"
    ray_command(line)
    yield f"ray://127.0.0.1:{port}"
    ray_command("stop")


def ray_command(line: str) -> None:
    """The command `ray` of this environment."""
    import subprocess
    import sys

    command = [str(Path(sys.executable).parent / "ray"), *line.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ray_of_this_machine_gives_the_bytes_of_the_local_engine(
    study: Study, whole: Study
) -> None:
    watcher = Watcher()
    endings = run_study(study, watcher, jobs=2, engine="ray")
    assert [ending.error for ending in endings] == [""] * 4
    assert_same_runs(study, whole)
    assert any(progress.active for progress in watcher.seen), "the live view sees running runs"
    assert not ray.is_initialized() and not list(study.path.parent.glob(".token-*"))
    again = run_study(study, Watcher(), jobs=2, engine="ray")
    assert {e.outcome.ending for e in again if e.outcome} == {"found"}


class Killer(Watcher):
    """A display that kills a Ray worker now and then."""

    def __init__(self, kills: int, seed: int) -> None:
        super().__init__()
        self.left, self.draw, self.next = kills, random.Random(seed), 0.0

    def update(self, progress: Any) -> None:
        super().update(progress)
        busy = [pid for pid in descendants(os.getpid()) if is_worker(pid)]
        if self.left and busy and time.monotonic() >= self.next:
            kill(self.draw.choice(busy))
            self.left -= 1
            self.next = time.monotonic() + self.draw.uniform(0.0, 4.0)


def is_worker(pid: int) -> bool:
    """Whether a process is a Ray worker inside one of our tasks, or the actor beside them."""
    try:
        name = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return False
    return name.startswith("ray::")


def test_killed_ray_workers_leave_the_same_bytes(study: Study, whole: Study) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    killer = Killer(KILLS, seed)
    endings: list[Ending] = []
    for _ in range(10):
        endings = run_study(study, killer, jobs=2, engine="ray")
        if not any(ending.error for ending in endings):
            break
    print(f"{KILLS - killer.left} Ray workers killed")
    assert [ending.error for ending in endings] == [""] * 4
    assert killer.left < KILLS / 2, "hardly anything was killed"
    assert_same_runs(study, whole)


def test_a_client_of_a_cluster_gives_the_same_bytes(
    study: Study, whole: Study, cluster: str
) -> None:
    endings = run_study(study, Watcher(), engine=cluster)
    assert [ending.error for ending in endings] == [""] * 4
    assert_same_runs(study, whole)
    with pytest.raises(InputError, match="jobs: the cluster decides"):
        run_study(study, Watcher(), 2, engine=cluster)


def test_stopped_on_ray_and_continued_on_local_cores(study: Study, whole: Study) -> None:
    class Interrupter(Watcher):
        def update(self, progress: Any) -> None:
            super().update(progress)
            stopping = any("stopping after" in note for note in self.notes)
            if not stopping and any(step for step, _, _ in progress.active.values()):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(study, Interrupter(), jobs=2, engine="ray")
    begun = [folder for folder in study.folders if folder.checkpoints()]
    assert begun and not all((folder.path / "result.json").exists() for folder in study.folders)
    endings = run_study(study, Watcher())
    assert [ending.error for ending in endings] == [""] * 4
    assert_same_runs(study, whole)


def test_gpus_that_ray_does_not_see_are_refused(tmp_path: Path) -> None:
    path = write_study(tmp_path, seeds=1, more="[resources]\ngpus = 99\n")
    study = open_study(path, tmp_path / "runs")
    with pytest.raises(InputError, match=r"gpus = 99: Ray sees \d+ on this machine"):
        run_study(study, Watcher(), engine="ray")
    assert not ray.is_initialized()


def test_cluster_that_does_not_answer_is_refused(study: Study) -> None:
    with pytest.raises(InputError, match=r'"ray://127\.0\.0\.1:1" cannot be reached'):
        run_study(study, Watcher(), engine="ray://127.0.0.1:1")


def test_node_that_does_not_share_the_folder_says_so(tmp_path: Path) -> None:
    token = tmp_path / ".token"
    place = Place(str(tmp_path), token, "secret")
    with pytest.raises(InputError, match="does not see this folder as the command does"):
        place.enter()
    token.write_text("of another sweep")
    with pytest.raises(InputError, match="a file system that all nodes share"):
        place.enter()
