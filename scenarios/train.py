"""The `[train]` table: how long, in which batches, at which rates, and when a run has diverged."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ..formats.errors import InputError
from ..simulator.tables import Row
from .hyperparameters import Count
from .imports import Target, find_source, source_digest
from .location import Located


class DivergenceRule(Row):
    """A run has diverged when its loss is not finite, or stays above `factor` times the first.

    "Stays" means in `patience` consecutive steps.
    """

    factor: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 3.0
    patience: Count = 20


class TrainSpec(Located):
    """The `[train]` table; every count is in optimizer steps, `batch` and `probe` in examples.

    The trace counts every `trace_every`-th step, the first one included.

    Attributes:
        schedule: of the learning rate after `warmup` steps of linear growth: half a "cosine"
            down to zero, or "constant".
        probe: how many training examples an evaluation measures the training loss on.
        function: the user's own training step, "my_pkg.mod:train" or "train.py:train"; see
            `own_step.StepContext`.
        options: its keyword arguments.
        files: what else it reads, from the scenario's folder: part of a run's inputs.
    """

    steps: Count
    batch: Count = 64
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: Annotated[int, Field(strict=True, ge=0)] = 0
    evaluate_every: Count = 50
    checkpoint_every: Count = 50
    trace_every: Count = 50
    probe: Count = 256
    divergence: DivergenceRule = DivergenceRule()
    function: Target | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    files: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> Self:
        if self.warmup >= self.steps:
            raise InputError(f"warmup = {self.warmup} must be below steps = {self.steps}")
        return self

    @model_validator(mode="after")
    def _exists(self) -> Self:
        if self.function is not None:
            find_source(self.function, self._folder)
        elif self.options or self.files:
            raise InputError("options and files are for a function of your own: give function")
        for name in self.files:
            if not self.file(name).is_file():
                raise InputError(f"files: {self.file(name)}: no such file")
        return self


def train_inputs(spec: TrainSpec) -> dict[str, Any]:
    """The table, and a digest of the sources of a training step of the user's own."""
    table = spec.model_dump(mode="json")
    if spec.function is None:
        return table
    return table | {"sha256": source_digest(spec.function, spec._folder, spec.files)}
