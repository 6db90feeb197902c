"""The vector unit: elementwise functions, and sums in the chip's order, on float32 tensors."""

from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_map

from ..kernels.reduction import sum_rows
from ..units import VectorUnit


def in_float64(func: torch._ops.OpOverload, args: Any, kwargs: Any) -> Any:
    """func computed in float64 and rounded once to float32, every float32 result of it."""
    wide = tree_map(_widen, (args, kwargs))
    return tree_map(_narrow, func(*wide[0], **wide[1]))


def _widen(x: Any) -> Any:
    return x.double() if isinstance(x, torch.Tensor) and x.dtype == torch.float32 else x


def _narrow(x: Any) -> Any:
    return x.float() if isinstance(x, torch.Tensor) and x.dtype == torch.float64 else x


def reduce_sum(
    x: torch.Tensor, dims: list[int] | int | None, keepdim: bool, unit: VectorUnit
) -> torch.Tensor:
    """Sum over `dims` (all if empty) in the unit's order, float32, rounded at every addition."""
    wanted = list(range(x.ndim)) if dims is None or dims == [] else dims
    axes = [d % max(x.ndim, 1) for d in ([wanted] if isinstance(wanted, int) else wanted)]
    if not axes:
        return x.clone()
    kept = [d for d in range(x.ndim) if d not in axes]
    array = x.detach().numpy().transpose(kept + axes)
    outer = array.shape[: len(kept)]
    rows = np.array(array, np.float32, order="C").reshape(int(np.prod(outer)), -1)
    out = np.zeros(rows.shape[0], np.float32)
    if rows.size:
        sum_rows(rows, out, unit.reduction == "tree")
    shape = [1 if d in axes else x.shape[d] for d in range(x.ndim)] if keepdim else list(outer)
    return torch.from_numpy(out.reshape(shape))


def count(x: torch.Tensor, dims: list[int] | int | None) -> int:
    """How many elements a reduction over `dims` adds."""
    if dims is None or dims == []:
        return x.numel()
    return int(np.prod([x.shape[d] for d in ([dims] if isinstance(dims, int) else dims)]))
