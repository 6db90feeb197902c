"""What a sweep costs beside its runs: `python -m tapeout.tests.bench.sweeps [RUNS]`.

A thousand runs of one step each, then a few longer ones in one lane and in two. On a machine that
others use too the clock says little; so the processor time of every worker is read from /proc, and
the speedup is also given as the lanes' processor times allow it: all work of one lane over the
share of the busier of two.
"""

import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tapeout.scenarios import open_study, run_study
from tapeout.scenarios.progress import Progress

from ..processes import descendants
from ..sweeps import Watcher

SCENARIO = """
name = "cost"
summary = "the smallest model there is"
reference = "ieee"
seeds = {seeds}
tolerance = 1.0

[model]
kind = "mlp"
widths = [8]

[data]
test_fraction = 0.05

[train]
steps = {steps}
batch = 64
evaluate_every = {every}
checkpoint_every = {every}
trace_every = {every}
probe = 64

[[optimizers]]
name = "adamw"

[[columns]]
name = "ieee"
chip = "ieee-float32"
recipe = "fp32"
"""
EVERY = 2.0  # seconds between two looks: reading /proc costs as much as a small run
TICK = os.sysconf("SC_CLK_TCK")


class Meter(Watcher):
    """A display that reads the processor time and the memory of every worker."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[int, float] = {}
        self.memory: list[tuple[int, int]] = []  # (runs done, bytes of the largest worker)
        self.next = 0.0

    def update(self, progress: Progress) -> None:
        if time.monotonic() < self.next and progress.runs_done < progress.runs:
            return
        self.next = time.monotonic() + EVERY
        sizes = []
        for server in descendants(os.getpid(), 1):
            for pid in descendants(server, 1):
                try:
                    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                self.seconds[pid] = (int(stat[11]) + int(stat[12])) / TICK
                sizes.append(int(stat[21]) * os.sysconf("SC_PAGE_SIZE"))
        if sizes:
            self.memory.append((progress.runs_done, max(sizes)))


@dataclass
class Cost:
    """A sweep in figures: seconds by the clock, processor seconds of workers and parent."""

    runs: int
    wall: float
    workers: list[float]
    parent: float
    memory: list[tuple[int, int]] = field(repr=False)

    @property
    def per_run(self) -> float:
        """Processor seconds a run, of all processes, the run's own step and evaluation included."""
        return (sum(self.workers) + self.parent) / self.runs

    def peak(self, first: float, last: float) -> float:
        """The largest worker in MB while the given shares of the runs ended."""
        low, high = first * self.runs, last * self.runs
        return max(size for done, size in self.memory if low <= done <= high) / 1e6


def sweep(runs: int, steps: int, jobs: int) -> Cost:
    """Run a study of `runs` runs in a new folder."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "cost.toml"
        path.write_text(SCENARIO.format(seeds=list(range(runs)), steps=steps, every=steps))
        meter, wall, parent = Meter(), time.monotonic(), time.process_time()
        study = open_study(path, Path(name) / "runs")
        endings = run_study(study, meter, jobs)
        wall, parent = time.monotonic() - wall, time.process_time() - parent
        assert not [ending.error for ending in endings if ending.error]
        return Cost(runs, wall, list(meter.seconds.values()), parent, meter.memory)


def main() -> None:
    """Print the figures."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    cost = sweep(runs, 1, 2)
    print(f"{runs} runs of one step on two cores: {cost.wall / runs:.3f} s a run by the clock,")
    print(f"  {cost.per_run:.3f} s of processor time a run, its step and evaluation included;")
    print(f"  largest worker {cost.peak(0.1, 0.3):.0f} MB at first, {cost.peak(0.7, 1):.0f} MB")
    one, two = sweep(16, 150, 1), sweep(16, 150, 2)
    print(f"16 runs: {one.wall:.1f} s in one lane, {two.wall:.1f} s in two by the clock:")
    print(f"  {one.wall / two.wall:.2f} times as fast; as processor time allows it")
    print(f"  {sum(one.workers) / max(two.workers):.2f} times ({one.workers} and {two.workers} s)")


if __name__ == "__main__":
    main()
