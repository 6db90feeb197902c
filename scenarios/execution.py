"""One run from start, or from its last checkpoint, to its result on disk."""

import time
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from ..formats.errors import InputError
from .checkpoint import load_checkpoint, save_checkpoint
from .folder import RunFolder, freeze
from .measures import paper_bytes, state_bytes
from .session import Session
from .storage import DamagedFile, make_folder, read_json, write_json
from .study import Run
from .training import Report, train_stretches

QUALITY = ("test_accuracy", "test_loss", "train_loss")


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its result, whether it stood there already, and what was repaired."""

    result: dict[str, Any]
    computed: bool
    notes: tuple[str, ...] = ()


def execute(run: Run, folder: RunFolder, report: Report = lambda step, loss: None) -> Outcome:
    """Finish `run` in `folder`: nothing to do if its result is there, else train on to the end.

    A killed run continues from its last checkpoint and ends with the same bytes. Where a file
    turns out to be damaged, the outcome's notes name it and the run is computed again.

    Raises:
        InputError: the folder cannot be written, or the inputs changed since the sweep began.
    """
    inputs = run.inputs(*run.column.load())
    if run.folder_name(inputs) != folder.path.name:
        raise InputError(f"{folder.path}: its chip, recipe or Tapeout itself changed: start again")
    make_folder(folder.path)
    with folder.locked():
        try:
            return _finish(run, folder, inputs, report)
        except DamagedFile as fault:
            note = f"{fault}; {run.label} is computed again from its first step"
            folder.clear()
            outcome = _finish(run, folder, inputs, report)
            return replace(outcome, notes=(note,))


def _finish(run: Run, folder: RunFolder, inputs: dict[str, Any], report: Report) -> Outcome:
    freeze(folder.path / "run.json", inputs)
    result = folder.result()
    if result is not None:
        return Outcome(result, computed=False)
    started, before = time.monotonic(), _seconds_before(folder)
    session, files = Session(run), dict[str, str]()
    if folder.checkpoint.exists():
        state = load_checkpoint(folder.checkpoint)
        session.restore(state["session"])
        files = state["files"]
    folder.trim(session.step)
    folder.verify(files)
    for rows in train_stretches(session, report):
        files |= folder.append(session.step, rows)
        save_checkpoint(folder.checkpoint, {"session": session.state(), "files": files})
        spent = before + time.monotonic() - started
        write_json(folder.path / "timing.json", {"seconds": spent, "steps": session.step})
    folder.finish(_conclusion(session, folder.rows("evaluations")), files)
    return Outcome(read_json(folder.path / "result.json"), computed=True)


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
        return float(read_json(folder.path / "timing.json")["seconds"])
    except (DamagedFile, KeyError, TypeError, ValueError):
        return 0.0
