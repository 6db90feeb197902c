"""TensorBoard event files of a run, on request.

They hold the same numbers as the segments, beside wall times: they are for looking at, differ
between equal runs, and are no part of what is compared.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from ..formats.errors import InputError
from .folder import RunFolder
from .layout import EVENTS

SCALARS = ("metrics", "evaluations")


def require_tensorboard() -> None:
    """See that event files can be written, before a sweep starts.

    Raises:
        InputError: the package is not installed.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise InputError(
            "tensorboard is not installed: pip install 'tapeout[tensorboard]', or leave out "
            "--tensorboard"
        ) from None


class EventLog:
    """The event files in the folder `tensorboard` of a run, readable at every moment."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder, self.path = folder, folder.path / EVENTS

    def complete(self) -> None:
        """Write everything that the segments hold, where there is no event file yet."""
        if not self.path.is_dir():
            self.write({table: self.folder.rows(table) for table in SCALARS})

    def write(self, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Add the rows of one stretch as scalars `metrics/loss`, `evaluations/test_loss`, ...

        What a killed run wrote of the same steps before is hidden by TensorBoard.
        """
        from torch.utils.tensorboard import SummaryWriter

        steps = [row["step"] for table in SCALARS for row in rows[table]]
        if not steps:
            return
        writer: Any = SummaryWriter  # typed where tensorboard is installed, and nowhere else
        try:
            log = writer(str(self.path), purge_step=min(steps))
            with closing(log):
                for table in SCALARS:
                    for row in rows[table]:
                        for name, value in row.items():
                            if name != "step" and value is not None:
                                log.add_scalar(f"{table}/{name}", value, row["step"])
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {error.strerror or error}") from None
