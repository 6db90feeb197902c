"""Tables that name files: a relative path is meant from the folder of the scenario's file."""

from pathlib import Path
from typing import Any

from pydantic import PrivateAttr

from ..simulator.tables import Row


class Located(Row):
    """A table that knows the folder its relative paths start from; here, unless told otherwise.

    The folder is no part of the table: the same scenario in another place is the same scenario.
    """

    _folder: Path = PrivateAttr(default=Path())

    def model_post_init(self, context: Any, /) -> None:
        """Take the folder from the context of validation."""
        if context and "folder" in context:
            self._folder = Path(context["folder"])

    def file(self, path: str) -> Path:
        """Where the file of that name stands."""
        return self._folder / path
