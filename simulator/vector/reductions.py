"""Sums and products over dimensions of a tensor, in the vector unit's order."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...formats.device.place import on_device
from ..kernels.reduction import reduce_rounded, reduce_rows, reduce_short
from . import device

if TYPE_CHECKING:
    from .work import VectorWork

#: Tensors smaller than this are not worth a second thread.
SHORT = 32768


def reduce(x: torch.Tensor, dims: Any, keepdim: bool, vector: "VectorWork", product: bool) -> Any:
    """Over `dims` (all if None or empty), whose elements stand in row-major order of `x`.

    Rounded: each addition or multiplication into the accumulator. Elements are read exactly.
    """
    axes = axes_of(x, dims)
    if not axes:
        return x.clone()
    stacked, kept = _stacked(x, axes)
    if on_device(x):
        return _on_device(x, stacked, axes, kept, keepdim, vector, product)
    stacked = stacked.numpy()
    sums, tree = vector.sums, vector.unit.reduction == "tree"
    out = np.empty((stacked.shape[0], stacked.shape[2]), np.float64)
    if sums.dtype is torch.float32:
        out = np.empty(out.shape, np.float32)
    if stacked.size == 0:
        out.fill(1.0 if product else 0.0)
    elif not sums.plain:
        reduce_rounded(stacked, out, tree, product, *sums.plan, *sums.random())
    elif stacked.size < SHORT:
        reduce_short(stacked, out, tree, product)
    else:
        reduce_rows(stacked, out, tree, product)
    shape = [1 if d in axes else x.shape[d] for d in range(x.ndim)] if keepdim else kept
    return torch.from_numpy(out.reshape(shape))


def _on_device(
    x: torch.Tensor, stacked: torch.Tensor, axes: list[int], kept: list[int], keepdim: bool,
    vector: "VectorWork", product: bool,
) -> torch.Tensor:  # fmt: skip
    """`reduce` of a tensor on a CUDA device."""
    kind = torch.float32 if vector.sums.dtype is torch.float32 else torch.float64
    if stacked.numel() == 0:
        shape = stacked.shape[0], stacked.shape[2]
        out = torch.full(shape, 1.0 if product else 0.0, dtype=kind, device=x.device)
    else:
        out = device.reduce_stack(vector, stacked.contiguous(), product)
    return out.reshape([1 if d in axes else x.shape[d] for d in range(x.ndim)] if keepdim else kept)


def axes_of(x: torch.Tensor, dims: Any) -> list[int]:
    """`dims` as ascending non-negative numbers; all if None or empty."""
    if dims is None or dims == [] or dims == ():
        return list(range(x.ndim))
    wanted = [dims] if isinstance(dims, int) else dims
    return sorted({d % max(x.ndim, 1) for d in wanted}) if x.ndim else []


def count(x: torch.Tensor, dims: Any) -> int:
    """How many elements a reduction over `dims` adds."""
    return math.prod([x.shape[d] for d in axes_of(x, dims)])


def _stacked(x: torch.Tensor, axes: list[int]) -> tuple[Any, list[int]]:
    """x as (O, L, C) with the reduced elements along L, copied only where its strides need it."""
    others = [d for d in range(x.ndim) if d not in axes]
    kept = [x.shape[d] for d in others]
    length = math.prod([x.shape[d] for d in axes])
    x = x.detach()
    first, last = axes[0], axes[-1]
    if last - first + 1 == len(axes) and x.is_contiguous():
        outer = math.prod(x.shape[:first])
        return x.reshape(outer, length, math.prod(x.shape[last + 1 :])), kept
    columns = x.permute(axes + others)
    if columns.is_contiguous():
        return columns.reshape(1, length, math.prod(kept)), kept
    rows = x.permute(others + axes).contiguous()
    return rows.reshape(math.prod(kept), length, 1), kept
