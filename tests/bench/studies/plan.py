"""Which runs there are: a grid on the tuning seeds, and fresh seeds at what the grid chose."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import mean

from .contenders import CONTENDERS, Contender, Setting
from .results import Job, Results
from .tasks import TASKS, Task

#: The comparison under narrow forward products: who, on which tasks, in what, over which seeds.
NARROW_CONTENDERS = ("adamw", "madam", "lmd")
NARROW: tuple[tuple[str, str, int], ...] = (
    ("vit", "mxfp6_e3m2", 5),
    ("gpt", "mxfp6_e3m2", 5),
    ("vit", "mxfp6_e2m3", 5),
)


@dataclass(frozen=True)
class Choice:
    """The setting that a grid chose, and its loss in nats, mean over the folds."""

    setting: Setting
    loss: float
    at_edge: list[str]


def job(
    task: Task,
    contender: Contender,
    setting: Setting,
    seed: int,
    fold: int | None = None,
    arithmetic: str = "float32",
) -> Job:
    """A job with its setting in order."""
    return Job(task, contender, tuple(sorted(setting.items())), arithmetic, fold, seed)


def tuning_jobs(task: Task, contender: Contender) -> Iterator[Job]:
    """Every point of the grid on every tuning seed, each with its own fold."""
    for setting in contender.settings(task):
        for seed in task.tuning_seeds:
            yield job(task, contender, setting, seed, fold=seed)


def chosen(task: Task, contender: Contender, results: Results) -> Choice | None:
    """The setting with the lowest mean loss on the folds; None while runs are missing.

    By the loss for accuracies too: with a few hundred images an image decides between accuracies.
    A setting with a run that diverged is never chosen, and None comes of a grid of such alone.
    """
    best: Choice | None = None
    for setting in contender.settings(task):
        rows = [
            results.get(job(task, contender, setting, seed, fold=seed))
            for seed in task.tuning_seeds
        ]
        found = [row for row in rows if row is not None]
        if len(found) < len(rows):
            return None
        if all(row["loss"] is not None and not row["diverged"] for row in found):
            loss = mean(row["loss"] for row in found)
            if best is None or loss < best.loss:
                best = Choice(setting, loss, contender.at_edge(task, setting))
    return best


def final_jobs(
    task: Task,
    contender: Contender,
    results: Results,
    arithmetic: str = "float32",
    seeds: tuple[int, ...] | None = None,
) -> Iterator[Job]:
    """Fresh seeds at the setting chosen in float32; nothing while that is open."""
    choice = chosen(task, contender, results)
    for seed in task.seeds if seeds is None else seeds:
        if choice is not None:
            yield job(task, contender, choice.setting, seed, arithmetic=arithmetic)


def missing(results: Results, tasks: list[str], contenders: list[str], seeds: int) -> Iterator[Job]:
    """The runs still to make, in an order in which each can be decided when its turn comes."""
    for name in tasks:
        task = TASKS[name]
        for contender in (CONTENDERS[c] for c in contenders):
            yield from _open(tuning_jobs(task, contender), results)
            yield from _open(
                final_jobs(task, contender, results, seeds=task.seeds[:seeds]), results
            )


def missing_narrow(results: Results, tasks: list[str]) -> Iterator[Job]:
    """The runs still to make under narrow forward products, seed by seed."""
    for name, arithmetic, seeds in NARROW:
        task = TASKS[name]
        for seed in task.seeds[:seeds] if name in tasks else ():
            for contender in (CONTENDERS[c] for c in NARROW_CONTENDERS):
                jobs = final_jobs(task, contender, results, arithmetic, (seed,))
                yield from _open(jobs, results)


def _open(jobs: Iterator[Job], results: Results) -> Iterator[Job]:
    return (j for j in jobs if results.get(j) is None)
