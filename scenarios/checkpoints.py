"""The chain of checkpoints in a run folder: which one a run goes on from, and which ones stay.

A segment can be computed again from the checkpoint at its start. So every checkpoint stays, until
together they are larger than `BUDGET`; then every second one goes, and so on: what is redone for
a damaged segment doubles as the space would.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .checkpoint import load_checkpoint, save_checkpoint
from .folder import RunFolder, are_segments
from .session import Session
from .storage import DamagedFile, make_folder, remove
from .study import Run

#: Bytes of checkpoints that a run keeps beside its latest one.
BUDGET = 100_000_000
Note = Callable[[str], None]


def kept(step: int, every: int, size: int) -> set[int]:
    """The steps whose checkpoints stay when the latest, of `size` bytes, is that of `step`.

    A function of these three alone: a run that was killed keeps the same ones.
    """
    count, stride = step // every, 1
    while count // stride * size > BUDGET:
        stride *= 2
    return {step} | {every * n for n in range(stride, count + 1, stride)}


def store(folder: RunFolder, step: int, every: int, state: dict[str, Any]) -> None:
    """Write the checkpoint of `step`, then delete those that need not stay.

    Raises:
        InputError: the folder cannot be written.
    """
    path = folder.checkpoint(step)
    make_folder(path.parent)
    save_checkpoint(path, state)
    prune(folder, step, every)


def prune(folder: RunFolder, step: int, every: int) -> None:
    """Delete the checkpoints that need not stay when the latest is that of `step`."""
    stay = kept(step, every, folder.checkpoint(step).stat().st_size)
    for found in folder.checkpoints():
        if found not in stay:
            remove(folder.checkpoint(found))


def latest(
    folder: RunFolder, inputs: str, note: Note, before: int | None = None
) -> dict[str, Any] | None:
    """The latest intact checkpoint, of a step `before` that one; None where there is none.

    inputs: the digest of the run's inputs. A checkpoint that is damaged, or that was computed
    from other inputs, is told to `note` and deleted: the run passes its step again.
    """
    for step in reversed(folder.checkpoints()):
        path = folder.checkpoint(step)
        if before is not None and step >= before:
            continue
        try:
            return _own(path, step, inputs)
        except DamagedFile as fault:
            note(f"{fault}; its stretch is computed again")
            remove(path)
    return None


def begin(run: Run, folder: RunFolder, state: dict[str, Any] | None) -> Session:
    """The run as it stood in `state`, which `latest` returned, or before its first step.

    Raises:
        DamagedFile: the state is not one of such a run, though its checksum is right.
    """
    session = Session(run)
    if state:
        try:
            session.restore(state["session"])
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            path = folder.checkpoint(state["session"]["step"])
            raise DamagedFile(f"{path}: does not fit the run ({error}): delete it") from None
    return session


def _own(path: Path, step: int, inputs: str) -> dict[str, Any]:
    """The state in `path`, if it is that of this run after `step` steps."""
    state = load_checkpoint(path)
    session = state.get("session")
    if state.get("inputs") != inputs or not are_segments(state.get("files")):
        raise DamagedFile(f"{path}: does not belong to the inputs of this run")
    if not isinstance(session, dict) or session.get("step") != step:
        raise DamagedFile(f"{path}: is not the state after step {step}")
    return state


def damaged(folder: RunFolder) -> list[str]:
    """What is wrong with each checkpoint that is not intact."""
    faults = []
    for step in folder.checkpoints():
        try:
            load_checkpoint(folder.checkpoint(step))
        except DamagedFile as fault:
            faults.append(str(fault))
    return faults
