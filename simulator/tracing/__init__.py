"""What happened inside an emulated run."""

from .trace import Key, Trace
from .updates import Updates

__all__ = ["Key", "Trace", "Updates"]
