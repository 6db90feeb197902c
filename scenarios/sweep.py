"""A study's runs, handed to an engine and gathered as they end."""

from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from time import monotonic

from .engine import Engine, Task, make_engine
from .events import require_tensorboard
from .execution import Outcome
from .progress import Display, Progress
from .study import Run, Study

REFRESH = 0.25  # seconds


@dataclass(frozen=True)
class Ending:
    """What became of one run: its outcome, or the reason why there is none."""

    run: Run
    outcome: Outcome | None
    error: str = ""


@dataclass
class Sweep:
    """The runs of a study under way: how many steps are done, and which runs have ended."""

    study: Study
    engine: Engine
    display: Display
    events: bool = False
    arrived: "SimpleQueue[tuple[int, Outcome]]" = field(default_factory=SimpleQueue)
    endings: dict[int, Ending] = field(default_factory=dict)
    steps_ended: int = 0
    steps_found: int = 0

    def submit(self, index: int, wait: bool = False) -> None:
        """Hand run `index` to the engine."""
        run, folder = self.study.runs[index], self.study.folders[index]

        def arrive(done: "Future[Outcome]") -> None:
            error = done.exception()
            told = f"{type(error).__name__}: {error}"
            self.arrived.put((index, Outcome("failed", error=told) if error else done.result()))

        self.engine.submit(Task(index, run, folder, wait, self.events)).add_done_callback(arrive)

    def gather(self, seconds: float) -> None:
        """Note the runs that end within `seconds`; return as soon as one has."""
        limit = monotonic() + seconds
        try:
            self._note(*self.arrived.get(timeout=max(0.0, limit - monotonic())))
            while True:
                self._note(*self.arrived.get_nowait())
        except Empty:
            return

    def progress(self) -> Progress:
        """Where the sweep stands, for the display."""
        runs, active = self.study.runs, self.engine.progress()
        rows = {runs[i].label: (*active[i], runs[i].train.steps) for i in active}
        done = self.steps_ended + sum(step for step, _ in active.values())
        total = sum(run.train.steps for run in runs)
        return Progress(len(self.endings), len(runs), done, total, rows, self.steps_found)

    def _note(self, index: int, outcome: Outcome) -> None:
        run = self.study.runs[index]
        for note in outcome.notes:
            self.display.note(note)
        if outcome.ending == "busy":
            # Another sweep computes it: the others come first, then this one waits for it.
            self.submit(index, wait=True)
            return
        if outcome.ending == "failed":
            self.display.note(f"{run.label} failed: {outcome.error}")
            self.endings[index] = Ending(run, None, outcome.error)
        elif outcome.ending == "stopped":
            self.endings[index] = Ending(run, None, "stopped")
        else:
            self.endings[index] = Ending(run, outcome)
        self.steps_ended += run.train.steps
        self.steps_found += run.train.steps if outcome.ending == "found" else 0


def run_study(
    study: Study,
    display: Display,
    jobs: int | None = None,
    *,
    engine: str = "local",
    tensorboard: bool = False,
) -> list[Ending]:
    """Compute every run of `study` that has no result yet.

    Results do not depend on the engine, on `jobs` or on the order. A run that fails is reported
    and the others go on. Ctrl-C stops every run after the step it is in, with a checkpoint of it;
    a second one stops at once. Started again, each run continues from its last checkpoint.

    jobs: runs at a time; by default as many as the machine has cores for.
    engine: see `make_engine`.
    tensorboard: write TensorBoard event files into the run folders too.

    Raises:
        InputError: `jobs` is below one, or the engine cannot be had.
        KeyboardInterrupt: after all workers have stopped.
    """
    if tensorboard:
        require_tensorboard()
    count = len(study.runs)
    with make_engine(engine, study, jobs) as used, display:
        sweep = Sweep(study, used, display, tensorboard)
        try:
            for index in range(count):
                sweep.submit(index)
            _watch(sweep, count)
        except KeyboardInterrupt:
            _stop(sweep, count)
            raise
    return [sweep.endings[index] for index in range(count)]


def _watch(sweep: Sweep, count: int) -> None:
    while len(sweep.endings) < count:
        sweep.gather(REFRESH)
        sweep.display.update(sweep.progress())


def _stop(sweep: Sweep, count: int) -> None:
    """Let the steps under way end; a second Ctrl-C ends the workers."""
    try:
        sweep.engine.stop()
        sweep.display.note("stopping after the steps under way; Ctrl-C again stops at once")
        _watch(sweep, count)
    except KeyboardInterrupt:
        sweep.engine.kill()
        raise
