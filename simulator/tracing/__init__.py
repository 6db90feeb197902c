"""What happened inside an emulated run."""

from .columns import COLUMNS, Column, describe_columns
from .counts import Conversion, Counts, Key
from .coverage import COVERAGE
from .events import Events
from .products import Multiplied, examine
from .recorder import Operation, Recorder
from .trace import Trace
from .updates import Updates
from .watch import NonFiniteError

__all__ = [
    "COLUMNS",
    "COVERAGE",
    "Column",
    "Conversion",
    "Counts",
    "Events",
    "Key",
    "Multiplied",
    "NonFiniteError",
    "Operation",
    "Recorder",
    "Trace",
    "Updates",
    "describe_columns",
    "examine",
]
