"""The optimizers a scenario can name: one table each, with the class's own option names.

An option that a table leaves out has the default of the class, which is looked up there, so that
there is one place to tune it.
"""

from inspect import signature
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator
from torch import nn, optim

from ..formats.errors import InputError, choice
from ..optimizers import LMD, EGAdamW, EGPlusMinus, LNSMadam, Madam, Shampoo4bit
from ..simulator.tables import Row, checked

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Betas = tuple[Fraction, Fraction]
Count = Annotated[int, Field(strict=True, ge=1)]


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
    storage: str
    storage_rounding: Literal["stochastic", "nearest"]
    keep_sample: bool

    def build(self, model: nn.Module, seed: int) -> optim.Optimizer:
        """The optimizer of all parameters, its noise drawn from `seed`."""
        return LMD(model.parameters(), **self.model_dump(exclude={"name"}), seed=seed)


class PlainTable(OptimizerTable):
    """Optimizers of all parameters that draw no random numbers."""

    def build(self, model: nn.Module, seed: int) -> optim.Optimizer:
        """The optimizer of all parameters; it draws no random numbers."""
        return self.kind(model.parameters(), **self.model_dump(exclude={"name"}))


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


class Shampoo4bitTable(OptimizerTable):
    """`name = "shampoo4bit"`: Shampoo with Cholesky factors kept as 4-bit codes."""

    kind = Shampoo4bit
    name: Literal["shampoo4bit"]
    lr: Positive
    base: Literal["adamw", "sgdm"]
    momentum: Fraction
    betas: Betas
    adam_eps: Positive
    weight_decay: NonNegative
    beta: Fraction
    eps: Positive
    statistics_every: Count
    roots_every: Count
    error_beta: Fraction
    block: Count
    scales: Literal["joint", "separate"]
    ridge: Literal["absolute", "relative"]
    root_from: Literal["stored", "fresh"]
    newton_cap: Count
    ridge_attempts: Count
    min_elements: Count
    max_order: Count

    def build(self, model: nn.Module, seed: int) -> optim.Optimizer:
        """The optimizer of all parameters; it draws no random numbers."""
        return Shampoo4bit(model.parameters(), **self.model_dump(exclude={"name"}))


Optimizer = (
    AdamWTable | LmdTable | MadamTable | LnsMadamTable | EgTable | EgAdamWTable | Shampoo4bitTable
)
TABLES: dict[str, type[Optimizer]] = {
    "adamw": AdamWTable,
    "lmd": LmdTable,
    "madam": MadamTable,
    "lns_madam": LnsMadamTable,
    "eg": EgTable,
    "eg_adamw": EgAdamWTable,
    "shampoo4bit": Shampoo4bitTable,
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
