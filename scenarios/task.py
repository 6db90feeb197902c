"""A training step of the user's own, in place of forward, backward, optimizer step."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from inspect import isgeneratorfunction
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from ..formats.errors import InputError
from .data import Examples
from .imports import load_object
from .train import TrainSpec


@dataclass
class Task:
    """What a training function works with, inside the emulation.

    The function is one step, `train(task, batch, **options) -> loss`, or a loop,
    `train(task, **options)`, that takes its batches from `task.batches()` and yields the loss
    after every optimizer step. Either computes the loss, its gradients and takes the optimizer
    step itself; rates are set before. A loop is started anew after every evaluation and
    checkpoint, so that a run that was cut ends with the same bytes as one that was not: what must
    last longer stands in the model, the optimizer or `state`.

    Attributes:
        model, optimizer, data: as the scenario asks for them; compute on these.
        seed: of the run.
        steps: of the run; `step` of them are done.
        batch: indices of this step's training examples, (batch,) int64.
        state: tensors, numbers, text and lists and dictionaries of them, kept in checkpoints.
    """

    model: nn.Module
    optimizer: Optimizer
    data: Examples
    seed: int
    steps: int
    step: int = 0
    batch: Tensor = field(default_factory=lambda: Tensor())
    state: dict[str, Any] = field(default_factory=dict)

    def batches(self) -> Iterator[Tensor]:
        """The batch of every step from here on, for a loop."""
        while True:
            yield self.batch


class OwnStep:
    """The scenario's function, called once a step."""

    def __init__(self, spec: TrainSpec, task: Task) -> None:
        self.task, self.name, self.options = task, str(spec.function), spec.options
        self.function: Any = load_object(self.name, spec.file("."))
        if not callable(self.function):
            kind = type(self.function).__name__
            raise InputError(f"train function {self.name}: is a {kind}, not a function")
        self.loop: Generator[Any, None, None] | None = None

    def take(self, step: int, batch: Tensor) -> float:
        """Do step `step`, counted from 0; its loss.

        Raises:
            InputError: the function returned no loss, or its loop ended too soon.
        """
        self.task.step, self.task.batch = step, batch
        loss = self._call()
        try:
            return float(loss)
        except (TypeError, ValueError, RuntimeError):
            raise InputError(
                f"train function {self.name}: gave a {type(loss).__name__} as the loss of step "
                f"{step + 1}: return (a loop yields) one number"
            ) from None

    def _call(self) -> Any:
        if not isgeneratorfunction(self.function):
            return self.function(self.task, self.task.batch, **self.options)
        if self.loop is None:
            self.loop = self.function(self.task, **self.options)
        try:
            return next(self.loop)
        except StopIteration:
            raise InputError(
                f"train function {self.name}: its loop ended after step {self.task.step} of "
                f"{self.task.steps}: yield a loss for every batch of task.batches()"
            ) from None

    def pause(self) -> None:
        """End the loop, if there is one; the next step starts it anew."""
        if self.loop is not None:
            self.loop.close()
            self.loop = None
