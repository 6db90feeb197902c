"""Every optimizer's step, seen from before and after, without touching the optimizer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from .phase import Phase


class Part(Protocol):
    """What has something to do around a step; PyTorch computes natively in both."""

    def step_begins(self, optimizer: torch.optim.Optimizer) -> None:
        """Before the first operation of the step."""

    def step_ends(self, optimizer: torch.optim.Optimizer) -> None:
        """After its last one."""


@contextmanager
def following_steps(phase: Phase, parts: Sequence[Part]) -> Iterator[None]:
    """Calls the parts around every optimizer step: in their order before, in reverse after."""

    def begin(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        phase.optimizing = True
        with phase.pause():
            for part in parts:
                part.step_begins(optimizer)

    def end(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        with phase.pause():
            for part in reversed(parts):
                part.step_ends(optimizer)
        phase.optimizing = False
        phase.step += 1

    handles = register_optimizer_step_pre_hook(begin), register_optimizer_step_post_hook(end)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
