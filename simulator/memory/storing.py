"""One row of storage on one chip, ready to round tensors and to say what they occupy."""

import hashlib
from math import prod

import torch
from torch import Tensor

from ...formats import Rounding, Stochastic, quantize
from ...formats.arrays import as_floats
from ...formats.blocks.block import BlockFormat
from ...formats.blocks.layout import lay_out
from ...formats.catalog import get_format
from ...formats.errors import InputError
from ...formats.format import FloatFormat
from ...formats.packing import packed_bytes
from ...formats.tables.codebook import CodebookFormat
from ..chip import Chip
from ..tracing import Conversion, Key, Trace
from .rows import Storage


class Store:
    """Rounds tensors into the memory format of a role.

    Raises:
        InputError: the chip's conversion unit has no such rounding.
    """

    def __init__(self, row: Storage, role: str, place: str, chip: Chip, trace: Trace) -> None:
        self.row, self.role, self.place, self.trace = row, role, place, trace
        self.fmt = row.fmt
        self.exact = row.exact
        self.rounding: Rounding | Stochastic = Rounding.NEAREST_EVEN
        if not row.exact:
            self.rounding = self._find_rounding(chip)

    def _find_rounding(self, chip: Chip) -> Rounding | Stochastic:
        row, unit = self.row, chip.conversion_unit
        looked_up = isinstance(get_format(row.format), CodebookFormat)
        random = row.rounding == "stochastic"
        if row.rounding in unit.roundings and not looked_up:
            return unit.stochastic(row.format) if random else Rounding(row.rounding)
        if row.rounding_in == "unit":
            raise InputError(
                f'{self.place}: memory {self.role} rounding = "{row.rounding}" is not one of '
                f"{', '.join(unit.roundings)}, the modes of {chip.name}'s conversion unit; "
                'override it (rounding_in = "software" rounds without the unit) or choose another '
                "chip"
            )
        rounding = Stochastic(row.random_bits) if random else Rounding(row.rounding)
        self.trace.assumed.add(
            f"{chip.name}'s conversion unit does not store {self.role} in {row.format} with "
            f"{row.rounding}: {rounding} in software"
        )
        return rounding

    def keeps(self, x: Tensor) -> bool:
        """Whether x is kept as it was computed."""
        small = x.ndim == 0 or x.numel() < max(self.row.min_elements, 1)
        return self.exact or small or not x.is_floating_point() or x.layout != torch.strided

    def put(self, x: Tensor, name: str, what: str = "") -> Tensor:
        """What reading x back from the memory gives: a new tensor of its shape and dtype.

        Rounded once, from x; `name` and `what` say in the trace whose it is.
        """
        if self.keeps(x):
            return x.detach().clone()
        flat = self.row.scaling == "block"
        source = x.detach().reshape(-1) if flat else x.detach()
        stream = self.trace.next_stream() if isinstance(self.rounding, Stochastic) else 0
        try:
            kept = quantize(
                source, self.fmt, rounding=self.rounding, overflow=self.row.overflow,
                seed=self.trace.seed, stream=stream,
            )  # fmt: skip
        except InputError as error:
            raise InputError(f"{self.place}: memory {self.role} of {name}: {error}") from None
        key = Key(name, "store", self.role, what or self.role, self.row.format)
        grid = self.fmt if isinstance(self.fmt, FloatFormat) else None
        if self.trace.sampling:
            before, after = (as_floats(v.cpu())[0] for v in (source, kept))
            self.trace.count_rounding(key, Conversion.unscaled(before, after, grid))
        return kept.reshape(x.shape)

    def bytes(self, x: Tensor) -> int:
        """What x occupies when it is kept so, packed, with the scales of its blocks.

        Codes of up to 8 bits are packed, every row (last axis) from a whole byte on; wider codes
        take 2 or 4 bytes. A scale takes the whole bytes of its format, the scale above all blocks
        4; zero points are packed as codes.
        """
        if self.keeps(x):
            return x.numel() * x.element_size()
        shape = (x.numel(),) if self.row.scaling == "block" else tuple(x.shape)
        size = _packed(shape, self.fmt.bits)
        if isinstance(self.fmt, BlockFormat):
            scales = lay_out(shape, self.fmt, None)[1]
            size += prod(scales) * -(-self.fmt.scale.bits // 8)
            size += _packed(scales, self.fmt.bits) if self.fmt.scale_rule.zero_point else 0
            size += 4 if self.fmt.scale_rule.two_level else 0
        return size


def _packed(shape: tuple[int, ...], bits: int) -> int:
    if bits > 8:
        return prod(shape) * (2 if bits <= 16 else 4)
    *rows, columns = shape or (1,)
    return prod(rows) * packed_bytes(columns, bits)


def fingerprint(x: Tensor) -> str:
    """A digest of the bits of x, the same on every machine; tells whether anyone wrote into x."""
    data = x.detach().contiguous().reshape(-1).view(torch.uint8).cpu()
    return hashlib.blake2b(data.numpy().data, digest_size=16).hexdigest()


def wide_bytes(x: Tensor) -> int:
    """What x would occupy with float32 in place of its floating-point format."""
    return x.numel() * (4 if x.is_floating_point() else x.element_size())
