"""Forms of one operation: in place, with out=, and over lists of tensors."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from .declared import base_name

Op = torch._ops.OpOverload


@cache
def functional_form(func: Op) -> Op | None:
    """The form of an in-place or out= operation that returns a new tensor.

    Where aten has none, the operation itself, which stands only for its name and arguments.
    """
    space, _, name = func._schema.name.partition("::")
    packet = getattr(getattr(torch.ops, space), base_name(func).rpartition("::")[2], None)
    if packet is None:
        return func if name.endswith("_") else None
    wanted = [(a.name, str(a.type)) for a in func._schema.arguments if not a.is_out]
    same = [form for form in (getattr(packet, n) for n in packet.overloads()) if _is_new(form)]
    for form in same:
        if [(a.name, str(a.type)) for a in form._schema.arguments] == wanted:
            return form  # type: ignore[no-any-return]
    return func if name.endswith("_") and not same else None


def _is_new(form: Op) -> bool:
    return not form._schema.is_mutable


def each_in_list(func: Op, args: Any, kwargs: Any) -> Any:
    """A `_foreach_` operation: the same operation on each tensor in turn."""
    name = func._schema.name.removeprefix("aten::_foreach_")
    single = getattr(torch.ops.aten, name, None) or _copied(getattr(torch.ops.aten, name[:-1]))
    if name.startswith(("addcmul", "addcdiv")) and len(args) == 4:
        args, kwargs = args[:3], {"value": args[3]}  # a keyword in the single form
    elif name.startswith(("addcmul", "addcdiv")) and "scalars" in kwargs:
        kwargs = {"value": kwargs["scalars"]}
    if name.startswith(("maximum", "minimum", "clamp")) and not _tensors(args[1]):
        bound = "min" if name.startswith(("maximum", "clamp_min")) else "max"
        single = getattr(torch.ops.aten, f"clamp_{bound}" + ("_" if name.endswith("_") else ""))
    if func._overloadname == "ScalarAndTensor":
        single = torch.ops.aten.pow
    values = kwargs.get("value")
    if isinstance(values, torch.Tensor):  # one value for each tensor, in a tensor
        kwargs = {"value": values.tolist()}

    def at(value: Any, i: int) -> Any:
        return value[i] if isinstance(value, list | tuple) else value

    done = [
        single(*(at(a, i) for a in args), **{k: at(v, i) for k, v in kwargs.items()})
        for i in range(len(args[0]))
    ]
    return None if func._schema.is_mutable else done


def _copied(function: Callable[..., Any]) -> Callable[..., Any]:
    """An in-place form for what has none, such as maximum."""

    def changed(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return x.copy_(function(x, *args, **kwargs))

    return changed


def _tensors(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], torch.Tensor)
