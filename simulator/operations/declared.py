"""What becomes of an operation on a chip, and how to declare it for one that Tapeout lacks."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
from torch._decomp import decomposition_table

from ...formats.errors import InputError, choice
from . import tables

Kind = Literal[
    "matrix", "exact", "root", "function", "reduction", "scan", "accumulation", "converted",
    "moved", "pointwise", "composite",
]  # fmt: skip

F = TypeVar("F", bound=Callable[..., Any])

_GROUPS: tuple[tuple[Kind, frozenset[str]], ...] = (
    ("matrix", tables.MATRIX),
    ("exact", tables.EXACT),
    ("root", tables.ROOTS),
    ("function", tables.FUNCTIONS),
    ("reduction", tables.REDUCTIONS),
    ("scan", tables.SCANS),
    ("accumulation", tables.ACCUMULATIONS),
    ("converted", tables.CONVERTED),
    ("pointwise", tables.POINTWISE),
    ("moved", tables.MOVED),
)
_DECLARED: dict[str, Kind | Callable[..., Any]] = {n: kind for kind, ns in _GROUPS for n in ns}
#: Random masks are the host's; what the vector unit does is the multiplication.
_DECLARED["native_dropout"] = "composite"


def register_op(name: str, kind: Kind | None = None, *, writes: bool = False) -> Callable[[F], F]:
    """Declare what becomes of an operation that Tapeout does not know.

    As a decorator it takes a function of the operation's arguments that is built from declared
    operations, each of which is then emulated:

        @register_op("my_library::scaled_tanh")
        def scaled_tanh(x, scale):
            return torch.tanh(x) * scale

    With `kind` ("exact", "function", "moved", ...) it only classifies:
    `register_op("my_library::shuffle", kind="moved")`. An in-place operation is the function, then
    a copy into its first argument; with `writes`, the function itself writes into its arguments
    and gets them as they are, 16-bit tensors too.

    Raises:
        InputError: `kind` is not one of those of this module.
    """
    base = name.removeprefix("aten::")
    if kind is not None:
        _DECLARED[base] = _kind(kind)

    def declare(function: F) -> F:
        _DECLARED[base] = function
        if writes:
            function.writes = True  # type: ignore[attr-defined]
        return function

    return declare


def _kind(kind: str) -> Kind:
    allowed = [name for name, _ in _GROUPS] + ["composite"]
    choice(kind, allowed, "kind", "register_op")
    return kind  # type: ignore[return-value]


def base_name(func: torch._ops.OpOverload) -> str:
    """`add` for aten::add_.Tensor; `library::op` outside of aten and prims."""
    space, _, name = func._schema.name.partition("::")
    if name.endswith("_") and not name.endswith("__"):
        name = name[:-1]
    return name if space in ("aten", "prims") else f"{space}::{name}"


def declared(func: torch._ops.OpOverload) -> Kind | Callable[..., Any] | None:
    """What becomes of an operation; None if nobody declared it."""
    name = base_name(func)
    found = _DECLARED.get(name)
    if found is not None:
        return found
    if func in decomposition_table and name not in tables.REFUSED and not name.startswith("fft_"):
        return "composite"
    return None


class UndeclaredOperation(InputError):
    """An operation that nobody declared."""


def undeclared(func: torch._ops.OpOverload, where: str) -> UndeclaredOperation:
    """The refusal of an operation, with where it was called and what to do."""
    name = func._schema.name
    return UndeclaredOperation(
        f"operation {name} ({func._overloadname}), called at {where}, has no emulation: write it "
        f'with operations that have one, or declare it with @register_op("{name}") (an example '
        "stands in help(tapeout.simulator.register_op))"
    )
