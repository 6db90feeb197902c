"""What an optimizer says went wrong in its step: failed factors, kept roots, skipped steps."""

from collections.abc import Mapping
from typing import Any

import torch

from .counts import Key
from .trace import Trace


class Events:
    """Counts what every step added to an optimizer's `counters`, a mapping of names to numbers.

    A row of the trace has the counter's name as its operand and the events as its calls. Without
    that attribute an optimizer has no such rows.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self._before: list[dict[str, int]] = []

    def step_begins(self, optimizer: torch.optim.Optimizer) -> None:
        """Remember the numbers."""
        self._before.append(_counters(optimizer))

    def step_ends(self, optimizer: torch.optim.Optimizer) -> None:
        """Count what was added to them."""
        before = self._before.pop()
        for name, number in _counters(optimizer).items():
            if number > before.get(name, 0):
                key = Key("", "step", "optimizer", name, "")
                self.trace.counts(key).add(calls=number - before.get(name, 0))


def _counters(optimizer: torch.optim.Optimizer) -> dict[str, int]:
    found: Any = getattr(optimizer, "counters", None)
    if not isinstance(found, Mapping):
        return {}
    return {str(name): n for name, n in found.items() if isinstance(n, int)}
