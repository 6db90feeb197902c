"""Chip profiles held against real silicon, recorded outputs and golden vectors."""

from .cases import Cases, make_cases, simulate, simulate_exactly
from .checks import Check, Difference, exit_code
from .comparison import Comparison, Policy, compare
from .files import check_files
from .golden import Vectors, golden_text, read_vectors
from .live import OUTPUTS, check_live
from .selection import Chosen, find_unit, find_units, list_units

__all__ = [
    "OUTPUTS",
    "Cases",
    "Check",
    "Chosen",
    "Comparison",
    "Difference",
    "Policy",
    "Vectors",
    "check_files",
    "check_live",
    "compare",
    "exit_code",
    "find_unit",
    "find_units",
    "golden_text",
    "list_units",
    "make_cases",
    "read_vectors",
    "simulate",
    "simulate_exactly",
]
