"""What is run: models, data, training loops, sweeps, and the run folders they leave behind."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .own_step import StepContext
    from .progress import Display, make_display
    from .scenario import Scenario, list_scenarios, load_scenario
    from .study import Run, Study, open_study
    from .sweep import Ending, run_study

__all__ = [
    "Display",
    "Ending",
    "Run",
    "Scenario",
    "StepContext",
    "Study",
    "list_scenarios",
    "load_scenario",
    "make_display",
    "open_study",
    "run_study",
]

_HOME = {"Display": "progress", "make_display": "progress", "Ending": "sweep", "run_study": "sweep"}
_HOME |= {name: "scenario" for name in ("Scenario", "list_scenarios", "load_scenario")}
_HOME["StepContext"] = "own_step"
_HOME |= {name: "study" for name in ("Run", "Study", "open_study")}


def __getattr__(name: str) -> Any:
    """Import a public name on first use: torch is loaded only by those who need it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
