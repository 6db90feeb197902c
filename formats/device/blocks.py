"""Block formats for tensors on CUDA devices: largest magnitudes, scales, and one pass of rounding.

Three kernels: integer maxima of the blocks, their scales, and the elements, scaled, rounded and
restored in one read and one write.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..blocks.block import BlockFormat
from ..blocks.codes import BlockCodes
from ..blocks.kernels import Layout
from ..blocks.layout import count_blocks, lay_out, tensor_factors
from ..blocks.scales import (
    ABSMAX,
    CEIL,
    EVEN,
    FLOOR,
    HUGE32,
    HUGE64,
    MINMAX,
    RATIO,
    RECIPROCAL,
    TWO_LEVEL,
    TWO_LEVEL_DIVIDED,
    Scaling,
)
from ..errors import InputError
from ..format import FLOAT32, FloatFormat, fits
from ..rounding import AnyRounding, Overflow, Rounding, get_overflow, get_rounding
from ..tables.codebook import CodebookFormat
from .conversion import Random, Table, decode_tensor, look_up, round_tensor
from .launch import blocks, launch
from .place import NoKernel
from .tables import encode_by_table
from .target import DOUBLE, make_target

_FLOAT64 = FloatFormat("float64", 11, 52)
_ENTRIES = 512


class Rule(NamedTuple):
    """A scale rule as the kernel is compiled for it: `blocks.scales.Scaling` and the codes."""

    rule: int
    emax: int
    least: int
    most: int
    top: int
    tie: int
    largest: float
    least_scale: float
    huge: float
    narrow: int
    FLOOR: int = FLOOR
    CEIL: int = CEIL
    EVEN: int = EVEN
    RATIO: int = RATIO
    ABSMAX: int = ABSMAX
    RECIPROCAL: int = RECIPROCAL
    TWO_LEVEL: int = TWO_LEVEL
    TWO_LEVEL_DIVIDED: int = TWO_LEVEL_DIVIDED


class Found(NamedTuple):
    """The scales of a tensor's blocks, flat tables: see `blocks.layout.Scales`."""

    stored: Tensor
    factors: Tensor
    totals: Tensor
    tensor: float


def _rule_of(scaling: Scaling) -> Rule:
    ratio = scaling.rule == RATIO
    top = (128 if scaling.narrow else 1024) - scaling.emax
    return Rule(
        rule=scaling.rule,
        emax=scaling.emax,
        least=scaling.least,
        most=scaling.most,
        top=scaling.most if ratio else min(top, scaling.most),
        tie=2**52 - 2 ** (51 - scaling.even_bits),
        largest=scaling.largest,
        least_scale=scaling.least_scale,
        huge=HUGE32 if scaling.narrow else HUGE64,
        narrow=int(scaling.narrow),
    )


def find_amax(x: Tensor, layout: Layout) -> Tensor:
    """The largest magnitude of each block of a contiguous float32 or float64 tensor."""
    from .triton import conversion as kernels

    entries = count_blocks(layout)
    if entries == 1 and x.numel():
        return x.abs().amax().reshape(1)
    kind = torch.int32 if x.dtype is torch.float32 else torch.int64
    out = torch.zeros(entries, dtype=kind, device=x.device)
    if not x.numel():
        return out.view(x.dtype)
    length = min(128, 1 << max(layout.tile_columns - 1, 0).bit_length())
    each = max(2048 // length, 1)
    table = Table(None, None, 0, *_places(layout))
    launch(
        kernels.find_largest, (blocks(entries, each),), x.view(kind), out, entries, *table.places,
        layout.outer * layout.rows, MASK=2 ** (31 if kind is torch.int32 else 63) - 1,
        ENTRIES=each, LENGTH=length,
    )  # fmt: skip
    return out.view(x.dtype)


def find_scales(x: Tensor, fmt: BlockFormat, layout: Layout, exact: bool = False) -> Found:
    """The scales of the blocks of a contiguous float32 or float64 tensor.

    exact: factors in float64, which holds every power of two.
    """
    from .triton import scales as kernels

    if fmt.scale_rule.code == MINMAX:
        raise NoKernel(f"{fmt.name}, whose rule {fmt.rule} has zero points,")
    encode, decode = 1.0, 1.0
    if fmt.scale_rule.two_level:
        whole = x.abs().amax().reshape(1) if x.numel() else torch.zeros(1, dtype=x.dtype)
        encode, decode = tensor_factors(whole.cpu().numpy()[0], fmt)
    amax = find_amax(x, layout)
    scaling = fmt.scaling(x.dtype is torch.float32, encode, decode)
    target = make_target(fmt.scale.grid, DOUBLE, scaling.rounding, 0, Overflow.SATURATE)
    wide: dict[str, Any] = {"dtype": torch.float64, "device": x.device}
    stored = torch.empty(amax.numel(), **wide)
    kind: dict[str, Any] = {"dtype": torch.float64 if exact else x.dtype, "device": x.device}
    factors, totals = (torch.empty(amax.numel(), **kind) for _ in range(2))
    launch(
        kernels.scale_blocks, (blocks(amax.numel(), _ENTRIES),), amax, stored, factors, totals,
        amax.numel(), torch.tensor([encode], **wide), torch.tensor([decode], **wide),
        s=_rule_of(scaling), t=target, BLOCK=_ENTRIES,
    )  # fmt: skip
    return Found(stored, factors, totals, decode)


def scales_exactly(x: Tensor, fmt: BlockFormat, rounding: AnyRounding, policy: Overflow) -> bool:
    """Whether elements are divided by their powers of two in float64.

    float32 does it exactly but where the quotient leaves it: then the element saturates, or is
    far below half of its least step, which tells nearest-even with saturation nothing new.
    """
    if not fmt.scale_rule.power_of_two or isinstance(fmt.element, CodebookFormat):
        return False
    grid = fmt.element.grid
    fine = grid.min_exponent - grid.subnormal_fraction_bits < -100
    plain = get_rounding(rounding) is Rounding.NEAREST_EVEN and policy is Overflow.SATURATE
    wide = x.dtype is torch.float64 or fmt.scale_exponents[0] < -127
    return wide or fine or not plain


def table_of(
    found: Found, fmt: BlockFormat, layout: Layout, totals: Tensor | None, exact: bool
) -> Table:
    """The factors of blocks as the conversion kernel takes them."""
    how = 3 if exact else 2 if fmt.scale_rule.divides else 1
    return Table(found.factors, totals, how, *_places(layout))


def _places(layout: Layout) -> tuple[int, ...]:
    return (layout.columns, layout.rows, layout.inner, layout.tile_rows, layout.tile_columns)


def quantize_blocks_on_device(
    x: Tensor, fmt: BlockFormat, axis: int | None, rounding: AnyRounding, overflow: str | Overflow,
    random: Random,
) -> Tensor:  # fmt: skip
    """`blocks.conversion.quantize_blocks`: fl(round(x scaled) scale)."""
    policy = check(x, fmt, rounding, overflow)
    layout, _ = lay_out(tuple(x.shape), fmt, axis)
    if not x.numel():
        return x.clone()
    exact = scales_exactly(x, fmt, rounding, policy)
    found = find_scales(x, fmt, layout, exact)
    totals = found.totals.to(x.dtype)
    if isinstance(fmt.element, CodebookFormat):
        codes = _codewords(x, found, fmt, fmt.element, layout)
        return _restored(_book_values(codes, fmt.element, x.dtype), totals, layout)
    return round_tensor(
        x, fmt.element, rounding, policy, random,
        table=table_of(found, fmt, layout, totals, exact), dtype=x.dtype,
    )  # fmt: skip


def _codewords(
    x: Tensor, found: Found, fmt: BlockFormat, book: CodebookFormat, layout: Layout
) -> Tensor:
    """The codes of scaled elements, fl(x m) or fl(x / m), 0 for NaN."""
    row = FLOAT32 if x.dtype is torch.float32 else _FLOAT64
    table = table_of(found, fmt, layout, None, False)
    y = round_tensor(x, row, "nearest_even", Overflow.INFINITY, Random(), table=table)
    y = torch.where(torch.isnan(y), 0.0, y)
    return encode_by_table(y, book.table, "nearest_even", Overflow.SATURATE)


def _book_values(codes: Tensor, book: CodebookFormat, dtype: torch.dtype) -> Tensor:
    listed = torch.tensor([float(v) for v in book.values], dtype=torch.float64)
    return look_up(codes, listed.to(dtype).to(codes.device))


def _restored(values: Tensor, totals: Tensor, layout: Layout) -> Tensor:
    """fl(value total)."""
    row = FLOAT32 if values.dtype is torch.float32 else _FLOAT64
    table = Table(None, totals, 0, *_places(layout))
    return round_tensor(values, row, "nearest_even", Overflow.INFINITY, Random(), table=table)


def encode_blocks_on_device(
    x: Tensor, fmt: BlockFormat, axis: int | None, rounding: AnyRounding, overflow: str | Overflow,
    random: Random,
) -> BlockCodes:  # fmt: skip
    """`blocks.conversion.encode_blocks`."""
    policy = check(x, fmt, rounding, overflow)
    layout, shape = lay_out(tuple(x.shape), fmt, axis)
    exact = scales_exactly(x, fmt, rounding, policy)
    found = find_scales(x, fmt, layout, exact)
    if isinstance(fmt.element, CodebookFormat):
        codes = _codewords(x, found, fmt, fmt.element, layout)
    else:
        table = table_of(found, fmt, layout, _ones(found).to(x.dtype), exact)
        element: Any = fmt.element
        values = round_tensor(x, element, rounding, policy, random, table=table, dtype=x.dtype)
        if not element.grid.has_nan:
            values = torch.where(torch.isnan(values), 0.0, values)
        ending = Overflow.INFINITY if element.grid.has_infinity else Overflow.SATURATE
        codes = round_tensor(values, element, "nearest_even", ending, Random(), codes=True)
    scales = round_tensor(
        found.stored.reshape(shape), fmt.scale, "nearest_even", Overflow.SATURATE, Random(),
        codes=True,
    )  # fmt: skip
    return BlockCodes(
        codes=codes,
        scales=scales,
        tensor_scale=found.tensor if fmt.scale_rule.two_level else None,
        axis=fmt.axis if axis is None else axis,
        dtype=str(x.dtype).removeprefix("torch."),
        fmt=fmt,
    )


def _ones(found: Found) -> Tensor:
    return torch.where(torch.isnan(found.totals), torch.nan, 1.0).to(found.totals.dtype)


def decode_blocks_on_device(coded: BlockCodes) -> Tensor:
    """`blocks.conversion.decode_blocks`: fl(element scale)."""
    fmt, kind = coded.fmt, torch.float64 if coded.dtype == "float64" else torch.float32
    if coded.zero_points is not None:
        raise NoKernel(f"decoding {fmt.name}, whose rule {fmt.rule} has zero points,")
    layout, _ = lay_out(tuple(coded.codes.shape), fmt, coded.axis)
    stored = decode_tensor(coded.scales, fmt.scale).to(kind).reshape(-1)
    tensor = 1.0 if coded.tensor_scale is None else coded.tensor_scale
    totals = stored * torch.tensor(tensor, dtype=kind, device=stored.device)
    if isinstance(fmt.element, CodebookFormat):
        return _restored(_book_values(coded.codes, fmt.element, kind), totals, layout)
    return _restored(decode_tensor(coded.codes, fmt.element).to(kind), totals, layout)


def check(x: Tensor, fmt: BlockFormat, rounding: AnyRounding, overflow: str | Overflow) -> Overflow:
    """As the host refuses, and what has no kernel.

    Raises:
        InputError: a dtype, a policy, a NaN that the format cannot express; no kernel.
    """
    policy, element = get_overflow(overflow), fmt.element
    container = FLOAT32 if x.dtype is torch.float32 else _FLOAT64
    book = isinstance(element, CodebookFormat)
    wide = not isinstance(element, CodebookFormat) and not fits(element, container)
    if wide or not fits(fmt.scale, container):
        raise InputError(
            f"{container.name} cannot hold every element and scale of {fmt.name}; pass a float64 "
            "array"
        )
    if book and (get_rounding(rounding) is not Rounding.NEAREST_EVEN or policy != "saturate"):
        raise InputError(
            f"{fmt.name}: codewords are the nearest and saturate; rounding = "
            f'"{rounding}", overflow = "{policy}" are not for codebooks'
        )
    has_nan = not isinstance(element, CodebookFormat) and element.grid.has_nan
    if policy is Overflow.WRAP or (not has_nan and policy is not Overflow.SATURATE):
        raise InputError(
            f'overflow = "{policy}": elements of {fmt.name} '
            f"{'do not wrap' if has_nan else 'have neither infinity nor NaN'}; use saturate"
        )
    if not fmt.scale.grid.has_nan and bool(torch.isnan(x).any()):
        raise InputError(f"NaN in the input: the scales of {fmt.name} have none; remove it")
    return policy


__all__ = [
    "Found", "check", "decode_blocks_on_device", "encode_blocks_on_device", "find_amax",
    "find_scales", "quantize_blocks_on_device", "table_of",
]  # fmt: skip
