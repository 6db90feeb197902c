"""Pooling: the largest value exactly, averages as sums in the chip's order, then a quotient."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .declared import register_op
from .indexing import add_at, positions

Ints = Sequence[int]


def _spread(given: Any, dims: int) -> list[int]:
    value: list[int] = [given] if isinstance(given, int) else list(given)
    return value * dims if len(value) == 1 else value


def _max_backward(name: str, dims: int, indices_at: int) -> None:
    @register_op(name)
    def backward(grad: Tensor, x: Tensor, *rest: Any) -> Tensor:
        """Each gradient added to the place that was the largest."""
        indices = rest[indices_at]
        lead = list(x.shape[:-dims])
        flat = grad.new_zeros([*lead, math.prod(x.shape[-dims:])])
        where = indices.reshape([*lead, -1])
        return torch.scatter_add(flat, -1, where, grad.reshape([*lead, -1])).reshape(x.shape)


_max_backward("max_pool2d_with_indices_backward", 2, -1)
_max_backward("max_pool3d_with_indices_backward", 3, -1)
_max_backward("adaptive_max_pool2d_backward", 2, 0)
_max_backward("adaptive_max_pool3d_backward", 3, 0)


class _Windows:
    """Where the windows of an average lie.

    Attributes:
        starts: first elements of the windows along each dimension, in the padded tensor.
        before, after: zeros around each dimension.
        divisors: what each window's sum is divided by, of the output's shape.
    """

    def __init__(
        self, size: Ints, kernel: Any, stride: Any, padding: Any, ceil: bool, padded: bool,
        divisor: int | None,
    ) -> None:  # fmt: skip
        dims = len(size)
        self.kernel = _spread(kernel, dims)
        self.stride = _spread(stride, dims) if stride not in ([], None, ()) else self.kernel
        self.before = _spread(padding, dims)
        self.after, self.outputs, counts = [], [], []
        for n, k, s, p in zip(size, self.kernel, self.stride, self.before, strict=True):
            out = (n + 2 * p - k + (s - 1 if ceil else 0)) // s + 1
            out -= int(ceil and (out - 1) * s >= n + p)
            starts = [o * s - p for o in range(out)]
            ends = [min(a + k, n + p) for a in starts]
            inside = [min(e, n) - max(a, 0) for a, e in zip(starts, ends, strict=True)]
            whole = [e - a for a, e in zip(starts, ends, strict=True)]
            counts.append(whole if padded else inside)
            self.outputs.append(out)
            self.after.append(max(starts[-1] + k - n, 0))
        grid = torch.ones((), dtype=torch.int64)
        for along in counts:
            grid = grid.unsqueeze(-1) * torch.tensor(along)
        self.divisors = torch.full_like(grid, divisor) if divisor else grid

    def of(self, x: Tensor) -> Tensor:
        """Windows (..., outputs, kernel) of x with its zeros."""
        dims = len(self.kernel)
        around = [n for pair in zip(self.before[::-1], self.after[::-1], strict=True) for n in pair]
        y = torch.nn.functional.pad(x, around)
        for d, (k, s, out) in enumerate(zip(self.kernel, self.stride, self.outputs, strict=True)):
            y = y.unfold(x.ndim - dims + d, k, s).narrow(x.ndim - dims + d, 0, out)
        return y


def _average(name: str, dims: int) -> None:
    @register_op(name)
    def forward(
        x: Tensor, kernel: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: int | None = None,
    ) -> Tensor:  # fmt: skip
        """The sum of each window, over its number of elements."""
        windows = _Windows(
            x.shape[-dims:], kernel, stride, padding, ceil_mode, count_include_pad, divisor_override
        )
        total: Tensor = torch.sum(windows.of(x), list(range(-dims, 0)))
        return total / windows.divisors.to(x.dtype)

    @register_op(f"{name}_backward")
    def backward(
        grad: Tensor, x: Tensor, kernel: Any, stride: Any, padding: Any, ceil_mode: bool,
        count_include_pad: bool, divisor_override: int | None,
    ) -> Tensor:  # fmt: skip
        """g over the number of elements, added to each element of the window."""
        windows = _Windows(
            x.shape[-dims:], kernel, stride, padding, ceil_mode, count_include_pad, divisor_override
        )
        share = grad / windows.divisors.to(grad.dtype)
        places = windows.of(positions(x.shape[-dims:], 1)).to(torch.int64)  # padding is 0
        lead = list(x.shape[:-dims])
        taps = math.prod(windows.kernel)
        each = share.reshape([*lead, -1, 1]).expand([*lead, -1, taps]).reshape([*lead, -1])
        whole = grad.new_zeros([*lead, math.prod(x.shape[-dims:]) + 1])
        out = torch.index_add(whole, -1, places.reshape(-1), each)[..., 1:]
        return out.reshape(x.shape)


_average("avg_pool2d", 2)
_average("avg_pool3d", 3)


def _cells(size: int, outputs: int) -> list[range]:
    """The elements behind each output of an adaptive average along one dimension."""
    return [range(o * size // outputs, -(-(o + 1) * size // outputs)) for o in range(outputs)]


def _adaptive(name: str, dims: int) -> None:
    @register_op(name)
    def forward(x: Tensor, outputs: Ints) -> Tensor:
        """The mean of each cell."""
        sizes = x.shape[-dims:]
        if all(n % o == 0 for n, o in zip(sizes, outputs, strict=True)):
            kernel = [n // o for n, o in zip(sizes, outputs, strict=True)]
            windows = _Windows(sizes, kernel, kernel, [0] * dims, False, True, None)
            return torch.mean(windows.of(x), list(range(-dims, 0)))
        means = []
        for cell in _products([_cells(n, o) for n, o in zip(sizes, outputs, strict=True)]):
            part = x
            for d, span in enumerate(cell):
                part = part.narrow(x.ndim - dims + d, span.start, len(span))
            means.append(torch.mean(part, list(range(-dims, 0))))
        return torch.stack(means, -1).reshape([*x.shape[:-dims], *outputs])

    @register_op(f"{name}_backward")
    def backward(grad: Tensor, x: Tensor) -> Tensor:
        """g over the cell's number of elements, added to each of them."""
        sizes, outputs = list(x.shape[-dims:]), list(grad.shape[-dims:])
        flat = positions(sizes, device=x.device).to(torch.int64)
        places, source, counts = [], [], []
        grid = [_cells(n, o) for n, o in zip(sizes, outputs, strict=True)]
        for number, cell in enumerate(_products(grid)):
            inside = flat[tuple(slice(span.start, span.stop) for span in cell)].reshape(-1)
            places.append(inside)
            source.append(torch.full_like(inside, number))
            counts.append(inside.numel())
        share = grad / torch.tensor(counts, device=grad.device).reshape(outputs).to(grad.dtype)
        share = share.reshape([*grad.shape[:-dims], -1])
        each = torch.index_select(share, -1, torch.cat(source))
        return add_at(each, torch.cat(places), x.shape, dims)


def _products(grid: list[list[range]]) -> list[tuple[range, ...]]:
    cells: list[tuple[range, ...]] = [()]
    for along in grid:
        cells = [(*cell, span) for cell in cells for span in along]
    return cells


_adaptive("_adaptive_avg_pool2d", 2)
_adaptive("_adaptive_avg_pool3d", 3)
