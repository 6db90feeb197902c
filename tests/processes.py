"""Other processes: who descends from whom, and their end."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path


def descendants(pid: int, generations: int = 99) -> list[int]:
    """The children of a process, their children, and so on; read from /proc."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            # The name in brackets may hold spaces.
            state, parent = entry.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents.setdefault(int(parent), []).append(int(entry.parent.name))
    found, level = [], [pid]
    for _ in range(generations):
        level = [child for one in level for child in parents.get(one, [])]
        found += level
        if not level:
            break
    return found


def kill(pid: int) -> None:
    """SIGKILL to one process, if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        if pid > 1:
            os.kill(pid, signal.SIGKILL)


def wait_for(what: Callable[[], object], seconds: float = 600) -> None:
    """Return when `what` holds."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
