"""Operations of the vector unit, as the dispatch mode hands them over: (func, args, kwargs)."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.utils._pytree import tree_map

from ...formats.device.place import on_device
from ...formats.errors import InputError
from ..operations import base_name, result_dtypes, written
from ..tracing import Trace
from .dtypes import Floats, floats, narrowed, widened
from .places import accumulates, rows_of
from .reductions import count
from .work import ADD, DIV, MUL, SUB, VectorWork

Op = torch._ops.OpOverload
Handler = Callable[[Op, Any, Any], Any]
Tensor = torch.Tensor

_ARITHMETIC = {"add": ADD, "sub": SUB, "mul": MUL, "div": DIV}
_BITS = {torch.float64: 64, torch.float32: 32}


class VectorHandlers:
    """Carries out what the vector unit does, and notes how; `mode` takes compositions back."""

    def __init__(self, work: VectorWork, trace: Trace, mode: AbstractContextManager[Any]) -> None:
        self.work, self.trace, self.mode = work, trace, mode
        self.host = work.unit.functions == "host"
        self._reduce, self._scan = self.in_unit(self._reduced), self.in_unit(self._scanned)
        self._add, self._root = self.in_unit(self._accumulated), self.in_unit(self._rooted)
        self._names: dict[tuple[Op, torch.dtype | None], str] = {}

    def exact(self, func: Op, args: Any, kwargs: Any) -> Any:
        """One IEEE operation or none: PyTorch's where the unit's arithmetic is the host's."""
        found = floats(args)
        if self._wider(found):
            return self.native(func, args, kwargs)
        if kwargs.get("alpha", 1) != 1 and not self.host and found.dtype is not None:
            result = self.in_unit(self._scaled_add)(func, args, kwargs)
            target = kwargs.get("out", args[0])
            return target.copy_(result) if func._schema.is_mutable else result
        self._note("bit_exact", func, found.dtype)
        if self.work.plain:
            quotient = self._quotient(func, args, kwargs, found)
            return func(*args, **kwargs) if quotient is None else quotient
        return self._rounded(func, args, kwargs, found.dtype)

    def _quotient(self, func: Op, args: Any, kwargs: Any, found: Floats) -> Any:
        """A division of tensors on a CUDA device, where PyTorch multiplies by the reciprocal of a
        number; None for anything else."""
        name = base_name(func)
        if name not in ("div", "reciprocal") or kwargs.get("rounding_mode") is not None:
            return None
        if not any(isinstance(x, Tensor) and on_device(x) for x in args):
            return None
        operands = (1.0, args[0]) if name == "reciprocal" else args[:2]
        result = self.work.operate(DIV, *operands).to(found.dtype or self.work.dtype)
        if not func._schema.is_mutable:
            return result
        target = kwargs.get("out", args[0])
        return (
            target.resize_(result.shape).copy_(result) if "out" in kwargs else target.copy_(result)
        )

    def _rounded(self, func: Op, args: Any, kwargs: Any, dtype: torch.dtype | None) -> Any:
        """An exact operation rounded to the unit's format; comparisons stay as they are."""
        name = base_name(func)
        if name in _ARITHMETIC and kwargs.get("rounding_mode") is None:
            if dtype is None:
                native = func(*args, **kwargs)  # integers: exact, or a quotient in floating point
                if not native.dtype.is_floating_point:
                    return native
            result = self.work.operate(_ARITHMETIC[name], *args[:2])
            return result.to(dtype or result.dtype)
        if name == "rsub":
            return self.work.operate(SUB, args[1], args[0]).to(dtype or torch.float32)
        if name == "reciprocal":
            return self.work.operate(DIV, 1.0, args[0]).to(dtype or torch.float32)
        wide = tree_map(self.work.read, widened(args, self.work.dtype))
        result = self.settled(func(*wide, **kwargs))
        return narrowed(result, dtype or self.work.dtype, self.work.dtype)

    def settled(self, result: Any) -> Any:
        """Results in the unit's format, among them what a composition only hands on."""
        if self.work.plain:
            return result

        def settle(x: Any) -> Any:
            real = isinstance(x, Tensor) and x.dtype is self.work.dtype
            return self.work.settle(x.double()) if real else x

        return tree_map(settle, result)

    def root(self, func: Op, args: Any, kwargs: Any) -> Any:
        """sqrt, correctly rounded."""
        return self._root(func, args, kwargs)

    def _rooted(self, func: Op, args: Any, kwargs: Any) -> Any:
        x = args[0]
        self._note("bit_exact", func, x.dtype)
        return self.work.root(x if x.dtype.is_floating_point else x.to(self.work.dtype))

    def _scaled_add(self, func: Op, args: Any, kwargs: Any) -> Any:
        """x + alpha y in two roundings; the host would fuse them."""
        alpha = kwargs["alpha"]
        x, y = args[:2] if base_name(func) != "rsub" else (args[1], args[0])
        with self.mode:
            scaled = torch.mul(y, alpha) if isinstance(y, Tensor) else y * alpha
            return torch.add(x, scaled) if base_name(func) == "add" else torch.sub(x, scaled)

    def native(self, func: Op, args: Any, kwargs: Any) -> Any:
        """Left to the host: by the chip's definition, or a dtype beyond the unit's."""
        self._note("native", func, floats(args).dtype)
        return func(*args, **kwargs)

    def converted(self, func: Op, args: Any, kwargs: Any) -> Any:
        """Copies: only moved, or into another dtype, nearest-even."""
        result = func(*args, **kwargs)
        source = args[1] if base_name(func) == "copy" else args[0]
        same = source.dtype is result.dtype or not result.dtype.is_floating_point
        self._note("moved" if same else "bit_exact", func, None if same else result.dtype)
        return result

    def function(self, func: Op, args: Any, kwargs: Any) -> Any:
        """exp, tanh, ...: computed in float64 and rounded once."""
        found = floats(args)
        if found.dtype is None:
            result = func(*args, **kwargs)
            if not (isinstance(result, Tensor) and result.dtype.is_floating_point):
                return result  # integers to integers: pow, remainder
            args = [x.double() if isinstance(x, Tensor) else x for x in args]
        elif self._wider(found):
            return self.native(func, args, kwargs)
        self._note("rounded_once", func, found.dtype)
        result = self.work.function(func, args, kwargs)
        if found.dtype in (None, self.work.dtype):
            return result
        return narrowed(result, found.dtype, self.work.dtype)

    def reduction(self, func: Op, args: Any, kwargs: Any) -> Any:
        """sum, mean and prod in the unit's order."""
        return self._reduce(func, args, kwargs)

    def _reduced(self, func: Op, args: Any, kwargs: Any) -> Any:
        x, name = args[0], base_name(func)
        self._note("bit_exact", func, x.dtype)
        if not x.dtype.is_floating_point:
            return func(*args, **kwargs)
        dims = args[1] if len(args) > 1 else kwargs.get("dim")
        keepdim = args[2] if len(args) > 2 else kwargs.get("keepdim", False)
        total = self.work.reduce(x, dims, keepdim, name == "prod")
        if name != "mean":
            return total
        n = count(x, dims)
        host = self.work.plain and not on_device(total)
        return total / n if host else self.work.operate(DIV, total, float(n)).to(total.dtype)

    def scan(self, func: Op, args: Any, kwargs: Any) -> Any:
        """cumsum and cumprod, ascending."""
        return self._scan(func, args, kwargs)

    def _scanned(self, func: Op, args: Any, kwargs: Any) -> Any:
        self._note("bit_exact", func, args[0].dtype)
        if not args[0].dtype.is_floating_point:
            return func(*args, **kwargs)
        return self.work.scan(args[0], args[1], base_name(func) == "cumprod")

    def accumulation(self, func: Op, args: Any, kwargs: Any) -> Any:
        """index_add and its kin: each row is added in turn, ascending, each sum rounded."""
        if not accumulates(func, args, kwargs):
            self._note("moved", func, None)
            return func(*args, **kwargs)
        return self._add(func, args, kwargs)

    def _accumulated(self, func: Op, args: Any, kwargs: Any) -> Any:
        x = args[0]
        self._note("bit_exact", func, x.dtype)
        rows = rows_of(func, args, kwargs) if x.dtype.is_floating_point else None
        if rows is None:
            return func(*args, **kwargs)
        source = rows.source
        if kwargs.get("alpha", 1) != 1:
            with self.mode:
                source = torch.mul(source, kwargs["alpha"])
        if rows.places.numel() and source.numel():
            self.work.add_rows(rows.out, rows.places, source)
        if rows.axis is None:
            return rows.out.reshape(x.shape)
        first = [x.shape[rows.axis], *(n for d, n in enumerate(x.shape) if d != rows.axis)]
        return rows.out.reshape(first).movedim(0, rows.axis)

    def in_unit(self, run: Handler) -> Handler:
        """`run` on tensors of the unit's dtype, its results in the dtypes that PyTorch gives."""
        unit = self.work.dtype

        def handler(func: Op, args: Any, kwargs: Any) -> Any:
            found = floats(args)
            asked: Any = kwargs.get("dtype")
            if asked is None and (found.dtype is None or (found.dtype is unit and found.uniform)):
                return run(func, args, kwargs)
            if self._wider(found) or (asked in _BITS and _BITS[asked] > _BITS[unit]):
                return self.native(func, args, kwargs)
            if asked is not None and not asked.is_floating_point:
                return self.native(func, args, kwargs)
            rest = {name: value for name, value in kwargs.items() if name != "dtype"}
            if found.dtype is None:  # integers that are to be added as floating-point numbers
                args = [args[0].to(unit), *args[1:]]
            wide, more = widened((args, rest), unit)
            result = run(func, wide, more)
            for n in written(func):
                if args[n] is not None and wide[n] is not args[n]:
                    args[n].copy_(wide[n])
            promoted = asked or found.dtype or unit
            return narrowed(result, result_dtypes(func, args, promoted, unit), unit)

        return handler

    def _wider(self, found: Floats) -> bool:
        """Whether the operation works on a dtype beyond the unit's."""
        if found.dtype is None or found.dtype is self.work.dtype:
            return False
        if found.dtype.is_complex:
            raise InputError(
                f"{found.dtype} tensors are not emulated: write the operation with real and "
                "imaginary parts"
            )
        return _BITS.get(found.dtype, 0) > _BITS[self.work.dtype]

    def _note(self, kind: str, func: Op, dtype: torch.dtype | None) -> None:
        """Coverage: the operation's name, with the dtype where that is not the unit's."""
        key = (func, dtype)
        name = self._names.get(key)
        if name is None:
            name = self._names[key] = self._name(func, dtype)
        self.trace.cover(kind, name)

    def _name(self, func: Op, dtype: torch.dtype | None) -> str:
        name = base_name(func)
        if dtype is None or dtype is self.work.dtype or not dtype.is_floating_point:
            return name
        return f"{name} ({str(dtype).removeprefix('torch.')})"
