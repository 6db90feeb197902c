"""Where a run stands: module, forward or backward, optimizer step, and whether anyone looks on."""

import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._C._autograd import _get_sequence_nr
from torch.autograd.graph import _engine_run_backward
from torch.utils import checkpoint

_RANGES = 1 << 16
Entered = Callable[[str, torch.nn.Module], None]
Left = Callable[[str, torch.nn.Module, Any], None]


class Phase:
    """Follows a model through forward, backward and optimizer step.

    Autograd numbers the nodes of its graph in the order of the forward pass. The numbers at which
    modules are entered and left are kept, so that a node that runs backward leads to its module.

    Attributes:
        model: names the modules; None if the user gave none.
        step: optimizer steps ended so far.
        optimizing: inside of `optimizer.step()`.
        paused: what PyTorch computes now is the simulator's own bookkeeping, not the chip's work.
        entered, left: called with name and module as its forward begins, and with its output.
    """

    def __init__(self, model: torch.nn.Module | None) -> None:
        self.model = model
        self.step = 0
        self.optimizing = False
        self.paused = False
        self.entered: list[Entered] = []
        self.left: list[Left] = []
        self._stack: list[str] = []
        self._starts: list[int] = []
        self._names: list[str] = []
        self._owners: dict[int, str] = {}

    @property
    def module(self) -> str:
        """The innermost module that the operation belongs to, by its dotted name; "" outside of
        all. Backward, the module in whose forward the running autograd node was made."""
        if torch._C._current_graph_task_id() != -1 and (in_backward() or not self._stack):
            return self._module_of_node()
        return self._stack[-1] if self._stack else ""

    @property
    def entered_any(self) -> bool:
        """Whether the forward of any module runs."""
        return bool(self._stack)

    @contextmanager
    def following(self) -> Iterator[None]:
        """Hooks on every module of the model, removed at the end; TorchScript takes none."""
        handles = []
        for name, module in self.model.named_modules() if self.model is not None else []:
            if not isinstance(module, torch.jit.ScriptModule):
                handles.append(module.register_forward_pre_hook(self._enter(name), prepend=True))
                handles.append(module.register_forward_hook(self._leave, always_call=True))
            for parameter in module.parameters(recurse=False):
                self._owners.setdefault(id(parameter), name)
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
            self._mark(name)
            for entered in self.entered:
                entered(name, module)

        return push

    def _leave(self, module: torch.nn.Module, args: Any, output: Any) -> None:
        if self._stack:
            name = self._stack.pop()
            self._mark(self._stack[-1] if self._stack else "")
            for left in self.left:
                left(name, module, output)

    def _mark(self, name: str) -> None:
        """From the next autograd node on, nodes belong to `name`."""
        number = _get_sequence_nr()
        if self._starts and self._starts[-1] == number:
            self._names[-1] = name
            return
        self._starts.append(number)
        self._names.append(name)
        if len(self._starts) > 2 * _RANGES:  # the graphs of so long ago are gone
            del self._starts[:_RANGES], self._names[:_RANGES]

    def _module_of_node(self) -> str:
        node = torch._C._current_autograd_node()
        if node is None:
            return self._stack[-1] if self._stack else ""
        number = node._sequence_nr()
        if number >> 63:  # AccumulateGrad has no number of its own
            return self._owners.get(id(getattr(node, "variable", None)), "")
        i = bisect_right(self._starts, number) - 1
        return self._names[i] if i >= 0 else ""


def differentiating() -> bool:
    """Whether a closure runs forward or backward inside of `optimizer.step()`."""
    return torch.is_grad_enabled() or torch._C._current_graph_task_id() != -1


def recomputing() -> bool:
    """Whether the autograd engine is running a checkpointed forward again."""
    return (
        torch._C._current_graph_task_id() != -1
        and torch.is_grad_enabled()
        and not _differentiable_backward()
    )


def in_backward() -> bool:
    """Whether the autograd engine is running, and not recomputing a checkpointed forward."""
    if torch._C._current_graph_task_id() == -1:
        return False
    return not torch.is_grad_enabled() or _differentiable_backward()


def _differentiable_backward() -> bool:
    """Whether the running backward pass is itself recorded by autograd (create_graph=True).

    Gradients are enabled in it as they are in a recomputation, so the Python frames tell: a
    recomputation stands above a frame of the checkpoint, or in an engine run without create_graph.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is _engine_run_backward.__code__:
            given, named = frame.f_locals["args"], frame.f_locals["kwargs"]
            return bool(given[2] if len(given) > 2 else named.get("create_graph", False))
        if frame.f_code.co_filename == checkpoint.__file__:
            return False
        frame = frame.f_back  # type: ignore[assignment]
    return False
