"""Where a run stands: module, forward or backward, optimizer step, and whether anyone looks on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Phase:
    """Follows a model through forward, backward and optimizer step.

    Attributes:
        model: names the modules; None if the user gave none.
        step: optimizer steps ended so far.
        optimizing: inside of `optimizer.step()`.
        paused: what PyTorch computes now is the simulator's own bookkeeping, not the chip's work.
    """

    def __init__(self, model: torch.nn.Module | None) -> None:
        self.model = model
        self.step = 0
        self.optimizing = False
        self.paused = False
        self._stack: list[str] = []

    @property
    def module(self) -> str:
        """The innermost module whose forward runs, by its dotted name; "" outside of all."""
        return self._stack[-1] if self._stack else ""

    @contextmanager
    def following(self) -> Iterator[None]:
        """Hooks on every module of the model, removed at the end."""
        handles = []
        for name, module in self.model.named_modules() if self.model is not None else []:
            handles.append(module.register_forward_pre_hook(self._enter(name)))
            handles.append(module.register_forward_hook(self._leave, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Inside, PyTorch computes natively and nothing is counted."""
        before, self.paused = self.paused, True
        try:
            yield
        finally:
            self.paused = before

    def _enter(self, name: str) -> Callable[..., None]:
        def push(module: torch.nn.Module, args: Any) -> None:
            self._stack.append(name)

        return push

    def _leave(self, module: torch.nn.Module, args: Any, output: Any) -> None:
        if self._stack:
            self._stack.pop()


def differentiating() -> bool:
    """Whether a closure runs forward or backward inside of `optimizer.step()`."""
    return torch.is_grad_enabled() or torch._C._current_graph_task_id() != -1


def recomputing() -> bool:
    """Whether the autograd engine is running a checkpointed forward again."""
    return torch._C._current_graph_task_id() != -1 and torch.is_grad_enabled()


def in_backward() -> bool:
    """Whether the autograd engine is running, and not recomputing a checkpointed forward."""
    return torch._C._current_graph_task_id() != -1 and not torch.is_grad_enabled()
