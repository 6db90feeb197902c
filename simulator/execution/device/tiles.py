"""What the launches of all orders share: strides, tiles, and what is known of operands."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ....formats.device.launch import blocks, launch
from ....formats.device.place import NoKernel
from ....formats.format import ArithmeticFormat, FloatFormat
from ..layout import Formats

#: Rows and columns of a program's tile: of float32 sums alone, of any others, and at least. A
#: program has 128 threads, so these leave 32 and 8 sums to a thread.
WIDE, MOST, LEAST = 64, 32, 16


def start(kernel: Any, a: Tensor, b: Tensor, tensors: tuple[Any, ...], **rest: Any) -> None:
    """Launch over the tiles of a (B, M, K) @ b (B, K, N); `tensors` stand before the sizes.

    rest: `after`, what stands after the strides; `most`, of a tile's sides; and the constants.
    """
    for x in (a, b):  # places within an operand are 32-bit numbers of its strides
        if x.numel() >= 2**31:
            raise NoKernel(f"an operand of {x.numel()} elements, more than 2^31 - 1,")
    _, rows, depth = a.shape
    columns, most = b.shape[2], rest.pop("most", MOST)
    tile = {"ROWS": _side(rows, most), "COLUMNS": _side(columns, most)}
    after = rest.pop("after", ())
    launch(
        kernel, programs(a, b, most), a, b, *tensors, rows, columns, depth, *a.stride(),
        *b.stride(), *after, **rest, **tile,
    )  # fmt: skip


def programs(a: Tensor, b: Tensor, most: int = MOST) -> tuple[int, int]:
    """The grid of `start`."""
    rows, columns = a.shape[1], b.shape[2]
    tiles = blocks(rows, _side(rows, most)) * blocks(columns, _side(columns, most))
    return tiles, a.shape[0]


def _side(size: int, most: int) -> int:
    return min(most, max(LEAST, 1 << max(size - 1, 0).bit_length()))


class Extent(NamedTuple):
    """Exponents of the least and the largest nonzero finite element; (8192, -8192) for none."""

    low: int
    high: int


def by_format(fmt: ArithmeticFormat) -> Extent:
    """What the format alone says; subnormals count as the smallest normal exponent."""
    if isinstance(fmt, FloatFormat):
        return Extent(fmt.min_exponent, fmt.max_exponent)
    return Extent(0, math.frexp(max(fmt.grid.largest, -fmt.grid.lowest))[1] - 1)


def by_values(x: Tensor, fmt: ArithmeticFormat) -> Extent:
    """What the elements say: two reductions, and a wait for the device."""
    size = x.abs()
    counts = (size > 0) & torch.isfinite(size)
    if not x.numel():
        return Extent(8192, -8192)
    low = torch.where(counts, size, torch.inf).amin()
    high = torch.where(counts, size, 0.0).amax()
    least, most = torch.stack([low, high]).double().tolist()
    if most == 0.0:
        return Extent(8192, -8192)
    floor = fmt.min_exponent if isinstance(fmt, FloatFormat) else 0
    return Extent(*(max(math.frexp(v)[1] - 1, floor) for v in (least, most)))


def all_finite(*tensors: Tensor) -> bool:
    """Whether no element is an infinity or NaN; one wait for the device."""
    found = torch.stack([torch.isfinite(x).all() for x in tensors])
    return bool(found.all())


def narrow_sums(
    extents: tuple[Extent, Extent], formats: Formats, fraction_bits: int, block: int
) -> tuple[bool, bool]:
    """(Whether products are exact in float32 and scale as `align` says, whether int32 sums fit)."""
    x, y = extents
    fractions = sum(f.precision - 1 for f in formats)
    exact = fractions <= 22 and x.low + y.low - fractions >= -149 and x.high + y.high <= 124
    narrow = exact and fraction_bits <= 27 and fraction_bits - (x.low + y.low) <= 127
    return narrow, narrow and block <= 1 << (29 - fraction_bits)


def choose_narrow(
    a: Tensor, b: Tensor, formats: Formats, fraction_bits: int, block: int
) -> tuple[bool, bool]:
    """`narrow_sums`, by the formats where they tell, else by the values."""
    if a.dtype is not torch.float32 or b.dtype is not torch.float32:
        return False, False
    known = by_format(formats[0]), by_format(formats[1])
    found = narrow_sums(known, formats, fraction_bits, block)
    if found[0] or sum(f.precision - 1 for f in formats) > 22 or fraction_bits > 27:
        return found
    known = by_values(a, formats[0]), by_values(b, formats[1])
    return narrow_sums(known, formats, fraction_bits, block)
