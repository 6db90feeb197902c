"""The local engine: one worker process a lane, so that one that dies takes no other run with it.

The lanes are the standard library's pools and nothing else: a pool of threads takes the tasks in
their order, and each thread has a pool of one process. One pool of many processes would be broken
as a whole by the first worker that is killed.
"""

import multiprocessing
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from dataclasses import field as attribute
from multiprocessing.sharedctypes import RawArray
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

import torch

from ..formats.errors import InputError
from .engine import ATTEMPTS, Task, cores
from .environment import versions
from .execution import Outcome
from .resources import ResourceSpec
from .study import Study
from .worker import compute, prepare, show_devices

# The server imports torch and the kernels once; every worker is a fork of it. What emulate()
# imports on its first use is among them: it takes longer than all the rest.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch._dynamo", "tapeout.scenarios.lanes"])
# Asked for here, so that the forks answer for the sources that the server has imported.
versions()


@dataclass(frozen=True)
class Board:
    """Steps done and latest loss of every run, in memory that all workers share.

    Two numbers a run and one stop flag, each written by one process, without locks: a worker
    killed at any moment leaves nothing locked behind.
    """

    cells: Any

    def post(self, index: int, step: int, loss: float) -> bool:
        """Publish the progress of run `index`; the answer is whether it is to stop."""
        self.cells[1 + 2 * index] = step
        self.cells[2 + 2 * index] = loss
        return bool(self.cells[0])

    def read(self, index: int) -> tuple[int, float]:
        """(steps done, latest loss) of run `index`."""
        return int(self.cells[1 + 2 * index]), float(self.cells[2 + 2 * index])

    def stop(self) -> None:
        """Ask every run to stop after the step it is in."""
        self.cells[0] = 1.0


def make_board(runs: int) -> Board:
    """A board for `runs` runs, all at step 0."""
    return Board(RawArray("d", 1 + 2 * runs))


@dataclass
class Lane:
    """One worker process at a time, started on first use and again after it died."""

    board: Board
    threads: int = 1
    devices: tuple[int, ...] | None = None
    pool: ProcessPoolExecutor | None = None
    pid: int = 0

    def run(self, task: Task) -> Outcome:
        """Finish `task` here.

        Raises:
            BrokenProcessPool: the worker died.
        """
        if self.pool is None:
            start = (self.board.cells, self.threads, self.devices)
            self.pool = ProcessPoolExecutor(1, CONTEXT, _start_worker, start)
            self.pid = self.pool.submit(os.getpid).result()
        return self.pool.submit(_work, task).result()

    def close(self) -> None:
        """Let the worker go; a later `run` starts another."""
        if self.pool is not None:
            self.pool.shutdown(wait=False, cancel_futures=True)
            self.pool, self.pid = None, 0


@dataclass
class LocalEngine:
    """The cores of this machine, `resources.cpus` of them a run."""

    study: Study
    jobs: int | None = None
    active: set[int] = attribute(default_factory=set)
    stopping: bool = False

    def __post_init__(self) -> None:
        count = len(self.study.runs)
        self.board = make_board(count)
        resources = self.study.resources
        width = min(self.jobs or max(1, cores() // resources.cpus), count)
        self.lanes = [
            Lane(self.board, resources.cpus, devices) for devices in _share_out(resources, width)
        ]
        self.idle: SimpleQueue[Lane] = SimpleQueue()
        for lane in self.lanes:
            self.idle.put(lane)
        self.threads = ThreadPoolExecutor(len(self.lanes))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.threads.shutdown(wait=False, cancel_futures=True)
        for lane in self.lanes:
            lane.close()

    def submit(self, task: Task) -> "Future[Outcome]":
        return self.threads.submit(self._compute, task)

    def progress(self) -> Mapping[int, tuple[int, float]]:
        return {index: self.board.read(index) for index in sorted(self.active.copy())}

    def stop(self) -> None:
        self.stopping = True
        self.board.stop()

    def kill(self) -> None:
        self.stopping = True
        pids = {lane.pid for lane in self.lanes}
        for process in multiprocessing.active_children():
            if process.pid in pids:
                process.kill()

    def _compute(self, task: Task) -> Outcome:
        """Finish `task` in the idle lane of this thread, in a new worker where one died."""
        lane = self.idle.get()
        self.active.add(task.index)
        deaths, reached = 0, -1
        notes: tuple[str, ...] = ()
        try:
            while not self.stopping:
                try:
                    outcome = lane.run(task)
                    return Outcome(
                        outcome.ending, outcome.result, notes + outcome.notes, outcome.error
                    )
                except BrokenProcessPool:
                    lane.close()
                    step = max(task.folder.checkpoints(), default=0)
                    deaths, reached = (1 if step > reached else deaths + 1), step
                    if deaths == ATTEMPTS:
                        reason = f"its process died {deaths} times (killed, or out of memory)"
                        return Outcome("failed", notes=notes, error=reason)
                    note = f"{task.run.label}: its process died; it continued from its checkpoint"
                    notes += (note,)
            return Outcome("stopped", notes=notes)
        finally:
            self.active.discard(task.index)
            self.idle.put(lane)


def _share_out(resources: ResourceSpec, width: int) -> Sequence[tuple[int, ...] | None]:
    """The GPUs of each lane, at most `width` lanes; None where runs need none.

    Raises:
        InputError: this machine has fewer GPUs than one run needs.
    """
    if not resources.gpus:
        return [None] * width
    count, each = torch.cuda.device_count(), resources.gpus
    if count < each:
        raise InputError(
            f"resources gpus = {each}: torch sees {count} on this machine; lower it, or choose "
            "one that has them with --engine ray://HOST:PORT"
        )
    shares = range(0, count - each + 1, each)
    return [tuple(range(first, first + each)) for first in shares[:width]]


_boards: list[Board] = []


def _start_worker(cells: Any, threads: int, devices: tuple[int, ...] | None) -> None:
    """Bounded threads, no Ctrl-C of its own, and no life after its parent."""
    if devices is not None:
        show_devices(devices)
    _boards[:] = [Board(cells)]
    prepare(threads)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(task: Task) -> Outcome:
    board = _boards[0]
    return compute(task, lambda step, loss: board.post(task.index, step, loss))
