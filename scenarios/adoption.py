"""Runs that another study under the same folder has finished already: taken over, not repeated.

A study whose scenario gains a seed or a column is another study, with a folder of its own; most of
its runs are not other runs. Their files are linked where the file system can, else copied. Files
are never written in place, so what one study repairs leaves the other as it was.
"""

import os
from pathlib import Path

from .folder import RunFolder
from .layout import CHECKPOINTS, RESULT
from .storage import DamagedFile, flush_folder, make_folder, write_bytes


def adopt(folder: RunFolder, inputs: str) -> bool:
    """Take over the finished run of the same name and inputs of a study beside this one.

    Nothing is done where this folder has begun by itself. The result comes last and only after
    every segment has been checked here.

    inputs: the digest of the run's inputs, compared in full.
    """
    if (folder.path / RESULT).exists() or folder.checkpoints():
        return False
    for path in sorted(folder.path.parent.parent.glob(f"*/{folder.path.name}/{RESULT}")):
        other = RunFolder(path.parent)
        if other.path == folder.path:
            continue
        try:
            result = other.ending(inputs)
            if result is None:
                continue
            steps = other.checkpoints()
            for name in [*result["files"], *(_inside(other, step) for step in steps)]:
                _share(other.path / name, folder.path / name)
            folder.verify(result["files"])
            _share(path, folder.path / RESULT)
            return True
        except DamagedFile:
            continue  # what was taken over is checked, and repaired or trimmed, as its own
    return False


def _inside(folder: RunFolder, step: int) -> str:
    return f"{CHECKPOINTS}/{folder.checkpoint(step).name}"


def _share(source: Path, target: Path) -> None:
    """The same file at `target`: a second name of it, or a copy.

    Raises:
        DamagedFile: it cannot be read.
        InputError: it cannot be written.
    """
    make_folder(target.parent)
    try:
        target.unlink(missing_ok=True)
        os.link(source, target)
        flush_folder(target.parent)
    except OSError:
        try:
            data = source.read_bytes()
        except OSError as error:
            raise DamagedFile(f"{source}: cannot be read: {error.strerror or error}") from None
        write_bytes(target, data)
