"""One run from start, or from its last checkpoint, to its result on disk."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite, nan
from typing import Any, Literal

from ..formats.errors import InputError
from .adoption import adopt
from .checkpoints import begin, latest, prune, store
from .environment import processor
from .events import EventLog
from .folder import RunFolder
from .layout import INPUTS, RESULT, TIMING, digest
from .measures import paper_bytes, state_bytes
from .repair import redo
from .session import Session
from .storage import DamagedFile, read_json, remove, write_json
from .study import Run
from .training import Report, Stopped, train_stretches

QUALITY = ("test_accuracy", "test_loss", "train_loss")
PATIENCE = 0.2  # seconds between two looks at a run that another process is in


@dataclass(frozen=True)
class Outcome:
    """How a run ended, or why it has not.

    ending: computed here; found, its result stood there already; busy, another process is
    computing it; stopped, on request; failed, for the reason in `error`.
    notes: what was damaged and what was done about it.
    """

    ending: Literal["computed", "found", "busy", "stopped", "failed"]
    result: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    error: str = ""

    @property
    def computed(self) -> bool:
        """Whether anything was computed."""
        return self.ending == "computed"


@dataclass
class Work:
    """A run in its locked folder: what it depends on, and what turned out to be damaged."""

    run: Run
    folder: RunFolder
    inputs: dict[str, Any]
    report: Report
    events: bool = False
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.digest = digest(self.inputs)

    def finish(self) -> Outcome:
        """Find the result, repair it, or compute it."""
        self._freeze()
        adopt(self.folder, self.digest)
        result = self._standing()
        found = result is not None
        if result is not None:
            damaged = self._take_stock(result["files"])
            found = not damaged
            self._redo(damaged, result["files"])
        else:
            result = self._compute()
        if self.events:
            EventLog(self.folder).complete()
        return Outcome("found" if found else "computed", result, tuple(self.notes))

    def _freeze(self) -> None:
        """Write the inputs, or see that they stand there; they are known, so damage is mended."""
        path = self.folder.path / INPUTS
        if path.exists():
            try:
                if digest(read_json(path)) == self.digest:
                    return
                self._note(f"{path}: does not hold the inputs its folder is named after; mended")
            except DamagedFile as fault:
                self._note(f"{fault}; it is written again")
        write_json(path, self.inputs)

    def _standing(self) -> dict[str, Any] | None:
        try:
            return self.folder.ending(self.digest)
        except DamagedFile as fault:
            self._note(f"{fault}; it is made again from the last checkpoint")
            remove(self.folder.path / RESULT)
            return None

    def _take_stock(self, files: dict[str, str]) -> dict[str, str]:
        """The faults of the segments that have to be computed again; strangers are deleted."""
        faults = self.folder.faults(files)
        for name, fault in faults.items():
            if name not in files:
                self._note(f"{fault}; deleted")
                remove(self.folder.path / name)
        return {name: fault for name, fault in faults.items() if name in files}

    def _compute(self) -> dict[str, Any]:
        folder, run, every = self.folder, self.run, self.run.train.checkpoint_every
        began, before = time.monotonic(), _seconds_before(folder)
        state = latest(folder, self.digest, self._note)
        files: dict[str, str] = state["files"] if state else {}
        folder.trim(state["session"]["step"] if state else 0)
        damaged = self._take_stock(files)
        self._redo(damaged, files)
        session = begin(run, folder, state)
        if state:
            prune(folder, session.step, every)
        events = EventLog(folder) if self.events else None
        if events:
            events.complete()

        def save(rows: dict[str, Any]) -> None:
            content = {"inputs": self.digest, "session": session.state()}
            store(folder, session.step, every, content | {"files": files, "rows": rows})
            spent = before + time.monotonic() - began
            times = {"seconds": spent, "steps": session.step, "cpu": processor()}
            write_json(folder.path / TIMING, times, durable=False)

        try:
            for rows in train_stretches(session, self.report, state["rows"] if state else None):
                files |= folder.append(session.step, rows)
                if events:
                    events.write(rows)
                save({})
        except Stopped as stop:
            if any(stop.rows.values()):
                save(stop.rows)
            raise
        folder.finish(_conclusion(session, folder.rows("evaluations")), self.digest, files)
        return read_json(folder.path / RESULT)

    def _redo(self, damaged: dict[str, str], files: dict[str, str]) -> None:
        redo(self.run, self.folder, self.digest, damaged, files, self.report, self._note)

    def _note(self, sentence: str) -> None:
        self.notes.append(sentence)


def execute(
    run: Run,
    folder: RunFolder,
    report: Report = lambda step, loss: False,
    *,
    wait: bool = True,
    events: bool = False,
) -> Outcome:
    """Finish `run` in `folder`: nothing to do if its result is there, else train on to the end.

    A killed run continues from its last checkpoint and ends with the same bytes. Where a file
    turns out to be damaged, the outcome's notes name it, and what it held is computed again from
    the checkpoint before it.

    wait: whether to wait for another process that is computing this run; without, Busy is raised.
    events: write TensorBoard event files too.

    Raises:
        InputError: the folder cannot be written, or the inputs changed since the sweep began.
        Busy: another process is in this run.
        Stopped: `report` asked for it; a checkpoint of the step has been written.
    """
    inputs = run.inputs(*run.column.load())
    if run.folder_name(inputs) != folder.path.name:
        raise InputError(f"{folder.path}: its chip, recipe or Tapeout itself changed: start again")
    with folder.locked(_waiting(report) if wait else None):
        return Work(run, folder, inputs, report, events).finish()


def _waiting(report: Report) -> Callable[[], None]:
    def wait() -> None:
        if report(0, nan):
            raise Stopped
        time.sleep(PATIENCE)

    return wait


def _conclusion(session: Session, evaluations: list[dict[str, Any]]) -> dict[str, Any]:
    """What `result.json` says: the final quality of a run that ended well, nulls otherwise."""
    reason = session.reason
    if not reason and not all(isfinite(evaluations[-1][name]) for name in QUALITY):
        reason = "the final loss is not finite"
    return {
        "status": "diverged" if reason else "finished",
        "step": session.step,
        "reason": reason,
        "final": {name: None if reason else evaluations[-1][name] for name in QUALITY},
        "optimizer_state_bytes": state_bytes(session.optimizer),
        "optimizer_paper_bytes": paper_bytes(session.optimizer),
        "memory": session.memory,
        "gemm_macs": session.macs,
        "coverage": session.coverage,
    }


def _seconds_before(folder: RunFolder) -> float:
    """Time spent on this run before it was interrupted; a lost count is no reason to stop."""
    try:
        return float(read_json(folder.path / TIMING)["seconds"])
    except (DamagedFile, KeyError, TypeError, ValueError):
        return 0.0
