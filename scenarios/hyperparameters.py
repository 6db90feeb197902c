"""The optimizers a scenario can name: one table each, with the class's own option names.

An option that a table leaves out has the default of the class, which is looked up there, so that
there is one place to tune it.
"""

from inspect import signature
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator
from torch import nn, optim

from ..formats.errors import InputError, choice
from ..optimizers import LMD, SOAP, AdamW4bit, AdamW8bit, Muon, Shampoo, Shampoo4bit
from ..simulator.tables import Row, checked

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Betas = tuple[Fraction, Fraction]
Count = Annotated[int, Field(strict=True, ge=1)]
Natural = Annotated[int, Field(strict=True, ge=0)]


class OptimizerTable(Row):
    """What the tables have in common: options named as in `kind`, and its defaults."""

    kind: ClassVar[type[optim.Optimizer]]

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, table: Any) -> Any:
        if not isinstance(table, dict):
            return table
        options = signature(cls.kind).parameters
        left_out = cls.model_fields.keys() & options.keys() - set(table)
        return table | {name: options[name].default for name in sorted(left_out)}


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

    def build(self, model: nn.Module, seed: int) -> optim.Optimizer:
        """The optimizer of all parameters, its noise drawn from `seed`."""
        return LMD(model.parameters(), **self.model_dump(exclude={"name"}), seed=seed)


class ShampooTable(OptimizerTable):
    """`name = "shampoo"`: Shampoo with the storage of its preconditioners as a choice."""

    kind = Shampoo
    name: Literal["shampoo"]
    lr: Positive
    base: Literal["adamw", "sgdm"]
    momentum: Fraction
    betas: Betas
    adam_eps: Positive
    weight_decay: NonNegative
    storage: Literal["float32", "vq", "cq", "cq_ef", "eigen"]
    codebook: Literal[
        "linear2_4bit", "linear2_3bit", "linear2_8bit",
        "dynamic_tree_4bit", "dynamic_tree_3bit", "dynamic_8bit",
    ]  # fmt: skip
    block: Count
    beta: Fraction
    eps: Positive
    statistics_every: Count
    roots_every: Count
    error_beta: Fraction
    scales: Literal["joint", "separate"]
    ridge: Literal["absolute", "relative"]
    root_from: Literal["stored", "fresh"]
    root: Literal["newton", "eigh"]
    newton_cap: Count
    rectify_statistics: Natural
    rectify_roots: Natural
    ridge_attempts: Natural
    grafting: Literal["norm", "none"]
    linalg: Literal["library", "chip"]
    min_elements: Natural
    max_order: Count
    nonfinite: Literal["refuse", "skip"]

    def build(self, model: nn.Module, seed: int) -> optim.Optimizer:
        """The optimizer of all parameters; it draws no random numbers."""
        return self.kind(model.parameters(), **self.model_dump(exclude={"name"}))


class Shampoo4bitTable(ShampooTable):
    """`name = "shampoo4bit"`: Shampoo whose preconditioners take 4 bits an element."""

    kind = Shampoo4bit
    name: Literal["shampoo4bit"]  # type: ignore[assignment]
    storage: Literal["vq", "cq", "cq_ef", "eigen"]
    codebook: Literal["linear2_4bit", "dynamic_tree_4bit"]


class AdamW8bitTable(OptimizerTable):
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

    def build(self, model: nn.Module, seed: int) -> optim.Optimizer:
        """The optimizer of all parameters; it draws no random numbers."""
        return AdamW8bit(model.parameters(), **self.model_dump(exclude={"name"}))


class AdamW4bitTable(OptimizerTable):
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

    def build(self, model: nn.Module, seed: int) -> optim.Optimizer:
        """The optimizer of all parameters; it draws no random numbers."""
        return AdamW4bit(model.parameters(), **self.model_dump(exclude={"name"}))


class MuonTable(OptimizerTable):
    """`name = "muon"`: Muon for all matrices, AdamW at `adamw_lr` for vectors and scalars."""

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
    adamw_lr: Positive
    betas: Betas
    adamw_eps: Positive
    nonfinite: Literal["refuse", "skip"]

    def build(self, model: nn.Module, seed: int) -> optim.Optimizer:
        """The optimizer of all parameters; it draws no random numbers."""
        return Muon(model.parameters(), **self.model_dump(exclude={"name"}))


class SoapTable(OptimizerTable):
    """`name = "soap"`: Adam in the eigenbasis of Shampoo's preconditioners."""

    kind = SOAP
    name: Literal["soap"]
    lr: Positive
    betas: Betas
    eps: Positive
    weight_decay: NonNegative
    shampoo_beta: Annotated[float, Field(ge=-1, lt=1)]
    frequency: Count
    max_order: Count
    storage: Literal["float32", "dynamic_8bit"]
    block: Count
    min_elements: Natural
    linalg: Literal["library", "chip"]
    nonfinite: Literal["refuse", "skip"]

    def build(self, model: nn.Module, seed: int) -> optim.Optimizer:
        """The optimizer of all parameters; it draws no random numbers."""
        return SOAP(model.parameters(), **self.model_dump(exclude={"name"}))


Optimizer = (
    AdamWTable | LmdTable | ShampooTable | Shampoo4bitTable
    | AdamW8bitTable | AdamW4bitTable | MuonTable | SoapTable
)  # fmt: skip
TABLES: dict[str, type[Optimizer]] = {
    "adamw": AdamWTable,
    "lmd": LmdTable,
    "shampoo4bit": Shampoo4bitTable,
    "shampoo": ShampooTable,
    "adamw8bit": AdamW8bitTable,
    "adamw4bit": AdamW4bitTable,
    "muon": MuonTable,
    "soap": SoapTable,
}


def check_optimizer(table: object, number: int) -> object:
    """The checked row of `[[optimizers]]` table `number`; a value of another kind passes through.

    Raises:
        InputError: an unknown optimizer, or a key or value that it does not have.
    """
    if not isinstance(table, dict):
        return table
    if "name" not in table:
        raise InputError(f"table {number} has no name: add name = one of {', '.join(TABLES)}")
    name = choice(str(table["name"]), TABLES, f"table {number} name")
    return checked(TABLES[name], table, f"table {number} ({name})")
