"""Optimizers as their papers state them: ordinary torch.optim.Optimizer classes, no rounding."""

from .checks import NonFiniteGradientError
from .lmd import LMD
from .shampoo import Shampoo4bit

__all__ = ["LMD", "NonFiniteGradientError", "Shampoo4bit"]
