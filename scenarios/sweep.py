"""A study's runs spread over the local cores."""

import os
from collections import Counter, defaultdict
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from statistics import fmean
from time import monotonic

from ..formats.errors import InputError
from .execution import Outcome
from .lanes import Board, Lane, make_board
from .progress import Display, Progress
from .study import Run, Study

#: A run whose worker died (killed, out of memory) is tried this often before it is given up.
ATTEMPTS = 2
REFRESH = 0.25  # seconds


@dataclass(frozen=True)
class Ending:
    """What became of one run: its outcome, or the reason why there is none."""

    run: Run
    outcome: Outcome | None
    error: str = ""


@dataclass
class Sweep:
    """The runs of a study under way: which wait, which are in a lane, which have ended."""

    study: Study
    board: Board
    lanes: list[Lane]
    display: Display
    waiting: list[int]
    busy: dict["Future[Outcome]", tuple[int, Lane, float]] = field(default_factory=dict)
    endings: dict[int, Ending] = field(default_factory=dict)
    deaths: Counter[int] = field(default_factory=Counter)
    started: set[tuple[str, str]] = field(default_factory=set)
    seconds: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))

    def fill_lanes(self) -> None:
        """Start a waiting run in every idle lane, the longest first.

        How long a run takes is the mean of its column and optimizer so far; a pair of which none
        has started goes before all others, so that the last runs to end are short ones.
        """
        used = [lane for _, lane, _ in self.busy.values()]
        for lane in [lane for lane in self.lanes if lane not in used][: len(self.waiting)]:
            index = max(self.waiting, key=self._expected)
            self.waiting.remove(index)
            self.started.add(_pair(self.study.runs[index]))
            future = lane.submit(index, self.study.runs[index], self.study.folders[index])
            self.busy[future] = (index, lane, monotonic())

    def collect(self, future: "Future[Outcome]") -> None:
        """Note how a run ended and free its lane."""
        index, lane, started = self.busy.pop(future)
        run = self.study.runs[index]
        try:
            outcome = future.result()
        except BrokenProcessPool:
            lane.close()
            self._bury(index)
        except (InputError, RuntimeError) as error:
            self.endings[index] = Ending(run, None, str(error))
            self.display.note(f"{run.label} failed: {error}")
        else:
            if outcome.computed:
                self.seconds[_pair(run)].append(monotonic() - started)
            for note in outcome.notes:
                self.display.note(note)
            self.endings[index] = Ending(run, outcome)

    def progress(self) -> Progress:
        """Where the sweep stands, for the display."""
        steps = [run.train.steps for run in self.study.runs]
        active = {index: self.board.read(index) for index, _, _ in self.busy.values()}
        done = sum(steps[i] for i in self.endings) + sum(step for step, _ in active.values())
        rows = {self.study.runs[i].label: (*active[i], steps[i]) for i in sorted(active)}
        return Progress(len(self.endings), len(steps), done, sum(steps), rows)

    def _expected(self, index: int) -> tuple[bool, float]:
        pair = _pair(self.study.runs[index])
        known = self.seconds.get(pair)
        return pair not in self.started, fmean(known) if known else float("inf")

    def _bury(self, index: int) -> None:
        run = self.study.runs[index]
        self.deaths[index] += 1
        if self.deaths[index] < ATTEMPTS:
            self.waiting.append(index)
            self.display.note(f"{run.label}: its process died; it continues from its checkpoint")
        else:
            reason = f"its process died {ATTEMPTS} times (killed, or out of memory)"
            self.endings[index] = Ending(run, None, reason)
            self.display.note(f"{run.label} failed: {reason}")


def run_study(study: Study, display: Display, jobs: int | None = None) -> list[Ending]:
    """Compute every run of `study` that has no result yet, `jobs` at a time, one core each.

    Results do not depend on `jobs` or on the order. A run that fails is reported and the others
    go on. Ctrl-C stops every run after the step it is in; started again, each continues from its
    last checkpoint.

    Raises:
        InputError: `jobs` is below one.
        KeyboardInterrupt: after all workers have stopped.
    """
    jobs = cores() if jobs is None else jobs
    if jobs < 1:
        raise InputError(f"jobs = {jobs} must be at least 1")
    count = len(study.runs)
    board = make_board(count)
    lanes = [Lane(board) for _ in range(min(jobs, count))]
    sweep = Sweep(study, board, lanes, display, list(range(count)))
    try:
        with display:
            while sweep.waiting or sweep.busy:
                sweep.fill_lanes()
                done, _ = wait(sweep.busy, REFRESH, FIRST_COMPLETED)
                for future in done:
                    sweep.collect(future)
                display.update(sweep.progress())
    except KeyboardInterrupt:
        board.stop()
        display.note("stopping after the steps under way")
        wait(sweep.busy)
        raise
    finally:
        for lane in lanes:
            lane.close()
    return [sweep.endings[index] for index in range(count)]


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pair(run: Run) -> tuple[str, str]:
    return run.column.name, run.optimizer.name
