"""Convolutions as implicit matrix products, with a stated order of k.

For images n, output positions p, input positions q, filter taps r (row-major over the spatial
dimensions, the last fastest), input channels c and output channels o of one group, stride s,
dilation d, padding z:

    forward          y[(n p), o]    = sum over k = (r, c) of x[n, s p + d r - z, c] w[o, c, r]
    input gradient   dx[(n q), c]   = sum over k = (r, o) of dy[n, (q + z - d r) / s, o] w[o, c, r]
    weight gradient  dw[o, (r, c)]  = sum over k = (n, p) of dy[n, p, o] x[n, s p + d r - z, c]

k counts with the right index fastest: taps outside, channels inside, as the rows of the matrix lie
in memory for channels-last tensors (M = N P Q, K = R S C). Padding, and in the input gradient the
taps that hit no output of a strided convolution, are zeros that take their place in the sum. A
transposed convolution is the input gradient of the convolution whose output it takes.

The bias gradient is a sum of the vector unit. Operands are rounded as they enter the product, so
with stochastic rounding an input value may round differently in two windows.

Source: NVIDIA CUTLASS, "Implicit GEMM convolution" (matrix extents and the row-major N P Q by R S C
matrix); cuDNN does not publish its order, and tiled kernels may take channels in slices, so the
order is an assumption of the run.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import torch

from ..operations import base_name
from ..roles import Product, Roles
from ..tracing import Trace
from .work import MatrixWork

CONVOLUTIONS = frozenset(
    """convolution _convolution convolution_overrideable convolution_backward
    convolution_backward_overrideable""".split()
)
ASSUMED = (
    "convolutions: k runs over filter taps outside and channels inside (k = (r S + s) C + c), the "
    "weight gradient's over images and output positions; libraries do not publish their order"
)


class Geometry(NamedTuple):
    """How a filter moves; one value a spatial dimension."""

    kernel: list[int]
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int


class Convolutions:
    """Convolutions of any dimension and their gradients on the matrix units."""

    def __init__(
        self, matrix: MatrixWork, roles: Roles, trace: Trace, inside: Callable[..., Any]
    ) -> None:
        self.matrix, self.roles, self.trace, self.inside = matrix, roles, trace, inside

    def run(self, func: torch._ops.OpOverload, args: Any) -> Any:
        """aten's convolution and its backward, whatever their name."""
        if "backward" not in base_name(func):
            x, w, bias, stride, padding, dilation, transposed, extra, groups = args[:9]
            geometry = _geometry(w, stride, padding, dilation, groups)
            size = _result_size(x, geometry, transposed, _each(extra, x.ndim - 2))
            if not _fit(x, w, transposed, groups) or min(size) < 1:
                return func(*args)  # raises what PyTorch has to say
            return self._forward(x, w, bias, geometry, transposed, size)
        if base_name(func) == "convolution_backward":
            args = (*args[:3], *args[4:])  # without the bias sizes
        grad, x, w, stride, padding, dilation, transposed, _, groups, mask = args
        geometry = _geometry(w, stride, padding, dilation, groups)
        return self._backward(grad, x, w, geometry, transposed, mask)

    def _forward(
        self,
        x: torch.Tensor,
        w: torch.Tensor,
        bias: torch.Tensor | None,
        geometry: Geometry,
        transposed: bool,
        size: list[int],
    ) -> torch.Tensor:
        product = self.roles.convolution(x, w)
        if transposed:
            y = self._scatter(product, x, w, geometry, size, bias)
        else:
            y = self._gather(product, x, w, geometry, size, bias)
        return y.to(x.dtype)

    def _backward(
        self,
        grad: torch.Tensor,
        x: torch.Tensor,
        w: torch.Tensor,
        geometry: Geometry,
        transposed: bool,
        mask: Sequence[bool],
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        dx = dw = db = None
        if mask[0]:
            product = self.roles.convolution_gradient("dgrad")
            back = self._gather if transposed else self._scatter
            dx = back(product, grad, w, geometry, list(x.shape[2:]), None).to(x.dtype)
        if mask[1]:
            product = self.roles.convolution_gradient("wgrad")
            if transposed:
                swapped = product._replace(a=product.b, b=product.a, names=product.names[::-1])
                dw = self._filter_gradient(swapped, x, grad, geometry)
            else:
                dw = self._filter_gradient(product, grad, x, geometry)
            dw = dw.to(w.dtype)
        if mask[2]:
            db = self.inside(torch.sum, (grad, [0, *range(2, grad.ndim)]), {})
        return dx, dw, db

    def _gather(
        self,
        product: Product,
        x: torch.Tensor,
        w: torch.Tensor,
        geometry: Geometry,
        size: list[int],
        bias: torch.Tensor | None,
    ) -> torch.Tensor:
        """x (N, C, ...), w (O, C / G, ...) -> y (N, O, *size)."""
        columns = _windows(x, geometry, [(p, p) for p in geometry.padding], size)
        outputs, channels = w.shape[0] // geometry.groups, w.shape[1]
        filters = w.reshape(geometry.groups, outputs, channels, -1).transpose(2, 3)
        rows = filters.reshape(geometry.groups, outputs, -1).mT
        return self._product(product, _rows(columns, geometry), rows, bias, x.shape[0], size)

    def _scatter(
        self,
        product: Product,
        y: torch.Tensor,
        w: torch.Tensor,
        geometry: Geometry,
        size: list[int],
        bias: torch.Tensor | None,
    ) -> torch.Tensor:
        """y (N, O, ...), w (O, C / G, ...) -> x (N, C, *size)."""
        spread = _spread(y, geometry.stride)
        edges = [
            (d * (k - 1) - p, n - 1 + p - (extent - 1))
            for d, k, p, n, extent in zip(
                geometry.dilation, geometry.kernel, geometry.padding, size, spread.shape[2:],
                strict=True,
            )
        ]  # fmt: skip
        taps = len(size)
        columns = _windows(spread, geometry._replace(stride=[1] * taps), edges, size)
        columns = columns.flip(tuple(range(1 + taps, 1 + 2 * taps)))
        outputs, channels = w.shape[0] // geometry.groups, w.shape[1]
        filters = w.reshape(geometry.groups, outputs, channels, -1).permute(0, 2, 3, 1)
        rows = filters.reshape(geometry.groups, channels, -1).mT
        return self._product(product, _rows(columns, geometry), rows, bias, y.shape[0], size)

    def _filter_gradient(
        self, product: Product, y: torch.Tensor, x: torch.Tensor, geometry: Geometry
    ) -> torch.Tensor:
        """y (N, O, *size), x (N, C, ...) -> w (O, C / G, *kernel)."""
        groups, size = geometry.groups, list(y.shape[2:])
        columns = _rows(_windows(x, geometry, [(p, p) for p in geometry.padding], size), geometry)
        outputs, channels = y.shape[1] // groups, x.shape[1] // groups
        left = y.reshape(y.shape[0], groups, outputs, prod(size)).permute(1, 2, 0, 3)
        rows = left.reshape(groups, outputs, y.shape[0] * prod(size))
        sums = self._multiply(product, rows, columns, None)
        taps = sums.reshape(groups * outputs, prod(geometry.kernel), channels).transpose(1, 2)
        return taps.reshape(groups * outputs, channels, *geometry.kernel)

    def _product(
        self,
        product: Product,
        a: torch.Tensor,
        b: torch.Tensor,
        bias: torch.Tensor | None,
        images: int,
        size: list[int],
    ) -> torch.Tensor:
        """(G, N P, K) @ (G, K, O / G) -> (N, O, *size)."""
        groups, outputs = a.shape[0], b.shape[-1]
        grouped = (
            None
            if bias is None
            else bias.to(torch.promote_types(bias.dtype, torch.float32)).reshape(groups, 1, outputs)
        )
        sums = self._multiply(product, a, b, grouped).reshape(groups, images, prod(size), outputs)
        return sums.permute(1, 0, 3, 2).reshape(images, groups * outputs, *size)

    def _multiply(
        self, product: Product, a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        self.trace.assumed.add(ASSUMED)
        if a.numel() and b.numel():
            return self.matrix.run(product, a, b, bias)
        empty = torch.zeros(*a.shape[:-1], b.shape[-1], device=a.device)
        return empty if bias is None else empty + bias


def _windows(
    x: torch.Tensor, geometry: Geometry, edges: Sequence[tuple[int, int]], size: Sequence[int]
) -> torch.Tensor:
    """(N, C, ...) -> (N, *size, *kernel, C): what each filter position meets, a view.

    `edges` are the zeros before and after each spatial dimension; negative ones crop.
    """
    padding = [edge for pair in reversed(edges) for edge in pair]
    x = torch.constant_pad_nd(x, padding).movedim(1, -1).contiguous()
    image, *along, channel = x.stride()
    steps = [s * a for s, a in zip(geometry.stride, along, strict=True)]
    taps = [d * a for d, a in zip(geometry.dilation, along, strict=True)]
    shape = (x.shape[0], *size, *geometry.kernel, x.shape[-1])
    return x.as_strided(shape, (image, *steps, *taps, channel))


def _rows(columns: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """(N, *size, *kernel, C) -> (G, N P, taps C / G)."""
    taps, positions = prod(geometry.kernel), prod(columns.shape[: 1 + len(geometry.kernel)])
    groups, channels = geometry.groups, columns.shape[-1] // geometry.groups
    if groups == 1:
        return columns.reshape(1, positions, taps * channels)
    grouped = columns.reshape(*columns.shape[:-1], groups, channels).movedim(-2, 0)
    return grouped.reshape(groups, positions, taps * channels)


def _spread(y: torch.Tensor, stride: Sequence[int]) -> torch.Tensor:
    """stride - 1 zeros between neighbours."""
    if all(s == 1 for s in stride):
        return y
    size = [(n - 1) * s + 1 for n, s in zip(y.shape[2:], stride, strict=True)]
    spread = y.new_zeros(*y.shape[:2], *size)
    places: list[Any] = [slice(None, None, s) for s in stride]
    spread[(..., *places)] = y
    return spread


def _geometry(w: torch.Tensor, stride: Any, padding: Any, dilation: Any, groups: int) -> Geometry:
    spatial = w.ndim - 2
    steps, zeros, gaps = (_each(values, spatial) for values in (stride, padding, dilation))
    return Geometry(list(w.shape[2:]), steps, zeros, gaps, groups)


def _each(values: Sequence[int], spatial: int) -> list[int]:
    return list(values) * spatial if len(values) == 1 else list(values)


def _result_size(
    x: torch.Tensor, geometry: Geometry, transposed: bool, extra: Sequence[int]
) -> list[int]:
    kernel, stride, padding, dilation, _ = geometry
    each = zip(x.shape[2:], kernel, stride, padding, dilation, extra, strict=True)
    if transposed:
        return [(n - 1) * s - 2 * p + d * (k - 1) + e + 1 for n, k, s, p, d, e in each]
    return [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d, _ in each]


def _fit(x: torch.Tensor, w: torch.Tensor, transposed: bool, groups: int) -> bool:
    """Whether dtypes and channels are those of one convolution."""
    if x.dtype != w.dtype or w.shape[0] % groups:
        return False
    return x.shape[1] == (w.shape[0] if transposed else w.shape[1] * groups)
