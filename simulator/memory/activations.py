"""Activations saved for backward, as the chip stores them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from ..phase import Phase
from ..tracing import Trace
from .storing import Store, wide_bytes


class _Saved:
    """A stored activation; the reference keeps the address of the original from being reused."""

    def __init__(self, values: Tensor, original: Tensor) -> None:
        self.values = values
        self.version = values._version
        self.reference = StorageWeakRef(original.untyped_storage())  # type: ignore[no-untyped-call]


class _Handle:
    """One save of a stored activation: how autograd saw it."""

    __slots__ = ("saved", "view")

    def __init__(self, saved: _Saved, view: Callable[[Tensor], Tensor]) -> None:
        self.saved, self.view = saved, view


class Activations:
    """Hooks on what autograd saves: forward goes on with x, backward reads stored(x) once.

    A storage that is saved whole, under any view, is rounded and counted once; parts of one are
    stored apart. What is saved while the engine runs stays as it was computed: by the second
    forward of a checkpointed function, of which only the inputs are stored, and by a backward pass
    that is itself differentiated.
    """

    def __init__(
        self, store: Store, is_parameter: Callable[[int], bool], phase: Phase, trace: Trace
    ) -> None:
        self.store, self.phase, self.trace = store, phase, trace
        self._is_parameter = is_parameter
        self.note_copy: Callable[[Tensor, Tensor], None] | None = None
        self._cache: WeakValueDictionary[Any, _Saved] = WeakValueDictionary()

    @contextmanager
    def saving(self) -> Iterator[None]:
        """While the emulation runs."""
        self.trace.footprint.watch()
        with torch.autograd.graph.saved_tensors_hooks(self._pack, self._unpack):
            yield

    def _pack(self, x: Tensor) -> Any:
        with self.phase.pause(), torch.no_grad():
            # Hooks run without gradients, which would tell a recomputation from a backward pass.
            backward = torch._C._current_graph_task_id() != -1
            parameter = self._is_parameter(x.untyped_storage()._cdata)
            if backward or parameter or not x.is_floating_point():
                return _Handle(_Saved(x, x), _same)
            base = _without_expansion(x)
            key = (x.untyped_storage()._cdata, x._version, x.dtype, _geometry(base))
            saved = self._cache.get(key)
            if saved is None:
                saved = self._cache[key] = self._stored(base)
            return _Handle(saved, _viewer(x, base))

    def _unpack(self, handle: _Handle) -> Tensor:
        saved = handle.saved
        if saved.values._version != saved.version:
            raise RuntimeError(
                "a tensor saved for backward has been modified by an in-place operation: "
                f"shape {tuple(saved.values.shape)}, at version {saved.values._version}, expected "
                f"version {saved.version}"
            )
        with self.phase.pause():
            return handle.view(saved.values)

    def _stored(self, x: Tensor) -> _Saved:
        small = x.ndim == 0 or x.shape[-1] == 1 or self.store.keeps(x)
        values = x if small else self.store.put(x, self.phase.module)
        if not small and torch.equal(values, x):
            values = x
        elif not small:
            values = _as_laid(values, x)
            if self.note_copy is not None:
                self.note_copy(values, x)
        saved = _Saved(values, x)
        size = x.numel() * x.element_size() if small else self.store.bytes(x)
        self.trace.footprint.hold(saved, size, wide_bytes(x))
        return saved


def _same(x: Tensor) -> Tensor:
    return x


def _without_expansion(x: Tensor) -> Tensor:
    """x with one element along every axis that repeats a single one."""
    for axis, (size, stride) in enumerate(zip(x.shape, x.stride(), strict=True)):
        if stride == 0 and size > 1:
            x = x.narrow(axis, 0, 1)
    return x


def _is_whole(x: Tensor) -> bool:
    """Whether x has every element of its storage once."""
    if x.untyped_storage().nbytes() != x.numel() * x.element_size() or x.storage_offset():
        return False
    reach = 1
    for stride, size in sorted(zip(x.stride(), x.shape, strict=True)):
        if size != 1 and stride != reach:
            return False
        reach *= size
    return True


def _geometry(x: Tensor) -> Any:
    return () if _is_whole(x) else (x.storage_offset(), tuple(x.shape), x.stride())


def _as_laid(values: Tensor, x: Tensor) -> Tensor:
    """`values` with x's strides, where x is a whole storage."""
    if not _is_whole(x):
        return values
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device).copy_(values)


def _viewer(x: Tensor, base: Tensor) -> Callable[[Tensor], Tensor]:
    """From the stored values of `base` to what autograd saved."""
    shape, laid, strides, whole = x.shape, base.shape, base.stride(), _is_whole(base)

    def view(values: Tensor) -> Tensor:
        return (values.as_strided(laid, strides) if whole else values).expand(shape)

    return view
