"""Programs that nobody wrote for Tapeout, small enough to train in a test."""

from .models import PROGRAMS, Counts, Program
from .training import OPTIMIZERS, Run, count_products, train

__all__ = [
    "OPTIMIZERS",
    "PROGRAMS",
    "Counts",
    "Program",
    "Run",
    "count_products",
    "train",
]
