"""What a worker process does, whichever engine started it."""

import os
import signal
import traceback

import torch

from ..formats.errors import InputError
from ..formats.jit import set_threads
from .engine import Task
from .execution import Outcome, execute
from .folder import Busy
from .training import Report, Stopped


def prepare(threads: int) -> None:
    """Compute on `threads` threads, and leave Ctrl-C to the process that started this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # In this order: starting numba's threads resets the number that torch uses.
    set_threads(threads)
    torch.set_num_threads(threads)


def compute(task: Task, report: Report) -> Outcome:
    """Finish one run; whatever keeps it from its end is told in the outcome, never raised.

    An error that is no user's mistake also tells where it arose.
    """
    try:
        return execute(task.run, task.folder, report, wait=task.wait, events=task.events)
    except Busy:
        return Outcome("busy")
    except Stopped:
        return Outcome("stopped")
    except InputError as error:
        return Outcome("failed", error=str(error))
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{frame.filename}, line {frame.lineno}"
        return Outcome("failed", error=f"{type(error).__name__}: {error} ({place})")


def show_devices(devices: tuple[int, ...]) -> None:
    """Let this process see only these GPUs; to be called before CUDA starts."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, devices))
