"""What an optimizer step did to each parameter: gradients, weights, and stalled updates."""

from typing import Any

import numpy as np
import torch

from ..phase import Phase
from .counts import Conversion, Key
from .trace import Trace


class Updates:
    """Compares every parameter before and after a counted step, the outermost that holds it."""

    def __init__(self, phase: Phase, trace: Trace) -> None:
        self.phase, self.trace = phase, trace
        self._open: list[list[tuple[str, torch.Tensor, torch.Tensor]]] = []

    def step_begins(self, optimizer: torch.optim.Optimizer) -> None:
        """Keep the weights as stored, and count the gradients that the optimizer will read."""
        known_already = {id(p) for level in self._open for _, p, _ in level}
        self._open.append([])
        if not self.trace.sampling:
            return
        model = self.phase.model
        names = dict(model.named_parameters()) if model is not None else {}
        known = {id(parameter): name for name, parameter in names.items()}
        for p in (p for group in optimizer.param_groups for p in group["params"]):
            if p.grad is not None and not p.grad.is_sparse and id(p) not in known_already:
                name = known.get(id(p), "")
                self._open[-1].append((name, p, p.detach().clone()))
                self._survey(name, "gradient", p.grad)

    def step_ends(self, optimizer: torch.optim.Optimizer) -> None:
        """Count the weights with a gradient that are the same bits, and the weights' exponents."""
        for name, parameter, before in self._open.pop():
            gradient = parameter.grad
            self._survey(name, "weight", parameter)
            if gradient is None or gradient.is_sparse:
                continue
            pushed = gradient != 0
            stalled = int((pushed & (parameter.detach() == before)).sum())
            counts = self.trace.counts(_key(name, "update", parameter))
            counts.add(values=int(pushed.sum()), stalled=stalled)

    def _survey(self, name: str, operand: str, x: torch.Tensor) -> None:
        """Range and exponents of a tensor, as it is."""
        values: Any = x.detach()
        if values.dtype != torch.float64:
            values = values.float()
        array = np.ascontiguousarray(values.cpu().numpy())
        self.trace.count_rounding(_key(name, operand, x), Conversion.unscaled(array, array))


def _key(name: str, operand: str, x: torch.Tensor) -> Key:
    return Key(name, "step", "optimizer", operand, str(x.dtype).removeprefix("torch."))
