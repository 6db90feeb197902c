"""Gradients that add into chosen places: sums by ascending index of what is added."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .declared import register_op


def add_at(grad: Tensor, places: Tensor, shape: Sequence[int], dims: int) -> Tensor:
    """Zeros of `shape` plus grad at places: both over the last `dims` dimensions, flattened.

    places holds a flat position for every element of those dimensions of grad.
    """
    lead = list(shape[: len(shape) - dims])
    flat = grad.reshape([*lead, -1])
    size = math.prod(shape[len(shape) - dims :])
    out = torch.index_add(grad.new_zeros([*lead, size]), -1, places.reshape(-1), flat)
    return out.reshape(list(shape))


def positions(shape: Sequence[int], first: int = 0, device: torch.device | None = None) -> Tensor:
    """The flat position of every element, from `first` on: float64, for data movement to carry."""
    last = first + math.prod(shape)
    flat = torch.arange(first, last, dtype=torch.float64, device=device)
    return flat.reshape(list(shape))


@register_op("embedding_dense_backward")
def embedding_backward(
    grad: Tensor, indices: Tensor, rows: int, padding: int, by_frequency: bool
) -> Tensor:
    """Each row of grad added to that of its index; the padding row gets none."""
    flat, index = grad.reshape(-1, grad.shape[-1]), indices.reshape(-1)
    if by_frequency:
        counts = torch.bincount(index, minlength=rows)
        flat = flat / counts[index].to(flat.dtype).unsqueeze(1)
    if padding >= 0:
        flat = torch.where((index == padding).unsqueeze(1), torch.zeros_like(flat), flat)
    return torch.index_add(flat.new_zeros([rows, flat.shape[1]]), 0, index, flat)


@register_op("unfold_backward")
def unfold_backward(grad: Tensor, sizes: Sequence[int], dim: int, size: int, step: int) -> Tensor:
    """Overlapping windows added back."""
    places = positions(sizes).unfold(dim, size, step).to(torch.int64)
    return add_at(grad, places, sizes, len(sizes))


@register_op("col2im")
def col2im(
    x: Tensor, size: Sequence[int], kernel: Sequence[int], dilation: Sequence[int],
    padding: Sequence[int], stride: Sequence[int],
) -> Tensor:  # fmt: skip
    """Columns of patches added back to the image."""
    lead = x.shape[:-2]
    taps = kernel[0] * kernel[1]
    image = positions([1, 1, *size], 1)  # padding is 0
    places = torch.ops.aten.im2col(image, kernel, dilation, padding, stride)[0]
    channels = x.shape[-2] // taps
    flat = x.reshape(-1, channels, taps * x.shape[-1])
    whole = flat.new_zeros([flat.shape[0], channels, size[0] * size[1] + 1])
    out = torch.index_add(whole, -1, places.reshape(-1).to(torch.int64), flat)[..., 1:]
    return out.reshape([*lead, channels, *size])


def _pad_backward(dims: int, name: str) -> None:
    @register_op(f"{name}_pad{dims}d_backward")
    def backward(grad: Tensor, x: Tensor, padding: Sequence[int]) -> Tensor:
        """Gradients of copies in the border added to what they are copies of."""
        inner = positions([1, *x.shape[-dims:]])
        mode = "reflect" if name == "reflection" else "replicate"
        places = torch.nn.functional.pad(inner, list(padding), mode=mode).to(torch.int64)
        return add_at(grad, places, x.shape, dims)


for _dims in (1, 2, 3):
    _pad_backward(_dims, "reflection")
    _pad_backward(_dims, "replication")
