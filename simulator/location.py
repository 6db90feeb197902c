"""Where the user's program called an operation."""

import sys
from pathlib import Path

import torch

from .phase import Phase

_OWN = str(Path(__file__).parent)
_INNER = (_OWN, str(Path(_OWN).parent / "formats"), str(Path(torch.__file__).parent), "<")


def called_from(phase: Phase) -> str:
    """`file:line`, in module `name`: the innermost frame outside of PyTorch and the simulator."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INNER):
        frame = frame.f_back
    place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    return f"{place}, in module {phase.module}" if phase.module else place
