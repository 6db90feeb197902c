"""Optimizers as their papers state them: ordinary torch.optim.Optimizer classes, no rounding."""

from .checks import NonFiniteGradientError
from .exponentiated_gradient import EGPlusMinus
from .lmd import LMD
from .lns_madam import LNSMadam
from .madam import Madam
from .shampoo import Shampoo4bit
from .signed_eg import EGAdamW

__all__ = [
    "LMD",
    "EGAdamW",
    "EGPlusMinus",
    "LNSMadam",
    "Madam",
    "NonFiniteGradientError",
    "Shampoo4bit",
]
