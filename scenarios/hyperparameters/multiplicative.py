"""Tables of the multiplicative optimizers."""

from typing import Literal

from torch import nn, optim

from ...optimizers import LMD, EGAdamW, EGPlusMinus, LNSMadam, Madam
from .base import Betas, Fraction, NonNegative, OptimizerTable, PlainTable, Positive


class LmdTable(OptimizerTable):
    """`name = "lmd"`: log-normal multiplicative dynamics on all parameters."""

    kind = LMD
    name: Literal["lmd"]
    lr: Positive
    betas: Betas
    decay: NonNegative
    sigma: NonNegative
    floor: Positive
    regularizer: Literal["lognormal", "constant", "gaussian", "exponential"]
    prior: Literal["floor", "initial"]
    momentum: Literal["components", "shared"]
    update: Literal["sign", "plain"]
    init: Literal["exact", "independent"]
    noise: Literal["lognormal", "rayleigh"]
    temperature: NonNegative
    storage: str
    storage_rounding: Literal["stochastic", "nearest"]
    keep_sample: bool

    def build(self, model: nn.Module, seed: int) -> optim.Optimizer:
        """The optimizer of all parameters, its noise drawn from `seed`."""
        return LMD(model.parameters(), **self.model_dump(exclude={"name"}), seed=seed)


class MadamTable(PlainTable):
    """`name = "madam"`: multiplicative Adam."""

    kind = Madam
    name: Literal["madam"]
    lr: Positive
    beta: Fraction
    bound: Positive
    scale: Positive


class LnsMadamTable(PlainTable):
    """`name = "lns_madam"`: Madam by whole steps of a logarithmic number system."""

    kind = LNSMadam
    name: Literal["lns_madam"]
    lr: Positive
    beta: Fraction
    bound: Positive
    scale: Positive
    storage: str


class EgTable(PlainTable):
    """`name = "eg"`: exponentiated gradient on two positive components, EG±."""

    kind = EGPlusMinus
    name: Literal["eg"]
    lr: Positive
    floor: Positive
    total: Positive | None


class EgAdamWTable(PlainTable):
    """`name = "eg_adamw"`: signed exponentiated gradient along AdamW's direction."""

    kind = EGAdamW
    name: Literal["eg_adamw"]
    lr: Positive
    betas: Betas
    eps: Positive
    weight_decay: NonNegative
