"""A progress bar for what takes longer than two seconds."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, TaskID

from .files import Progress as Report

PATIENCE = 2.0


@contextmanager
def progress_bar(console: Console, title: str) -> Iterator[Report]:
    """A function of (done, total) behind which a bar appears once two seconds have passed.

    On a console that is no terminal there is no bar.
    """
    start = time.monotonic()
    bar = Progress(console=console, transient=True, disable=not console.is_terminal)
    task: TaskID | None = None

    def report(done: int, total: int) -> None:
        nonlocal task
        if task is None and time.monotonic() - start > PATIENCE and done < total:
            bar.start()
            task = bar.add_task(title, total=total)
        if task is not None:
            bar.update(task, completed=done, total=total)

    try:
        yield report
    finally:
        bar.stop()
