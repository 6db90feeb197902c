"""What a sweep shows while it runs: bars on a terminal, plain lines elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType
from typing import Protocol, Self

import rich.progress as bars
from rich.console import Console
from rich.text import Text

LINE_EVERY = 15.0  # seconds between plain lines
SHOWN = 12  # bars at most: a cluster has more runs under way than a terminal has lines


@dataclass(frozen=True)
class Progress:
    """Runs and steps done of all; `active` holds (steps done, loss, steps) of runs under way.

    `found` are the steps of runs that had ended before.
    """

    runs_done: int
    runs: int
    steps_done: int
    steps: int
    active: Mapping[str, tuple[int, float, int]]
    found: int = 0


class Display(Protocol):
    """Shows the progress of a sweep between `with` and its end."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None: ...
    def update(self, progress: Progress) -> None:
        """Show where the sweep stands."""

    def note(self, text: str) -> None:
        """Say something that must not be overlooked."""


def make_display(console: Console) -> Display:
    """Bars where `console` is a terminal, else a line now and then without control codes."""
    return Bars(console) if console.is_terminal else Lines(console)


class RateColumn(bars.ProgressColumn):
    """Steps a second over the last minutes."""

    def render(self, task: bars.Task) -> Text:
        return Text(_rate(task.speed) if task.speed else "")


class Bars:
    """A bar for the whole sweep and one for each run under way, with its loss and time left."""

    def __init__(self, console: Console) -> None:
        self.bars = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[loss]}"),
            RateColumn(),
            bars.TimeRemainingColumn(),
            console=console,
            speed_estimate_period=300,
        )
        self.total = self.bars.add_task("all runs", loss="", total=None)
        self.tasks: dict[str, bars.TaskID] = {}

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.bars.stop()

    def update(self, progress: Progress) -> None:
        title = f"{progress.runs_done} of {progress.runs} runs"
        self.bars.update(
            self.total, description=title, completed=progress.steps_done, total=progress.steps
        )
        shown = dict(list(progress.active.items())[:SHOWN])
        for label in self.tasks.keys() - shown.keys():
            self.bars.remove_task(self.tasks.pop(label))
        for label, (step, loss, steps) in shown.items():
            if label not in self.tasks:
                self.tasks[label] = self.bars.add_task(label, total=steps, loss="")
            told = f"loss {loss:.3f}" if step else "starting"
            self.bars.update(self.tasks[label], completed=step, loss=told)

    def note(self, text: str) -> None:
        self.bars.console.print(text, highlight=False, markup=False)


@dataclass
class Lines:
    """A line at the start, every quarter of a minute, and at the end."""

    console: Console
    started: float = field(default_factory=monotonic)
    printed: float = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        return None

    def update(self, progress: Progress) -> None:
        now = monotonic()
        if now - self.printed < LINE_EVERY and progress.runs_done < progress.runs:
            return
        self.printed = now
        head = (
            f"{progress.runs_done} of {progress.runs} runs, {_left(progress, now - self.started)}"
        )
        active = list(progress.active.items())[:SHOWN]
        rows = [f"{k} {s}/{n} loss {loss:.3f}" for k, (s, loss, n) in active if s]
        self.note("; ".join([head, *rows]))

    def note(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _left(progress: Progress, elapsed: float) -> str:
    """`34 % of steps, 2.10 steps/s, about 3.2 min left`, from the mean speed so far."""
    done, left = progress.steps_done - progress.found, progress.steps - progress.steps_done
    if not done or elapsed <= 0:
        return "starting"
    share, rate = progress.steps_done / progress.steps, done / elapsed
    return f"{share:.0%} of steps, {_rate(rate)}, about {left / rate / 60:.1f} min left"


def _rate(speed: float) -> str:
    return f"{speed:.{0 if speed >= 100 else 2}f} steps/s"
