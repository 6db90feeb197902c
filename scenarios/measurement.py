"""What one step of a run costs on this machine: measured once, then remembered."""

import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any, NamedTuple

import torch

from ..formats.jit import set_threads
from .checkpoint import save_checkpoint
from .environment import processor
from .evaluation import evaluate
from .folder import TABLES, RunFolder
from .layout import digest
from .session import Session
from .storage import DamagedFile, make_folder, read_json, write_json
from .study import Run
from .training import train_until

#: Options of optimizers that do something costly every so many steps.
PERIODS = ("statistics_every", "roots_every", "frequency")
NEVER = 1_000_000_000
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tapeout" / "steps"


class Cost(NamedTuple):
    """Of one run on one thread.

    Attributes:
        step, traced: processor seconds of a step, and of one that the trace counts.
        evaluated: processor seconds of an evaluation, for each example.
        macs: multiply-adds of the matrix products of a step.
        checkpoint, segment: bytes of a checkpoint, and of the rows of one traced step.
    """

    step: float
    traced: float
    evaluated: float
    macs: float
    checkpoint: float
    segment: float


def known_cost(run: Run) -> Cost | None:
    """The cost of such a run where it was measured before on this machine, with these sources."""
    try:
        return Cost(**read_json(_place(run)))
    except (DamagedFile, TypeError):
        return None


def measure_cost(run: Run) -> Cost:
    """Measure, and remember, the cost of such a run: to be called in a process of its own.

    Three steps are taken in the real training loop: one that loads everything, one that is not
    traced, one that is. What the optimizer does every n-th step is measured apart, on every step,
    and counts for an n-th.
    """
    set_threads(1)
    torch.set_num_threads(1)
    periods = {name: getattr(run.optimizer, name) for name in PERIODS
               if hasattr(run.optimizer, name)}  # fmt: skip
    cost = _measure(run, dict.fromkeys(periods, NEVER))
    for name, every in periods.items():
        more = _measure(run, dict.fromkeys(periods, NEVER) | {name: 1})
        seconds = max(0.0, more.step - cost.step) / every
        macs = max(0.0, more.macs - cost.macs) / every
        cost = cost._replace(
            step=cost.step + seconds, traced=cost.traced + seconds, macs=cost.macs + macs
        )
    place = _place(run)
    make_folder(place.parent)
    write_json(place, cost._asdict())
    return cost


def _measure(run: Run, periods: dict[str, int]) -> Cost:
    batch = run.train.batch
    train = run.train.model_copy(update={"steps": 4, "warmup": 0, "trace_every": 2, "probe": batch})
    optimizer = run.optimizer.model_copy(update=periods)
    session = Session(replace(run, train=train, optimizer=optimizer))
    data, seconds, rows = session.data, list[float](), dict[str, list[dict[str, Any]]]()
    session.data = replace(
        data, test_inputs=data.test_inputs[:batch], test_targets=data.test_targets[:batch]
    )
    for stop in (1, 2, 3):
        rows = {table: [] for table in TABLES}
        started = process_time()
        train_until(session, stop, rows, lambda step, loss: None)
        seconds.append(process_time() - started)
    macs = sum(row["macs"] or 0 for row in rows["trace"])
    started = process_time()
    rows["evaluations"].append(evaluate(session))
    evaluated = (process_time() - started) / (batch + len(session.data.test_inputs))
    with TemporaryDirectory() as name:
        folder = RunFolder(Path(name))
        folder.append(3, rows)
        save_checkpoint(folder.path / "checkpoint", {"session": session.state(), "files": {}})
        sizes = {p: p.stat().st_size for p in folder.path.rglob("*") if p.is_file()}
    checkpoint = sizes.pop(folder.path / "checkpoint")
    return Cost(seconds[1], seconds[2], evaluated, macs, checkpoint, sum(sizes.values()))


def _place(run: Run) -> Path:
    """Where the cost of such a run is remembered: under all that it depends on."""
    inputs = run.inputs(*run.column.load())
    for name in ("seed", "lr_factor", "column"):
        inputs.pop(name)
    return CACHE / f"{digest(inputs | {'processor': processor()})[:16]}.json"
