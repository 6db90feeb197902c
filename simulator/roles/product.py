"""What the roles of a product are called, and what is remembered of one for its backward."""

from functools import cache
from typing import NamedTuple

import torch
from torch.multiprocessing.reductions import StorageWeakRef

Extent = tuple[int, int, int]


class Product(NamedTuple):
    """The roles of one matrix product.

    Attributes:
        gemm: "fprop", "dgrad", "wgrad" or "optimizer".
        a, b: operand roles, keys of a recipe.
        names: what the operands are, for the trace.
        module: dotted name of the module, "" outside of the model.
    """

    gemm: str
    a: str
    b: str
    names: tuple[str, str]
    module: str


class Use(NamedTuple):
    """A product that autograd recorded, as its backward will ask for it.

    Attributes:
        module, names: as in `Product`.
        layer: one of the operands was a weight, or stood in for one.
        addresses: of the operands' storages.
        shapes: of the operands.
        needed: whether each operand's gradient will be asked for, as far as known.
        references: keep the addresses from being given to other storages.
    """

    module: str
    names: tuple[str, str]
    layer: bool
    addresses: tuple[int, int]
    shapes: tuple[torch.Size, torch.Size]
    needed: tuple[bool, bool]
    references: tuple[object, ...]


OPTIMIZER = Product("optimizer", "optimizer", "optimizer", ("optimizer", "optimizer"), "")


@cache
def make_product(gemm: str, names: tuple[str, str], layer: bool, module: str) -> Product:
    """Operands of a layer have the roles of their names; without a weight it is attention."""
    return Product(gemm, *(names if layer else ("attention", "attention")), names, module)


def address(x: torch.Tensor) -> int:
    """The storage that a tensor and its views share."""
    return int(x.untyped_storage()._cdata)


def reference(x: torch.Tensor) -> StorageWeakRef:
    """Does not keep the values, but their storage's address."""
    return StorageWeakRef(x.untyped_storage())  # type: ignore[no-untyped-call]


def gone(ref: StorageWeakRef | None) -> bool:
    """Whether nobody can reach the storage any more."""
    return ref is not None and bool(ref.expired())  # type: ignore[no-untyped-call]


def extent(a: torch.Size, b: torch.Size) -> Extent:
    """(M, K, N) of a product without its batch, a vector counting as a row or a column."""
    return a[-2] if len(a) > 1 else 1, a[-1], b[-1] if len(b) > 1 else 1
