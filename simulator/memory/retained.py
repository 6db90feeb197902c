"""Gradients that a program asked to retain, kept apart while a backward pass adds to them."""

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class Retained:
    """Tensors within the graph whose `.grad` the program will read."""

    def __init__(self) -> None:
        self._tensors: list[weakref.ref[Tensor]] = []

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note every tensor on which `retain_grad` is called."""
        tensor: Any = torch.Tensor

        def retain_grad(x: Tensor) -> None:
            torch._C.TensorBase.retain_grad(x)
            self.note(x)

        tensor.retain_grad = retain_grad
        try:
            yield
        finally:
            del tensor.retain_grad

    def note(self, x: Tensor) -> None:
        """x has a gradient of its own, unless it is a leaf, whose gradient hooks see."""
        if not x.is_leaf:
            self._tensors.append(weakref.ref(x))

    @contextmanager
    def apart(self, targets: Sequence[Any], factor: float) -> Iterator[None]:
        """What a backward pass adds to their gradients is multiplied by `factor`, the rest not."""
        for x in targets:
            if isinstance(x, Tensor):
                if not x.is_leaf:
                    torch._C.TensorBase.retain_grad(x)  # as the engine would, once it has run
                self.note(x)
        live = {id(x): x for ref in self._tensors if (x := ref()) is not None}
        self._tensors = [weakref.ref(x) for x in live.values()]
        before = [(x, x.grad) for x in live.values()]
        for x, _ in before:
            x.grad = None
        try:
            yield
        finally:
            for x, old in before:
                new = None if x.grad is None else x.grad * factor
                x.grad = old if new is None else new if old is None else old + new
