"""What is kept in the chip's memory, and in which formats."""

from .loss_scaling import LossScaling
from .memory import Memory

__all__ = ["LossScaling", "Memory"]
