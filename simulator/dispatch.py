"""The dispatch mode: every operation of PyTorch on its way to the unit that computes it."""

from collections.abc import Callable
from typing import Any

import torch
from torch._decomp import decomposition_table
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .chip import Chip
from .matrix import Forms, MatrixWork
from .operations import POINTWISE, UndeclaredOperation, base_name, declared, undeclared
from .phase import Phase
from .roles import Roles
from .tracing import Trace
from .vector import count, in_float64, reduce_sum

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
        self._plans: dict[Op, Handler] = {}
        self._handlers: dict[str, Handler] = {
            "matrix": self.forms,
            "exact": self._exact,
            "function": self._function,
            "reduction": self._reduction,
            "pointwise": self._composite,
            "composite": self._composite,
            "moved": self._moved,
        }

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
        if kind is None and name.startswith("_foreach_"):
            return self._foreach
        if kind is None:
            return self._unknown
        pointwise = name in POINTWISE and self.host
        handler = self._native if pointwise else self._handler(kind)
        in_place = func._schema.is_mutable and handler not in (
            self._native,
            self._exact,
            self._moved,
            self.forms,
        )
        return self._in_place(handler) if in_place else handler

    def _handler(self, kind: Any) -> Handler:
        if not callable(kind):
            return self._handlers[kind]

        def composed(func: Op, args: Any, kwargs: Any) -> Any:
            if not _emulated(args):
                return self._native(func, args, kwargs)
            return self._inside(kind, args, kwargs)

        return composed

    def _in_place(self, handler: Handler) -> Handler:
        """An in-place form: the functional form, then a copy into the first argument."""

        def changed(func: Op, args: Any, kwargs: Any) -> Any:
            packet = getattr(torch.ops.aten, base_name(func))
            overload = getattr(packet, func._overloadname, None)
            if overload is None or "out" in kwargs or not func._schema.name.endswith("_"):
                raise undeclared(func)
            return args[0].copy_(handler(overload, args, kwargs))

        return changed

    def _inside(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """A composition of operations, each of which comes back here."""
        with self:
            return function(*args, **kwargs)

    def _unknown(self, func: Op, args: Any, kwargs: Any) -> Any:
        """Exact if no floating-point tensor is involved; a composition if PyTorch has one."""
        leaves = tree_leaves((args, kwargs))
        if not any(_real(x) for x in leaves):
            self.trace.cover("moved", base_name(func))
            return func(*args, **kwargs)
        with self:
            result = func.decompose(*args, **kwargs)
        if result is NotImplemented:
            raise undeclared(func)
        return result

    def _exact(self, func: Op, args: Any, kwargs: Any) -> Any:
        if kwargs.get("alpha", 1) != 1 and not self.host and _emulated(args):
            return self._scaled_add(func, args, kwargs)
        self.trace.cover("bit_exact" if _emulated(args) else "native", _covered(func, args))
        return func(*args, **kwargs)

    def _scaled_add(self, func: Op, args: Any, kwargs: Any) -> Any:
        """x + alpha y in two roundings; the host would fuse them."""
        alpha = kwargs["alpha"]
        rest = {k: v for k, v in kwargs.items() if k != "alpha"}
        if base_name(func) == "rsub":
            return func(torch.mul(args[0], alpha), *args[1:], **rest)
        scaled = torch.mul(args[1], alpha) if isinstance(args[1], torch.Tensor) else args[1] * alpha
        self.trace.cover("bit_exact", base_name(func))
        return func(args[0], scaled, *args[2:], **rest)

    def _native(self, func: Op, args: Any, kwargs: Any) -> Any:
        self.trace.cover("native", _covered(func, args))
        return func(*args, **kwargs)

    def _function(self, func: Op, args: Any, kwargs: Any) -> Any:
        if self.host or not _emulated(args):
            return self._native(func, args, kwargs)
        self.trace.cover("rounded_once", base_name(func))
        return in_float64(func, args, kwargs)

    def _reduction(self, func: Op, args: Any, kwargs: Any) -> Any:
        x = args[0]
        if not _emulated(args) or kwargs.get("dtype") not in (None, torch.float32):
            return self._native(func, args, kwargs)
        dims = args[1] if len(args) > 1 else kwargs.get("dim")
        keepdim = args[2] if len(args) > 2 else kwargs.get("keepdim", False)
        self.trace.cover("bit_exact", base_name(func))
        total = reduce_sum(x, dims, keepdim, self.chip.vector_unit)
        return total / count(x, dims) if base_name(func) == "mean" else total

    def _composite(self, func: Op, args: Any, kwargs: Any) -> Any:
        if not _emulated(args):
            return self._native(func, args, kwargs)
        try:
            return self._inside(decomposition_table[func], args, kwargs)
        except UndeclaredOperation as error:
            if "prims::" in str(error):  # a primitive of PyTorch's own: name what the user called
                raise undeclared(func) from error
            raise

    def _moved(self, func: Op, args: Any, kwargs: Any) -> Any:
        self.trace.cover("moved", base_name(func))
        return func(*args, **kwargs)

    def _foreach(self, func: Op, args: Any, kwargs: Any) -> Any:
        """A list operation: the same operation on each tensor in turn."""
        name = func._schema.name.removeprefix("aten::_foreach_")
        single = getattr(torch.ops.aten, name)
        if name.startswith(("addcmul", "addcdiv")) and len(args) == 4:
            args, kwargs = args[:3], {"value": args[3]}  # a keyword in the single form
        elif name.startswith(("addcmul", "addcdiv")) and "scalars" in kwargs:
            kwargs = {"value": kwargs["scalars"]}

        def at(value: Any, i: int) -> Any:
            return value[i] if isinstance(value, list | tuple) else value

        with self:
            done = [
                single(*(at(a, i) for a in args), **{k: at(v, i) for k, v in kwargs.items()})
                for i in range(len(args[0]))
            ]
        return None if func._schema.is_mutable else done


def _emulated(args: Any) -> bool:
    """Whether the operation works on float32, the vector unit's format."""
    for x in args:
        if isinstance(x, torch.Tensor):
            if x.is_floating_point() or x.is_complex():
                return x.dtype == torch.float32
        elif isinstance(x, (list, tuple)) and x and isinstance(x[0], torch.Tensor):
            return _emulated(x)
    return not any(isinstance(x, torch.Tensor) for x in args) or _integral(args)


def _integral(args: Any) -> bool:
    return not any(_real(x) for x in args)


def _real(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and (x.is_floating_point() or x.is_complex())


def _covered(func: Op, args: Any) -> str:
    """The operation's name, with the dtype where that is not the vector unit's."""
    name = base_name(func)
    if _emulated(args):
        return name
    leaves = tree_leaves(args)
    dtype = next(x.dtype for x in leaves if _real(x))
    return f"{name} ({str(dtype).removeprefix('torch.')})"
