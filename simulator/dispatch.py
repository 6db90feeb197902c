"""The dispatch mode: every operation of PyTorch on its way to the unit that computes it."""

from collections.abc import Callable
from typing import Any

import torch
from torch._decomp import decomposition_table
from torch.utils._python_dispatch import TorchDispatchMode

from .chip import Chip
from .location import called_from
from .matrix import Forms, MatrixWork
from .operations import (
    POINTWISE,
    UndeclaredOperation,
    base_name,
    declared,
    each_in_list,
    functional_form,
    undeclared,
)
from .phase import Phase
from .roles import Roles
from .tracing import Trace
from .vector import VectorHandlers, VectorWork, floats

Op = torch._ops.OpOverload
Handler = Callable[[Op, Any, Any], Any]


class Dispatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sends each aten operation where it belongs."""

    def __init__(
        self, chip: Chip, matrix: MatrixWork, roles: Roles, phase: Phase, trace: Trace
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.chip, self.matrix, self.roles = chip, matrix, roles
        self.phase, self.trace = phase, trace
        self.forms = Forms(matrix, roles, trace, self._inside)
        self.host = chip.vector_unit.functions == "host"
        self.vector = VectorHandlers(VectorWork(chip.vector_unit, trace), trace, self)
        self._plans: dict[Op, Handler] = {}
        self._handlers: dict[str, Handler] = {
            "matrix": self.forms,
            "exact": self.vector.exact,
            "root": self.vector.native if self.host else self.vector.root,
            "function": self.vector.native if self.host else self.vector.function,
            "reduction": self.vector.reduction,
            "scan": self.vector.scan,
            "accumulation": self.vector.accumulation,
            "converted": self.vector.converted,
            "pointwise": self._composite,
            "composite": self._composite,
        }

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing here is compiled; PyTorch's wrapper that says so costs a microsecond a call."""
        return False

    def __torch_dispatch__(self, func: Op, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.phase.paused:
            return func(*args, **kwargs)
        handler = self._plans.get(func)
        if handler is None:
            handler = self._plans[func] = self._plan(func)
        watch = self.trace.watch
        if watch is None:
            result = handler(func, args, kwargs)
        else:
            result = watch.run(handler, func, args, kwargs)
        if handler is not self.forms:
            self.roles.note_result(func, args, result)
        return result

    def _plan(self, func: Op) -> Handler:
        """The handler of an operation, found once."""
        kind = declared(func)
        name = base_name(func)
        if kind == "moved":
            return self._moved(func)
        if kind is None:
            return self._list if name.startswith("_foreach_") else self._unknown
        if self.host and name in POINTWISE:
            return self.vector.native
        handler = self._composed(kind) if callable(kind) else self._handlers[kind]
        stays = handler in (self.vector.native, self.vector.converted) or kind == "matrix"
        stays |= handler == self.vector.exact and self.vector.work.plain
        if stays or not func._schema.is_mutable or getattr(kind, "writes", False):
            return handler
        return self._in_place(handler)

    def _composed(self, function: Callable[..., Any]) -> Handler:
        """A composition of operations, each of which comes back here."""

        def composed(func: Op, args: Any, kwargs: Any) -> Any:
            return self.vector.settled(self._inside(function, args, kwargs))

        return composed if getattr(function, "writes", False) else self.vector.in_unit(composed)

    def _inside(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        with self:
            return function(*args, **kwargs)

    def _composite(self, func: Op, args: Any, kwargs: Any) -> Any:
        return self.vector.in_unit(self._decomposed)(func, args, kwargs)

    def _decomposed(self, func: Op, args: Any, kwargs: Any) -> Any:
        """PyTorch's own decomposition."""
        try:
            return self.vector.settled(self._inside(decomposition_table[func], args, kwargs))
        except UndeclaredOperation as error:
            if "prims::" in str(error):  # a primitive of PyTorch's own: name what the user called
                raise self._undeclared(func) from error
            raise

    def _in_place(self, handler: Handler) -> Handler:
        """In-place and out= forms: the functional form, then a copy into what they write."""

        def changed(func: Op, args: Any, kwargs: Any) -> Any:
            form = functional_form(func)
            if form is None:
                raise self._undeclared(func)
            target = kwargs.get("out", args[0] if args else None)
            rest = {name: value for name, value in kwargs.items() if name != "out"}
            result = handler(form, args, rest)
            if target.shape != result.shape and "out" in kwargs:
                target.resize_(result.shape)
            return target.copy_(result)

        return changed

    def _unknown(self, func: Op, args: Any, kwargs: Any) -> Any:
        """Exact if no floating-point tensor is involved; a composition if PyTorch has one."""
        if floats((*args, *kwargs.values())).dtype is None:
            self.trace.cover("moved", base_name(func))
            return func(*args, **kwargs)
        with self:
            result = func.decompose(*args, **kwargs)
        if result is NotImplemented:
            raise self._undeclared(func)
        return result

    def _undeclared(self, func: Op) -> UndeclaredOperation:
        return undeclared(func, called_from(self.phase))

    def _moved(self, func: Op) -> Handler:
        name, cover = base_name(func), self.trace.cover

        def moved(func: Op, args: Any, kwargs: Any) -> Any:
            cover("moved", name)
            return func(*args, **kwargs)

        return moved

    def _list(self, func: Op, args: Any, kwargs: Any) -> Any:
        """A list operation: the same operation on each tensor in turn."""
        with self:
            return each_in_list(func, args, kwargs)
