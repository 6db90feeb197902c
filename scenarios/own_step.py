"""A training step of the user's own, in place of forward, backward, optimizer step."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from ..formats.errors import InputError
from .data import Examples
from .imports import load_object
from .train import TrainSpec


@dataclass
class StepContext:
    """What a training function works with: `train(context, batch, **options) -> loss`.

    It is called once a step, inside the emulation, with the indices of the step's training
    examples, (batch,) int64. It computes the loss, its gradients, and takes the optimizer step;
    learning rates are set before. Everything around it stays as it is: batches, schedule, metrics,
    trace, evaluations, divergence rule, checkpoints. A run may be cut after any step and goes on
    in another process: what must last stands in the model, the optimizer or `state`.

    Attributes:
        model, optimizer, data: as the scenario asks for them.
        seed: of the run. Random numbers from torch or Python's random continue where they were;
            from other generators they would not.
        steps: of the run; `step` of them are done.
        state: tensors, numbers, text, and lists and dictionaries of them, kept in checkpoints.
    """

    model: nn.Module
    optimizer: Optimizer
    data: Examples
    seed: int
    steps: int
    step: int = 0
    state: dict[str, Any] = field(default_factory=dict)


class OwnStep:
    """The scenario's function, called once a step."""

    def __init__(self, spec: TrainSpec, context: StepContext) -> None:
        self.context, self.name, self.options = context, str(spec.function), spec.options
        self.function: Any = load_object(self.name, spec.file("."))
        if not callable(self.function):
            kind = type(self.function).__name__
            raise InputError(f"train function {self.name}: is a {kind}, not a function")

    def take(self, step: int, batch: Tensor) -> float:
        """Do step `step`, counted from 0; its loss.

        Raises:
            InputError: the function returned no number.
        """
        self.context.step = step
        loss = self.function(self.context, batch, **self.options)
        try:
            return float(loss.detach() if isinstance(loss, Tensor) else loss)
        except (TypeError, ValueError, RuntimeError):
            raise InputError(
                f"train function {self.name}: returned a {type(loss).__name__} as the loss of "
                f"step {step + 1}: return one number"
            ) from None
