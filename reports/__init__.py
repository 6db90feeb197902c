"""What is concluded from a study folder alone: statistics, verdicts, figures and the page."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .decision import Decision
    from .page import Report, write_report
    from .verdict import VerdictRow, verdict_rows

__all__ = ["Decision", "Report", "VerdictRow", "verdict_rows", "write_report"]

_HOME = {
    "Decision": "decision",
    "Report": "page",
    "write_report": "page",
    "VerdictRow": "verdict",
    "verdict_rows": "verdict",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import tapeout.reports` costs nothing."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
