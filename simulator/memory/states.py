"""Optimizer states as the chip stores them."""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor

from ...formats.errors import InputError
from ..tracing import Trace
from .storing import Store, fingerprint, wide_bytes

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)


class States:
    """State tensors of optimizers, rounded after every step that changed them.

    Integer and boolean tensors, and single numbers such as a count of steps, stay as they are.
    """

    def __init__(self, stores: Mapping[str, Store], trace: Trace) -> None:
        names = [name for name in stores if name != "*"]
        exact = [name for name in names if not any(c in name for c in "*?[")]
        patterns = [name for name in names if name not in exact]
        order = (*exact, *patterns, *(["*"] if "*" in stores else []))
        self._stores = [(name, stores[name]) for name in order]
        self.trace = trace

    def store_of(self, path: str) -> Store | None:
        """The row for a state by its path, `exp_avg` or `sides.0.root`, or its last name."""
        names = (path, path.rpartition(".")[2])
        for pattern, store in self._stores:
            if any(fnmatchcase(name, pattern) for name in names):
                return store
        return None

    def step_begins(self, optimizer: torch.optim.Optimizer) -> dict[int, str]:
        """Digests of the states that a row is about, by tensor."""
        found = (x for _, _, x, store in self._tensors(optimizer) if store is not None)
        return {id(x): fingerprint(x) for x in found if not _single(x)}

    def step_ends(
        self, optimizer: torch.optim.Optimizer, before: Mapping[int, str], names: Mapping[int, str]
    ) -> None:
        """Round those that changed. `names` of parameters, by identity."""
        for owner, path, x, store in list(self._tensors(optimizer)):
            name = names.get(id(owner), "") if isinstance(owner, Tensor) else ""
            if store is not None and not _single(x) and not store.keeps(x):
                if before.get(id(x)) != fingerprint(x):
                    with torch.no_grad():
                        x.copy_(store.put(x, name, path))
            size = x.numel() * x.element_size() if store is None else store.bytes(x)
            self.trace.footprint.set("optimizer", f"{name}:{path}", size, wide_bytes(x))

    def _tensors(
        self, optimizer: torch.optim.Optimizer
    ) -> Iterator[tuple[object, str, Tensor, Store | None]]:
        """Owner, path, state and row of every state tensor but the parameters themselves."""
        for owner, state in optimizer.state.items():
            for path, x in self._leaves(state, ""):
                if x is not owner:
                    yield owner, path, x, self.store_of(path)

    def _leaves(self, node: Any, path: str) -> Iterator[tuple[str, Tensor]]:
        if isinstance(node, Tensor):
            yield path, node
        elif isinstance(node, Mapping):
            for key, value in node.items():
                yield from self._leaves(value, f"{path}.{key}" if path else str(key))
        elif isinstance(node, list | tuple):
            for i, value in enumerate(node):
                yield from self._leaves(value, f"{path}.{i}")
        elif self._stores and not isinstance(node, _PLAIN):
            raise InputError(
                f"optimizer state {path} is a {type(node).__name__}, whose tensors cannot be "
                "seen: keep states as tensors, dictionaries or lists, or drop memory.optimizer"
            )


def _single(x: Tensor) -> bool:
    return x.ndim == 0 or not x.is_floating_point()
