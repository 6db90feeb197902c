"""Local worker processes: one run a lane, so that a worker that dies takes no other run with it."""

import multiprocessing
import os
import signal
import threading
import traceback
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.sharedctypes import RawArray
from typing import Any

import torch

from ..formats.errors import InputError
from ..formats.jit import set_threads
from .environment import versions
from .execution import Outcome, execute
from .folder import RunFolder
from .study import Run

# The server imports torch and the kernels once; every worker is a fork of it.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tapeout.scenarios.lanes"])
# Asked for here, so that the forks answer for the sources that the server has imported.
versions()


class Stopped(Exception):
    """The sweep asked this run to stop; what it did since its last checkpoint is done again."""


@dataclass(frozen=True)
class Board:
    """Steps done and latest loss of every run, in memory that all workers share.

    Two numbers a run and one stop flag, each written by one process, without locks: a worker
    killed at any moment leaves nothing locked behind.
    """

    cells: Any

    def post(self, index: int, step: int, loss: float) -> None:
        """Publish the progress of run `index`, or stop it where that was asked for."""
        if self.cells[0]:
            raise Stopped
        self.cells[1 + 2 * index] = step
        self.cells[2 + 2 * index] = loss

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
    pool: ProcessPoolExecutor | None = None

    def submit(self, index: int, run: Run, folder: RunFolder) -> "Future[Outcome]":
        """Start run `index` here; only one may be under way."""
        if self.pool is None:
            self.pool = ProcessPoolExecutor(1, CONTEXT, _start_worker, (self.board.cells,))
        return self.pool.submit(_work, index, run, folder)

    def close(self) -> None:
        """Let the worker go; a later `submit` starts another."""
        if self.pool is not None:
            self.pool.shutdown(wait=False, cancel_futures=True)
            self.pool = None


_boards: list[Board] = []


def _start_worker(cells: Any) -> None:
    """One thread for everything, no Ctrl-C of its own, and no life after its parent."""
    _boards[:] = [Board(cells)]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # In this order: starting numba's threads resets the number that torch uses.
    set_threads(1)
    torch.set_num_threads(1)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(index: int, run: Run, folder: RunFolder) -> Outcome:
    """Compute one run; an error that is no user's mistake also tells where it arose."""
    board = _boards[0]
    try:
        return execute(run, folder, lambda step, loss: board.post(index, step, loss))
    except (InputError, Stopped):
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{frame.filename}, line {frame.lineno}"
        raise RuntimeError(f"{type(error).__name__}: {error} ({place})") from error
