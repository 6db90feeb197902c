"""Interpolation along one dimension after another: weights are constants, products and sums round.

Coordinates and weights are computed on the host in float64 and become float32 constants.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .declared import register_op
from .indexing import add_at, positions

#: (positions, weights) of each tap along one dimension.
Taps = list[tuple[Tensor, Tensor]]


def _taps(size: int, out: int, cubic: bool, corners: bool, scale: float | None) -> Taps:
    """Where each output lies between its neighbours: two taps, or the four of a cubic, a = -3/4."""
    o = np.arange(out, dtype=np.float64)
    if corners:
        x = o * ((size - 1) / (out - 1) if out > 1 else 0.0)
    else:
        x = (o + 0.5) * (1 / scale if scale else size / out) - 0.5
        x = x if cubic else np.maximum(x, 0.0)
    low = np.floor(x)
    t = x - low
    if not cubic:
        weights, places = [1 - t, t], [low, low + 1]
    else:
        a = -0.75
        near = [((a + 2) * u - (a + 3)) * u * u + 1 for u in (t, 1 - t)]
        far = [((a * u - 5 * a) * u + 8 * a) * u - 4 * a for u in (t + 1, 2 - t)]
        weights = [far[0], near[0], near[1], far[1]]
        places = [low - 1, low, low + 1, low + 2]
    inside = [np.clip(p, 0, size - 1).astype(np.int64) for p in places]
    return [
        (torch.from_numpy(p), torch.from_numpy(w)) for p, w in zip(inside, weights, strict=True)
    ]


def _resize(x: Tensor, axis: int, taps: Taps) -> Tensor:
    """sum_k w_k x[p_k] along `axis`, taps ascending."""
    total: Any = None
    shape = [-1 if d == axis else 1 for d in range(x.ndim)]
    for places, weights in taps:
        part = torch.index_select(x, axis, places.to(x.device)) * weights.to(x).reshape(shape)
        total = part if total is None else total + part
    return total  # type: ignore[no-any-return]


def _resize_backward(grad: Tensor, axis: int, size: int, taps: Taps) -> Tensor:
    """The transpose of `_resize`: for each tap in turn, w_k g added at p_k."""
    shape = [-1 if d == axis else 1 for d in range(grad.ndim)]
    out = grad.new_zeros([size if d == axis else n for d, n in enumerate(grad.shape)])
    for places, weights in taps:
        out = torch.index_add(out, axis, places, grad * weights.to(grad.dtype).reshape(shape))
    return out


def _interpolation(name: str, dims: int, cubic: bool) -> None:
    def axes(size: Sequence[int], out: Sequence[int], corners: bool, scales: Any) -> list[Taps]:
        given = [*scales, *[None] * dims][:dims]
        return [_taps(n, o, cubic, corners, s) for n, o, s in zip(size, out, given, strict=True)]

    @register_op(name)
    def forward(x: Tensor, out: Sequence[int], corners: bool, *scales: float | None) -> Tensor:
        """Along the last dimension first."""
        if scales and isinstance(scales[0], list | tuple):  # the form with a list of scales
            factors = list(scales[0])
            out = out or [math.floor(n * f) for n, f in zip(x.shape[2:], factors, strict=True)]
            scales = tuple(factors)
        for d, taps in reversed(list(enumerate(axes(x.shape[2:], out, corners, scales)))):
            x = _resize(x, 2 + d, taps)
        return x

    @register_op(f"{name}_backward")
    def backward(
        grad: Tensor, out: Sequence[int], size: Sequence[int], corners: bool, *scales: float | None
    ) -> Tensor:
        """Along the first dimension first."""
        for d, taps in enumerate(axes(size[2:], out, corners, scales)):
            grad = _resize_backward(grad, 2 + d, size[2 + d], taps)
        return grad


_interpolation("upsample_linear1d", 1, False)
_interpolation("upsample_bilinear2d", 2, False)
_interpolation("upsample_trilinear3d", 3, False)
_interpolation("upsample_bicubic2d", 2, True)


def _nearest(name: str, dims: int) -> None:
    @register_op(f"{name}_backward")
    def backward(
        grad: Tensor, out: Sequence[int], size: Sequence[int], *scales: float | None
    ) -> Tensor:
        """Gradients of copies added to what they are copies of."""
        forward = getattr(torch.ops.aten, name)
        places = forward(positions([1, 1, *size[2:]]), list(out), *scales).to(torch.int64)
        return add_at(grad, places, size, dims)


for _dims in (1, 2, 3):
    _nearest(f"upsample_nearest{_dims}d", _dims)
    _nearest(f"_upsample_nearest_exact{_dims}d", _dims)
