"""Tables of AdamW, as it is and with narrow moments, and of Muon."""

from typing import Literal

from torch import nn, optim

from ...optimizers import AdamW4bit, AdamW8bit, Muon
from .base import Betas, Count, Fraction, Natural, NonNegative, OptimizerTable, PlainTable, Positive


class AdamWTable(OptimizerTable):
    """`name = "adamw"`: torch.optim.AdamW, the baseline."""

    kind = optim.AdamW
    name: Literal["adamw"]
    lr: Positive
    betas: Betas
    eps: Positive
    weight_decay: NonNegative

    def build(self, model: nn.Module, seed: int) -> optim.Optimizer:
        """The optimizer of all parameters; it draws no random numbers."""
        options = self.model_dump(exclude={"name"})
        # The single-tensor loop: the same operations on every machine, whatever torch prefers.
        return optim.AdamW(model.parameters(), **options, foreach=False, fused=False)


class AdamW8bitTable(PlainTable):
    """`name = "adamw8bit"`: AdamW with 8-bit moments."""

    kind = AdamW8bit
    name: Literal["adamw8bit"]
    lr: Positive
    betas: Betas
    eps: Positive
    weight_decay: NonNegative
    block: Count
    min_elements: Natural
    nonfinite: Literal["refuse", "skip"]


class AdamW4bitTable(PlainTable):
    """`name = "adamw4bit"`: AdamW with 4-bit moments."""

    kind = AdamW4bit
    name: Literal["adamw4bit"]
    lr: Positive
    betas: Betas
    eps: Positive
    weight_decay: NonNegative
    block: Count
    scales: Literal["rank1", "block"]
    min_elements: Natural
    nonfinite: Literal["refuse", "skip"]


class MuonTable(PlainTable):
    """`name = "muon"`: Muon for matrices; vectors take AdamW steps at `adamw_ratio` times lr."""

    kind = Muon
    name: Literal["muon"]
    lr: Positive
    momentum: Fraction
    weight_decay: NonNegative
    nesterov: bool
    iterations: Count
    eps: Positive
    adjust_lr: Literal["original", "match_rms_adamw"]
    storage: Literal["float32", "int8"]
    block: Count
    min_elements: Natural
    adamw_ratio: Positive
    betas: Betas
    adamw_eps: Positive
    nonfinite: Literal["refuse", "skip"]
