"""Matrix products of tensors on a CUDA device: prepared, multiplied, rescaled and stored there.

What `work.py` and `preparation.py` do with arrays, step by step, to the same bits. Elementwise
float32 arithmetic outside of kernels is single products and sums of PyTorch's, IEEE each; quotients
are those of kernels, because PyTorch multiplies by the reciprocal of a number on the host.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...formats import Rounding, Stochastic
from ...formats.blocks.kernels import Layout
from ...formats.blocks.layout import lay_out
from ...formats.device.blocks import find_amax, find_scales
from ...formats.device.conversion import Random, Table, round_tensor
from ...formats.device.launch import blocks, launch
from ...formats.errors import InputError
from ...formats.format import IntegerFormat
from ...formats.rounding import Overflow, get_overflow, get_rounding
from ..dot_unit import DotUnit
from ..recipe_rows import Hadamard, Operand
from ..tracing import Conversion
from .hadamard import signs_of
from .paths import Path
from .preparation import Prepared

if TYPE_CHECKING:
    from .work import MatrixWork

_HUGE = np.finfo(np.float32).max


@dataclass(frozen=True)
class Scaled:
    """As `scaling.Scaled`, in tensors; `factors` is None for an operand that is not scaled."""

    factors: Tensor | None
    tiles: tuple[int, int, int]
    divides: bool
    scales: Tensor | None
    factor: Tensor | None
    amax: float = 0.0


@dataclass(frozen=True)
class DevicePrepared:
    """As `preparation.Prepared`, in tensors on the device.

    values: the operand before it was rounded, for the trace.
    """

    elements: Tensor
    scaled: Scaled
    values: Tensor
    row: Operand

    @property
    def factor(self) -> Tensor | None:
        """(B, R, 1) or (1, 1, 1), for the product; None is 1."""
        return self.scaled.factor

    def scales_of(self, block: int) -> Tensor:
        """(B, R, ceil(K / block)): the scales for each row and each `block` of k."""
        batch, rows, depth = self.elements.shape
        scales, tile = self.scaled.scales, self.scaled.tiles[1:]
        if scales is None:
            return torch.ones(batch, rows, -(-depth // block), device=self.elements.device)
        at = torch.arange(0, depth, block, device=scales.device) // tile[1]
        spread = scales.repeat_interleave(tile[0], dim=1)[:, :rows]
        return spread.index_select(2, at).contiguous()

    def dequantised(self) -> Tensor:
        """fl(element scale), without the factor."""
        if self.scaled.scales is None:
            return self.elements
        spread = self.scales_of(1)
        return self.elements * spread

    def on_host(self) -> Prepared:
        """The same in arrays, for the trace."""
        grid, scaled = self.row.fmt.grid, self.scaled
        elements, values = _array(self.elements), _array(self.values)
        depth = values.shape[-1]
        factors = np.ones((1, 1), np.float32)
        tiles = (max(values.shape[0] * values.shape[1], 1),) * 2 + (max(depth, 1),)
        if scaled.factors is not None:
            factors, tiles = _array(scaled.factors), scaled.tiles
        conversion = Conversion(
            values.reshape(-1, depth), elements.reshape(-1, depth), factors, tiles,
            scaled.divides, grid.largest, grid.lowest,
        )  # fmt: skip
        if scaled.factors is None and self.row.format in ("float32", "float64"):
            conversion = Conversion.unscaled(values, values)
        scales, factor = (None if x is None else _array(x) for x in (scaled.scales, scaled.factor))
        return Prepared(elements, scales, factor, scaled.tiles[1:], conversion, scaled.amax)


def _array(x: Tensor) -> Any:
    return x.detach().cpu().numpy()


def prepare(
    x: Tensor,
    row: Operand,
    rounding: Rounding | Stochastic | str | None = None,
    *,
    seed: int = 0,
    stream: int = 0,
    given: np.float32 | None = None,
) -> DevicePrepared:
    """`preparation.prepare` of a tensor (B, R, K) on a device."""
    values = rotate(x.detach().float().contiguous(), row.hadamard, seed)
    found = scale(values, row, given)
    how = get_rounding(row.rounding if rounding is None else rounding)
    table = None
    if found.factors is not None and values.numel():
        group, height, width = found.tiles
        table = Table(
            found.factors.reshape(-1), None, 2 if found.divides else 1, values.shape[-1], group, 1,
            height, width,
        )  # fmt: skip
    policy = get_overflow(row.overflow)
    fmt: Any = row.fmt
    out = round_tensor(values, fmt, how, policy, Random(seed, stream), table=table)
    lost = [torch.isnan(part).any() for part in (found.scales, found.factor) if part is not None]
    if not row.fmt.grid.has_nan and lost:
        # The factor or the scale is NaN and makes the results NaN.
        out = torch.where(torch.isnan(out) & torch.stack(lost).any(), 0.0, out)
    return DevicePrepared(out, found, values, row)


def rotate(x: Tensor, row: Hadamard, seed: int) -> Tensor:
    """`hadamard.rotate`: butterflies of single sums and differences, then one product."""
    if row.size == 1:
        return x
    x = torch.nn.functional.pad(x, (0, -x.shape[-1] % row.size))
    signs = torch.from_numpy(np.array(signs_of(row.size, row.random, seed))).to(x.device)
    y = x.reshape(*x.shape[:-1], -1, row.size) * signs
    half = 1
    while half < row.size:
        pairs = y.reshape(*y.shape[:-1], -1, 2, half)
        a, b = pairs[..., 0, :], pairs[..., 1, :]
        y = torch.stack((a + b, a - b), dim=-2).reshape(y.shape)
        half *= 2
    factor = torch.tensor(np.float32(1 / np.sqrt(row.size)), device=x.device)
    return (y * factor).reshape(x.shape)


def scale(x: Tensor, row: Operand, given: np.float32 | None = None) -> Scaled:
    """`scaling.scale` of a tensor (B, R, K)."""
    batch, rows, depth = x.shape
    if row.blocks is not None:
        return _by_blocks(x, row)
    tiles = (batch * rows, 1 if row.scales == "row" else max(batch * rows, 1), max(depth, 1))
    if row.scales == "none":
        return Scaled(None, tiles, False, None, None)
    if row.scales == "row":
        amax = find_amax(x, Layout(1, 1, x.numel(), 1, 1, max(depth, 1)))[: batch * rows]
    else:
        amax = x.abs().amax().reshape(1) if x.numel() else x.new_zeros(1)
    s, factor = _reciprocal(amax, row, given if row.scales == "delayed" else None)
    shape = (batch, rows, 1) if row.scales == "row" else (1, 1, 1)
    seen = float(amax[0]) if row.scales == "delayed" else 0.0
    return Scaled(s.reshape(-1, 1), tiles, False, None, factor.reshape(shape), seen)


def _reciprocal(amax: Tensor, row: Operand, given: np.float32 | None) -> tuple[Tensor, Tensor]:
    """`scaling._reciprocal`: (s, fl(1 / s)) with `shrink` in both."""
    from ...formats.device.triton import scales as kernels

    shrink = np.float32(row.shrink)
    unshrink = np.float32(1) / shrink
    if given is not None:
        missing = torch.isnan(amax) & (not row.fmt.grid.has_nan)
        s = torch.full_like(amax, float(given * shrink))
        factor = torch.full_like(amax, float(np.float32(np.float32(1) / given) * unshrink))
        return s, torch.where(missing, torch.nan, factor)
    s, factor = torch.empty_like(amax), torch.empty_like(amax)
    launch(
        kernels.reciprocal_scales, (blocks(amax.numel(), 512),), amax.contiguous(), s, factor,
        amax.numel(), float(np.float32(row.fmt.grid.largest)), float(shrink), float(unshrink),
        BLOCK=512,
    )  # fmt: skip
    return s, factor


def _by_blocks(x: Tensor, row: Operand) -> Scaled:
    fmt = row.blocks
    assert fmt is not None
    layout, shape = lay_out(tuple(x.shape), fmt, -1)
    found = find_scales(x, fmt, layout, exact=True)
    shrink = 1.0 / row.shrink if fmt.scale_rule.divides else row.shrink
    factors = (found.factors * torch.full_like(found.factors, shrink)).float()
    unshrink = np.float32(1) / np.float32(row.shrink)
    factor = float(np.float32(found.tensor) * unshrink)
    plain = not fmt.scale_rule.two_level and row.shrink == 1.0
    return Scaled(
        factors.reshape(-1, shape[-1]), (x.shape[1], layout.tile_rows, layout.tile_columns),
        fmt.scale_rule.divides, found.stored.float().reshape(shape),
        None if plain else torch.full((1, 1, 1), factor, device=x.device),
    )  # fmt: skip


def multiply(
    work: "MatrixWork", path: Path, x: DevicePrepared, y: DevicePrepared, start: Tensor | None
) -> Tensor:
    """`MatrixWork._sums`: (B, M, N) of (B, M, K) and (B, N, K) by the unit of the path."""
    if path.kind == "parts":
        return _parts(work, path, x, y)
    scales: dict[str, Any] = {}
    left, right = x.elements, y.elements
    if path.kind == "scaled" and path.unit.scale is not None:
        block = path.unit.scale.block
        scales = {"a_scale": x.scales_of(block), "b_scale": y.scales_of(block).mT.contiguous()}
    elif path.kind == "dequantised":
        left, right = (
            _rounded(v.dequantised(), f)
            for v, f in zip((x, y), (path.unit.a, path.unit.b), strict=True)
        )
    return _sums(work, path.unit, left, right, start, **scales)


def _parts(work: "MatrixWork", path: Path, x: DevicePrepared, y: DevicePrepared) -> Tensor:
    """c <- fma(sum of a part, fl(s_a s_b), c), part by part in ascending k."""
    from ..kernels.odd import FMA
    from ..kernels.triton import elementwise as kernels
    from ..vector.device import PLAIN, PLAIN_TARGET

    (batch, rows, depth), columns = x.elements.shape, y.elements.shape[1]
    total = torch.zeros(batch, rows, columns, device=x.elements.device)
    a, b = x.scales_of(path.every), y.scales_of(path.every)
    for at, first in enumerate(range(0, depth, path.every)):
        k = slice(first, first + path.every)
        part = _sums(work, path.unit, x.elements[..., k], y.elements[..., k], None)
        scales = a[..., at][:, :, None] * b[..., at][:, None, :]
        launch(
            kernels.operate, (blocks(total.numel(), 1024),), part.contiguous(),
            scales.contiguous(), total, total, total.numel(), 0, 0, v=PLAIN, t=PLAIN_TARGET,
            OP=FMA, PLAIN=True, BLOCK=1024,
        )  # fmt: skip
    return total


def _sums(
    work: "MatrixWork", unit: DotUnit, x: Tensor, y: Tensor, start: Tensor | None, **scales: Any
) -> Tensor:
    sums: Tensor = unit.matmul(
        x, y.mT, start, **scales, seed=work.trace.seed, stream=work.trace.next_stream(),
        check=False,
    )  # fmt: skip
    return sums.to(x.dtype)


def _rounded(x: Tensor, fmt: Any) -> Tensor:
    """x on a format's grid, infinite beyond it."""
    return round_tensor(x.contiguous(), fmt, "nearest_even", Overflow.INFINITY, Random())


def accumulator_bias(
    work: "MatrixWork", bias: Tensor, unit: DotUnit, shape: tuple[int, ...]
) -> Tensor | None:
    """The bias as C, where the chip adds it in the accumulator and nothing is rescaled."""
    if work.chip.vector_unit.bias == "epilogue" or isinstance(unit.accumulator, IntegerFormat):
        return None
    return _rounded(bias.detach(), unit.accumulator).expand(shape).contiguous()


def product_factor(x: Tensor | None, y: Tensor | None) -> Tensor | None:
    """fl(dx dy), (B, M, N) or broadcastable to it."""
    if x is None or y is None:
        return x if x is not None else None if y is None else y.mT
    return x * y.mT


def stored(sums: Tensor, fmt: str) -> Tensor:
    """The result in the recipe's output format."""
    from ...formats import get_format

    return sums if fmt in ("float32", "float64") else _rounded(sums, get_format(fmt))


def values_of(x: Tensor, module: str, fmt: str) -> Tensor:
    """The operand as contiguous float32; as float64 where that is its format."""
    if fmt == "float64":
        return x.detach().double().contiguous()
    if x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise InputError(
            f"{module or 'a product'}: {x.dtype} operands: matrix products are emulated for "
            "float32, bfloat16 and float16 tensors, and in a recipe of float64; convert with "
            ".float()"
        )
    return x.detach().float().contiguous()
