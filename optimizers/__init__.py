"""Optimizers as their papers state them: ordinary torch.optim.Optimizer classes, no rounding."""

from .checks import NonFiniteGradientError
from .lmd import LMD
from .muon import Muon
from .quantized_adamw import AdamW4bit, AdamW8bit
from .shampoo import Shampoo, Shampoo4bit
from .soap import SOAP

__all__ = [
    "LMD",
    "SOAP",
    "AdamW4bit",
    "AdamW8bit",
    "Muon",
    "NonFiniteGradientError",
    "Shampoo",
    "Shampoo4bit",
]
