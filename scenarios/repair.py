"""Damaged segments of a run, computed again from the checkpoint before them."""

from collections.abc import Callable, Mapping
from typing import Any

from ..formats.errors import InputError
from .checkpoint import save_checkpoint
from .checkpoints import begin, kept, latest
from .folder import RunFolder
from .layout import step_of
from .session import Session
from .storage import bytes_digest
from .study import Run
from .training import Report, train_stretches

Note = Callable[[str], None]


def redo(
    run: Run,
    folder: RunFolder,
    inputs: str,
    damaged: Mapping[str, str],
    files: Mapping[str, str],
    report: Report,
    note: Note,
) -> None:
    """Compute the segments named in `damaged` again, and nothing that is not needed for it.

    Training starts at the nearest checkpoint before each. What it passes must come out with the
    bytes that the run recorded; a checkpoint that is missing on the way is written again.

    damaged: what is wrong with each; files: the SHA-256 of every segment, both by path.

    Raises:
        InputError: a segment comes out otherwise than the run recorded it.
        Stopped: `report` asked for it.
    """
    session: Session | None = None
    for step in sorted({step_of(name) for name in damaged}):
        state = latest(folder, inputs, note, before=step)
        start = state["session"]["step"] if state else 0
        if session is None or session.step < start:
            session = begin(run, folder, state)
        for fault in (damaged[name] for name in sorted(damaged) if step_of(name) == step):
            note(f"{fault}; steps {session.step + 1} to {step} are computed again")
        for rows in train_stretches(session, report):
            for name, data in folder.encode(session.step, rows).items():
                _compare(folder, name, data, files)
                if name in damaged:
                    folder.put(name, data)
            _fill_gap(folder, session, inputs, files)
            if session.step >= step:
                break


def _compare(folder: RunFolder, name: str, data: bytes, files: Mapping[str, str]) -> None:
    if files.get(name) != bytes_digest(data):
        raise InputError(
            f"{folder.path / name}: computed again, it comes out with other bytes than the run "
            f"recorded: this machine computes otherwise; delete {folder.path} to start anew"
        )


def _fill_gap(folder: RunFolder, session: Session, inputs: str, files: Mapping[str, str]) -> None:
    """Write the checkpoint of a step that the chain should have and lacks."""
    last = max(folder.checkpoints(), default=0)
    if last <= session.step or folder.checkpoint(session.step).exists():
        return
    size = folder.checkpoint(last).stat().st_size
    if session.step in kept(last, session.run.train.checkpoint_every, size):
        before = {name: digest for name, digest in files.items() if step_of(name) <= session.step}
        state: dict[str, Any] = {"inputs": inputs, "session": session.state(), "files": before}
        save_checkpoint(folder.checkpoint(session.step), state | {"rows": {}})
