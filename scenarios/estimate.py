"""What a study will cost, before it starts: runs, multiply-adds, hours on this machine, disk."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from math import ceil
from statistics import fmean
from time import monotonic

from ..formats.errors import InputError
from .data import load_data
from .engine import cores
from .lanes import CONTEXT
from .measurement import Cost, known_cost, measure_cost
from .study import Run, Study

Pair = tuple[str, str]
#: Seconds after which no further column or optimizer is measured, but for the first.
BUDGET = 20.0


@dataclass(frozen=True)
class Estimate:
    """What the runs that have no result yet will cost.

    Attributes:
        runs, finished: all, and those that are done.
        steps: optimizer steps to take.
        macs: multiply-adds of their matrix products; those of evaluations are not counted.
        cpu_seconds: of one core.
        jobs: runs at a time.
        disk_bytes: of checkpoints, metrics and traces.
        measured: columns and optimizers of which a step was measured, now or before, of all.
    """

    runs: int
    finished: int
    steps: int
    macs: float
    cpu_seconds: float
    jobs: int
    disk_bytes: float
    measured: tuple[int, int]

    @property
    def hours(self) -> float:
        """Hours until all are done, if nothing else keeps the cores busy."""
        return self.cpu_seconds / max(1, min(self.jobs, self.runs - self.finished)) / 3600

    def describe(self) -> str:
        """The estimate in a line or two."""
        left = self.runs - self.finished
        if not left:
            return f"{self.runs} runs, all finished: nothing to compute"
        done = f", {self.finished} finished before" if self.finished else ""
        some, every = self.measured
        how = "one step of each column and optimizer"
        if some < every:
            how = f"one step of {some} of {every} columns and optimizers, the others taken alike"
        return (
            f"{self.runs} runs{done}: {self.steps:,} steps, {_si(self.macs)} multiply-adds in "
            f"matrix products, about {told_time(self.hours)} with {self.jobs} at a time, "
            f"{_si(self.disk_bytes)}B on disk; measured: {how}, on this machine"
        )


def estimate_study(
    study: Study, jobs: int | None, note: Callable[[str], None], budget: float = BUDGET
) -> Estimate:
    """Measure what was not measured before, in a process of its own, and add up.

    One step of every column is measured with the first optimizer, and of every optimizer on the
    first column: an optimizer is taken to add as much on every column as on the first.

    Args:
        jobs: runs at a time; as many as this machine has cores for, if None.
        note: told what is being measured.
        budget: seconds after which columns and optimizers left over are taken to cost the mean.

    Raises:
        InputError: a run cannot be started at all; says why.
    """
    pairs = [(run, folder) for run, folder in zip(study.runs, study.folders, strict=True)]
    left = [run for run, folder in pairs if not (folder.path / "result.json").exists()]
    jobs = jobs or max(1, cores() // study.resources.cpus)
    if not left:
        return Estimate(len(pairs), len(pairs), 0, 0.0, 0.0, jobs, 0.0, (0, 0))
    wanted = {_pair(run): run for run in _representatives(left)}
    costs = _costs(wanted, note, budget)
    total = [_total(run, _cost(run, left[0], costs)) for run in left]
    return Estimate(
        len(pairs), len(pairs) - len(left), sum(run.train.steps for run in left),
        sum(t[0] for t in total), sum(t[1] for t in total), jobs, sum(t[2] for t in total),
        (len(costs), len(wanted)),
    )  # fmt: skip


def _pair(run: Run) -> Pair:
    return run.column.name, run.optimizer.name


def _representatives(runs: list[Run]) -> Iterator[Run]:
    """A run of every column with the first optimizer, and of every optimizer in the first."""
    seen, first = set[Pair](), runs[0]
    for run in runs:
        needed = first.optimizer.name == run.optimizer.name or first.column.name == run.column.name
        if needed and _pair(run) not in seen:
            seen.add(_pair(run))
            yield run


def _costs(wanted: dict[Pair, Run], note: Callable[[str], None], budget: float) -> dict[Pair, Cost]:
    """Known costs, and those of as many others as fit into `budget`, the first in any case."""
    found = {pair: cost for pair, run in wanted.items() if (cost := known_cost(run)) is not None}
    missing = {pair: run for pair, run in wanted.items() if pair not in found}
    if not missing:
        return found
    note(f"measuring a step of {len(missing)} columns and optimizers")
    started = monotonic()
    with ProcessPoolExecutor(1, CONTEXT) as pool:
        for number, (pair, run) in enumerate(missing.items()):
            if number == 1:
                started = monotonic()  # the first also loads, or compiles, the kernels
            if found and monotonic() - started > budget:
                break
            try:
                found[pair] = pool.submit(measure_cost, run).result()
            except BrokenProcessPool:
                raise InputError(
                    f"{run.label}: the process that measured its first step died (killed, or out "
                    "of memory)"
                ) from None
            except InputError:
                raise
            except Exception as error:  # of the user's own model or step, too
                told = " ".join(f"{type(error).__name__}: {error}".split())
                raise InputError(f"{run.label}: its first step failed: {told}") from None
    return found


def _cost(run: Run, first: Run, costs: dict[Pair, Cost]) -> Cost:
    """Measured, or the column's plus what the optimizer adds on the first column."""
    column, optimizer = _pair(run)
    if (column, optimizer) in costs:
        return costs[column, optimizer]
    middle = _mean(list(costs.values()))
    alone = costs.get(_pair(first), middle)
    same = costs.get((column, first.optimizer.name), middle)
    other = costs.get((first.column.name, optimizer), alone)
    added = [max(0.0, a + b - c) for a, b, c in zip(same, other, alone, strict=True)]
    return Cost(*added)


def _mean(costs: list[Cost]) -> Cost:
    return Cost(*(fmean(values) for values in zip(*costs, strict=True)))


def _total(run: Run, cost: Cost) -> tuple[float, float, float]:
    """(multiply-adds, seconds, bytes) of a whole run."""
    train = run.train
    traced = ceil(train.steps / train.trace_every)
    evaluations = ceil(train.steps / train.evaluate_every)
    examples = len(load_data(run.data).test_inputs) + train.probe
    seconds = (
        (train.steps - traced) * cost.step
        + traced * cost.traced
        + evaluations * examples * cost.evaluated
    )
    segments = max(traced, ceil(train.steps / train.checkpoint_every))
    return train.steps * cost.macs, seconds, cost.checkpoint + segments * cost.segment


def _si(value: float) -> str:
    """Three digits and a prefix: `1.23 T`."""
    for prefix in ("", "k", "M", "G", "T", "P"):
        if value < 1000:
            return f"{value:.3g} {prefix}"
        value /= 1000
    return f"{value:.3g} E"


def told_time(hours: float) -> str:
    """A time in the unit that suits it."""
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours < 2 else f"{hours:.1f} h"
