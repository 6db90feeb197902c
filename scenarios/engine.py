"""Where the runs of a sweep are computed: this machine's cores, or a Ray cluster."""

import os
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from ..formats.errors import InputError, choice
from .folder import RunFolder
from .study import Run, Study

if TYPE_CHECKING:
    from .execution import Outcome

#: A run whose worker dies (killed, out of memory) so often between two checkpoints is given up.
ATTEMPTS = 3
ENGINES = ("local", "ray", "ray://HOST:PORT")


@dataclass(frozen=True)
class Task:
    """One run of a study, and how a worker is to go about it.

    wait: whether to wait for another process that is in this run, or to come back later.
    events: whether TensorBoard event files are written too.
    """

    index: int
    run: Run
    folder: RunFolder
    wait: bool = False
    events: bool = False


class Engine(Protocol):
    """Computes tasks between `with` and its end, as many at a time as its machines allow.

    What a run comes to does not depend on the engine. A worker that dies takes no other run with
    it; its run goes on from its last checkpoint on another one.
    """

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None: ...
    def submit(self, task: Task) -> "Future[Outcome]":
        """Take on a task; tasks start in the order in which they are submitted."""
        ...

    def progress(self) -> Mapping[int, tuple[int, float]]:
        """(steps done, latest loss) of the runs under way, by the index of their task."""
        ...

    def stop(self) -> None:
        """Have every run stop after the step it is in, with a checkpoint of it."""
        ...

    def kill(self) -> None:
        """End every worker at once; what was done since the last checkpoints is lost."""
        ...


def make_engine(name: str, study: Study, jobs: int | None = None) -> Engine:
    """The engine `local`, `ray` (a Ray of this machine) or `ray://HOST:PORT` for `study`.

    jobs: runs at a time; by default as many as the cores, and GPUs, of this machine allow.

    Raises:
        InputError: no such engine, it cannot be reached, or it lacks what a run needs.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs = {jobs} must be at least 1")
    if name.startswith("ray://") or choice(name, ENGINES, "engine") == "ray":
        from .cluster import RayEngine

        return RayEngine(name, study, jobs)
    from .lanes import LocalEngine

    return LocalEngine(study, jobs)


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
