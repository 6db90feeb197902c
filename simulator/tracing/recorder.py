"""What every operation of a run returned, as digests: to find where two runs part."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_leaves

from ..operations import base_name, declared
from ..phase import Phase, differentiating, in_backward
from ..roles import Product


class Operation(NamedTuple):
    """One operation that computed.

    Attributes:
        part: "forward", "backward" or "optimizer step".
        module: dotted name of the module; "" outside of all.
        op: as PyTorch called it.
        gemm: GEMM role of a matrix product, else "".
        operands, result: digests of what went in and of what came out.
    """

    part: str
    module: str
    op: str
    gemm: str
    operands: str
    result: str

    @property
    def what(self) -> tuple[str, str, str]:
        """Which operation it was: the same in two runs that compute alike. The role of a product
        may differ, as a recipe that exempts a module changes it."""
        return self.part, self.module, self.op


class Recorder:
    """Takes a digest of the operands and the result of every operation that computes, in order.

    Operations inside of a composed one are not looked at, nor what only moves or creates data.

    Attributes:
        operations: what was computed so far.
        expected: of another run; the result of the first operation that differs is kept.
        wanted: the number of the operation whose result is kept; -1 for none.
        kept: that result: its floating-point tensors, as float64 and flat.
    """

    def __init__(self, expected: Sequence[Operation] | None = None, wanted: int = -1) -> None:
        self.operations: list[Operation] = []
        self.expected, self.wanted = expected, wanted
        self.kept: torch.Tensor | None = None
        self.phase = Phase(None)
        self.product: Product | None = None
        self._depth = 0

    def attach(self, phase: Phase) -> None:
        """The run that is recorded."""
        self.phase = phase

    def run(self, handler: Callable[..., Any], func: Any, args: Any, kwargs: Any) -> Any:
        """`handler(func, args, kwargs)`, recorded."""
        if self._depth or declared(func) == "moved":
            return handler(func, args, kwargs)
        self.product = None
        operands = _digest((args, kwargs))
        self._depth += 1
        try:
            result = handler(func, args, kwargs)
        finally:
            self._depth -= 1
        self._note(func, operands, _written(func, args) if result is None else result)
        return result

    def _note(self, func: Any, operands: str, result: Any) -> None:
        optimizing = self.phase.optimizing and not differentiating()
        part = "optimizer step" if optimizing else "backward" if in_backward() else "forward"
        product = self.product
        module = (product.module if product else "") or self.phase.module
        gemm = product.gemm if product else ""
        number = len(self.operations)
        done = Operation(part, module, base_name(func), gemm, operands, _digest(result))
        self.operations.append(done)
        if number == self.wanted or (self.wanted < 0 and self._is_other(number, done)):
            self.wanted, self.kept = number, _flat(result)

    def _is_other(self, number: int, done: Operation) -> bool:
        """Whether the other run computed something else here."""
        if self.expected is None or number >= len(self.expected):
            return self.expected is not None
        other = self.expected[number]
        return other.what != done.what or other.result != done.result


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [x.detach() for x in tree_leaves(tree) if isinstance(x, torch.Tensor)]


def _digest(tree: Any) -> str:
    """Of the bits of all tensors and the values of all scalars."""
    total = hashlib.blake2b(digest_size=16)
    for leaf in tree_leaves(tree):
        if isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided:
            total.update(f"{leaf.dtype} {tuple(leaf.shape)}".encode())
            data = leaf.detach().contiguous().reshape(-1).view(torch.uint8)
            total.update(data.cpu().numpy().data if data.numel() else b"")
        elif isinstance(leaf, bool | int | float | str):
            total.update(repr(leaf).encode())
    return total.hexdigest()


def _flat(tree: Any) -> torch.Tensor:
    found = [x.double().reshape(-1) for x in _tensors(tree) if not x.is_complex()]
    return torch.cat(found).clone() if found else torch.empty(0, dtype=torch.float64)


def _written(func: Any, args: Any) -> Any:
    """What an operation without a result changed."""
    pairs = zip(func._schema.arguments, args, strict=False)
    return [x for argument, x in pairs if argument.alias_info and argument.alias_info.is_write]
