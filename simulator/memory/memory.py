"""Storage formats of weights, gradients, optimizer states and saved activations."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..phase import Phase
from ..recipe import Recipe
from ..tracing import Trace


class Memory:
    """Rounds what the recipe stores narrower than it was computed."""

    def __init__(self, recipe: Recipe, phase: Phase, trace: Trace) -> None:
        self.recipe, self.phase, self.trace = recipe, phase, trace

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """While the emulation runs."""
        yield

    def step_begins(self, optimizer: torch.optim.Optimizer) -> None:
        """See `steps.Part`."""

    def step_ends(self, optimizer: torch.optim.Optimizer) -> None:
        """See `steps.Part`."""
