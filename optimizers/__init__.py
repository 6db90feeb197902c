"""Optimizers as their papers state them: ordinary torch.optim.Optimizer classes, no rounding."""

from .checks import NonFiniteGradientError
from .exponentiated_gradient import EGPlusMinus
from .lmd import LMD
from .lns_madam import LNSMadam
from .madam import Madam
from .muon import Muon
from .quantized_adamw import AdamW4bit, AdamW8bit
from .shampoo import Shampoo, Shampoo4bit
from .signed_eg import EGAdamW
from .soap import SOAP

__all__ = [
    "LMD",
    "SOAP",
    "AdamW4bit",
    "AdamW8bit",
    "EGAdamW",
    "EGPlusMinus",
    "LNSMadam",
    "Madam",
    "Muon",
    "NonFiniteGradientError",
    "Shampoo",
    "Shampoo4bit",
]
