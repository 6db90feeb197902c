"""The section “Who is to blame” of the page: its figures, sentences, and part of the JSON twin."""

from dataclasses import dataclass
from typing import Any

from ..formats.errors import InputError
from .blame_figure import draw_blame
from .blame_record import FILE, BlameRecord, read_blames
from .blame_words import conclude
from .drawing import Figure
from .segments import Omission
from .study import Study


@dataclass(frozen=True)
class BlameSection:
    """Each blame with its sentence and its figure; `left_out` says why there is none."""

    blames: tuple[BlameRecord, ...]
    sentences: tuple[str, ...]
    figures: tuple[Figure, ...]
    left_out: tuple[Omission, ...] = ()

    def describe(self) -> list[dict[str, Any]]:
        """What report.json has of it."""
        return [
            {"conclusion": sentence, **blame.model_dump(mode="json")}
            for blame, sentence in zip(self.blames, self.sentences, strict=True)
        ]


def make_blame(study: Study) -> BlameSection:
    """What `tapeout blame` left in the study folder; nothing where it was not called."""
    try:
        blames = tuple(read_blames(study.path))
    except InputError as error:
        reason = str(error).removeprefix(f"{study.path / FILE}: ")
        return BlameSection((), (), (), (Omission(FILE, reason),))
    return BlameSection(
        blames, tuple(conclude(b) for b in blames), tuple(draw_blame(b) for b in blames)
    )
