"""Stalled updates: weights that an optimizer step meant to move and did not."""

import torch

from ..phase import Phase
from .trace import Key, Trace


class Updates:
    """Compares every parameter before and after a step."""

    def __init__(self, phase: Phase, trace: Trace) -> None:
        self.phase, self.trace = phase, trace
        self._before: list[tuple[str, torch.Tensor, torch.Tensor]] = []

    def step_begins(self, optimizer: torch.optim.Optimizer) -> None:
        """Keep the weights as stored."""
        model = self.phase.model
        names = dict(model.named_parameters()) if model is not None else {}
        known = {id(parameter): name for name, parameter in names.items()}
        self._before = [
            (known.get(id(p), ""), p, p.detach().clone())
            for group in optimizer.param_groups
            for p in group["params"]
            if p.grad is not None
        ]

    def step_ends(self, optimizer: torch.optim.Optimizer) -> None:
        """Count those with a gradient that are the same bits."""
        for name, parameter, before in self._before:
            gradient = parameter.grad
            if gradient is None or gradient.is_sparse:
                continue
            pushed = gradient != 0
            stalled = int((pushed & (parameter.detach() == before)).sum())
            key = Key(name, "step", "optimizer", "update", str(parameter.dtype).split(".")[-1])
            self.trace.count_update(key, int(pushed.sum()) - stalled, stalled)
        self._before = []
