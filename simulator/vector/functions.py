"""Functions computed in float64 and rounded once."""

from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_map

from .dtypes import widened

if TYPE_CHECKING:
    from .work import VectorWork

#: Elements that are widened, computed and rounded while they are in the cache.
BLOCK = 32768


def in_float64(func: Any, args: Any, kwargs: Any, vector: "VectorWork") -> Any:
    """func of the arguments as float64, its float64 results rounded to the unit's format."""
    x = args[0] if args else None
    if len(args) == 1 and not kwargs and isinstance(x, torch.Tensor) and vector.plain:
        if x.dtype is torch.float32 and _elementwise(func):
            large = x.numel() > BLOCK and x.is_contiguous()
            return _by_blocks(func, x) if large else func(x.double()).to(torch.float32)

    def settled(y: Any) -> Any:
        return vector.settle(y) if isinstance(y, torch.Tensor) and y.dtype is torch.float64 else y

    wide = tree_map(vector.read, widened(args, torch.float64))
    return tree_map(settled, func(*wide, **kwargs))


def _elementwise(func: Any) -> bool:
    """Whether one tensor goes in and one comes out; the decompositions of matrices have more."""
    return len(func._schema.returns) == 1 and not func._schema.name.startswith("aten::linalg")


def _by_blocks(func: Any, x: torch.Tensor) -> torch.Tensor:
    """An elementwise function of one tensor."""
    out = torch.empty_like(x)
    source, target = x.view(-1), out.view(-1)
    for first in range(0, x.numel(), BLOCK):
        part = slice(first, first + BLOCK)
        target[part].copy_(func(source[part].double()))
    return out
