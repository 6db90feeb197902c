"""What the optimizers' tables have in common."""

from inspect import signature
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator
from torch import nn, optim

from ...simulator.tables import Row

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


class PlainTable(OptimizerTable):
    """Optimizers of all parameters that draw no random numbers."""

    def build(self, model: nn.Module, seed: int) -> optim.Optimizer:
        """The optimizer of all parameters; it draws no random numbers."""
        return self.kind(model.parameters(), **self.model_dump(exclude={"name"}))
