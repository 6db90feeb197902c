"""Every optimizer's step, seen from before and after, without touching the optimizer.

What is seen is what torch calls its hooks for: `step` of subclasses of torch.optim.Optimizer.
An object with a `step` of its own that is no such subclass computes as any other code of the
program does: its products count as forward, and nothing is stored or skipped around it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch.autograd import profiler
from torch.optim.optimizer import register_optimizer_step_pre_hook

from .phase import Phase


class Part(Protocol):
    """What has something to do around a step; PyTorch computes natively in both."""

    def step_begins(self, optimizer: torch.optim.Optimizer) -> None:
        """Before the first operation of the step."""

    def step_ends(self, optimizer: torch.optim.Optimizer) -> None:
        """After its last one, and after one that raised."""


@runtime_checkable
class Closures(Protocol):
    """A part that also has something to do around the closure that a step calls."""

    def closure_begins(self, optimizer: torch.optim.Optimizer) -> None:
        """Before the closure runs forward and backward."""

    def closure_ends(self, optimizer: torch.optim.Optimizer) -> None:
        """After it, with new gradients, or after it raised."""


@runtime_checkable
class Judge(Protocol):
    """A part that decides, once its gradients are there, whether a step is carried out."""

    def judge(self, optimizer: torch.optim.Optimizer, evaluation: int) -> None:
        """Before any part has begun (evaluation 0), or after each time that the closure has run.

        Raises:
            SkipStep: the step is not carried out.
        """


class SkipStep(Exception):
    """Raised by a judge: this step is not carried out; `step()` returns None."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(f"step of {type(optimizer).__name__} is skipped")
        self.optimizer = optimizer


@dataclass
class _Level:
    """One running `step`; those that it calls stand above it.

    Attributes:
        optimizer: None until its hook is called, or where it is the same as further down.
        begun: how many parts have begun.
    """

    optimizer: torch.optim.Optimizer | None = None
    begun: int = 0


class Steps:
    """Calls the parts around steps, and around the closures of steps.

    A wrapper's step that calls another optimizer's is a step around a step; a class whose step
    calls that of its base class is one step. Only the outermost counts in `phase.step`.
    """

    def __init__(self, phase: Phase, parts: Sequence[Part]) -> None:
        self.phase, self.parts = phase, parts
        self._levels: list[_Level] = []

    def enter(self) -> None:
        """A `step` starts; its optimizer is not known yet."""
        self._levels.append(_Level())

    def begin(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> Any:
        """Its hook: the parts in their order; returns the arguments with the closure wrapped."""
        if any(level.optimizer is optimizer for level in self._levels):
            return None
        level = self._levels[-1]
        level.optimizer = optimizer
        self.phase.optimizing = True
        wrapped = self._wrapped(optimizer, args, kwargs)
        with self.phase.pause():
            if wrapped is None:
                self._judge(optimizer, 0)
            for part in self.parts:
                part.step_begins(optimizer)
                level.begun += 1
        return wrapped

    def _judge(self, optimizer: torch.optim.Optimizer, evaluation: int) -> None:
        for part in self.parts:
            if isinstance(part, Judge):
                part.judge(optimizer, evaluation)

    def leave(self, error: BaseException | None) -> bool:
        """It ends, or raises; returns whether that was our own way of skipping it."""
        level = self._levels.pop()
        optimizer = level.optimizer
        if optimizer is None:
            return False
        with self.phase.pause():
            for part in reversed(self.parts[: level.begun]):
                part.step_ends(optimizer)
        if not self._levels:
            self.phase.optimizing = False
            self.phase.step += 1
        return isinstance(error, SkipStep) and error.optimizer is optimizer

    def _wrapped(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> Any:
        if callable(kwargs.get("closure")):
            return args, kwargs | {"closure": self._closure(optimizer, kwargs["closure"])}
        if len(args) > 1 and callable(args[1]):
            return (args[0], self._closure(optimizer, args[1]), *args[2:]), kwargs
        return None

    def _closure(
        self, optimizer: torch.optim.Optimizer, closure: Callable[..., Any]
    ) -> Callable[..., Any]:
        parts = [part for part in self.parts if isinstance(part, Closures)]
        evaluation = 0

        def evaluated(*args: Any, **kwargs: Any) -> Any:
            nonlocal evaluation
            evaluation += 1
            with self.phase.pause():
                for part in parts:
                    part.closure_begins(optimizer)
            before, self.phase.optimizing = self.phase.optimizing, False
            try:
                result = closure(*args, **kwargs)
            finally:
                self.phase.optimizing = before
                with self.phase.pause():
                    for part in reversed(parts):
                        part.closure_ends(optimizer)
            with self.phase.pause():
                self._judge(optimizer, evaluation)
            return result

        return evaluated


@contextmanager
def following_steps(phase: Phase, parts: Sequence[Part]) -> Iterator[None]:
    """Calls the parts around every optimizer step: in their order before, in reverse after.

    torch's hook after a step is not called for one that raises. What it always leaves is the
    `record_function("Optimizer.step#...")` in which it runs a step with its hooks; so that is
    followed, and can also end a step that has not begun.
    """
    steps = Steps(phase, parts)
    plain: Any = profiler.record_function

    class FollowedRecord(plain):  # type: ignore[misc]
        def __init__(self, name: str, *args: Any) -> None:
            super().__init__(name, *args)
            self.is_step = name.startswith("Optimizer.step#")

        def __enter__(self) -> Any:
            entered = super().__enter__()
            if self.is_step:
                steps.enter()
            return entered

        def __exit__(self, kind: Any, error: Any, traceback: Any) -> Any:
            super().__exit__(kind, error, traceback)
            return self.is_step and steps.leave(error)

    handle = register_optimizer_step_pre_hook(steps.begin)
    module: Any = profiler
    module.record_function = FollowedRecord
    try:
        yield
    finally:
        module.record_function = plain
        handle.remove()
