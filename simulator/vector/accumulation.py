"""Additions into chosen places, and running sums, on tensors."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from ..kernels import accumulation as kernels

if TYPE_CHECKING:
    from .work import VectorWork


def add_rows(
    out: torch.Tensor, index: torch.Tensor, source: torch.Tensor, vector: "VectorWork"
) -> None:
    """out[index[s]] += source[s] for s ascending; contiguous (R, C), int64 (S,), (S, C)."""
    arrays = (
        out.numpy(),
        index.detach().contiguous().numpy(),
        source.detach().contiguous().numpy(),
    )
    if vector.plain:
        kernels.add_rows(*arrays)
    else:
        kernels.add_rows_rounded(*arrays, *vector.result.plan, *vector.result.random())


def scan(x: torch.Tensor, dim: int, vector: "VectorWork", product: bool) -> torch.Tensor:
    """out[.., l, ..] = sum or product of x[.., 0 .. l, ..] along `dim`, ascending."""
    if x.ndim == 0 or x.numel() == 0:
        return x.clone()
    dim %= x.ndim
    array = x.detach().contiguous().numpy()
    stack = array.reshape(int(np.prod(x.shape[:dim])), x.shape[dim], -1)
    out = np.empty_like(stack)
    if vector.plain:
        kernels.scan_rows(stack, out, product)
    else:
        kernels.scan_rounded(stack, out, product, *vector.result.plan, *vector.result.random())
    return torch.from_numpy(out.reshape(array.shape))
