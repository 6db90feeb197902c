"""Gradients of parameters as the chip stores them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...formats.errors import InputError
from ..phase import Phase
from ..tracing import Trace
from .storing import Store, wide_bytes


class Gradients:
    """`.grad`, rounded each time that a backward pass has added to it.

    Under loss scaling the memory holds S g: what is left in `.grad` is round(S g) / S, both
    exact, since S is a power of two.
    """

    def __init__(self, store: Store, phase: Phase, trace: Trace) -> None:
        self.store, self.phase, self.trace = store, phase, trace
        self.scale: Callable[[], float] = lambda: 1.0
        self._handles: dict[int, Any] = {}

    def see(self, name: str, parameter: Tensor) -> None:
        """Follow the gradient of a parameter, before hooks of the program that read it."""
        if not (parameter.requires_grad and parameter.is_leaf) or id(parameter) in self._handles:
            return
        leaf: Any = parameter
        self._handles[id(leaf)] = leaf.register_post_accumulate_grad_hook(self._accumulated(name))
        put_first(leaf._post_accumulate_grad_hooks)

    def remove(self) -> None:
        """Follow no longer."""
        for handle in self._handles.values():
            handle.remove()
        self._handles.clear()

    def _accumulated(self, name: str) -> Callable[[Tensor], None]:
        def keep(parameter: Tensor) -> None:
            gradient = parameter.grad
            if gradient is None:
                return
            with self.phase.pause(), torch.no_grad():
                if gradient.layout != torch.strided and not self.store.exact:
                    raise InputError(
                        f"{self.store.place}: the gradient of {name} is sparse, and the recipe "
                        "stores gradients; make it dense (sparse=False in nn.Embedding)"
                    )
                size = self.store.bytes(gradient)
                self.trace.footprint.set("gradient", name, size, wide_bytes(gradient))
                if not self.store.keeps(gradient):
                    scale = self.scale()
                    gradient.copy_(self.store.put(gradient * scale, name) / scale)

        return keep


def put_first(hooks: dict[int, Any]) -> None:
    """Make the last hook of a tensor the first to be called."""
    (last, hook), *others = reversed(hooks.items())
    hooks.clear()
    hooks.update({last: hook, **dict(reversed(others))})
