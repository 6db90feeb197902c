"""The tables `memory` and `loss_scaling` of a recipe."""

import math
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ...formats import get_format
from ...formats.blocks.block import AnyFormat, BlockFormat
from ...formats.errors import InputError
from ...formats.format import FLOAT32, FixedFormat, FloatFormat, IntegerFormat
from ...formats.rounding import get_overflow, get_rounding
from ...formats.tables.codebook import CodebookFormat
from ..tables import Row

#: The shape of a block for each scaling: the whole tensor, the last axis, consecutive elements.
_BLOCKS: dict[str, tuple[int | None, ...]] = {"tensor": (), "row": (None,)}


class Storage(Row):
    """How one kind of tensor is kept between the operations that make it and use it.

    Attributes:
        format: of the elements; "float32" keeps what was computed, of whatever dtype. A block
            format of the catalog brings its scales along.
        scaling: with one, s = fl(amax / largest) in float32 and the value kept is
            fl(round(fl(x / s)) s): s over the "tensor", over each "row" (the last axis), or over
            each "block" of `block` consecutive elements of the flattened tensor.
        rounding, overflow: of the elements into the format; scales are nearest-even.
        rounding_in: "unit" is the chip's conversion unit, which may lack `rounding`; "software" is
            the same, but does in software what the unit lacks, with `random_bits` random bits.
        min_elements: smaller tensors are kept as they were computed.
    """

    format: str = "float32"
    scaling: Literal["none", "tensor", "row", "block"] = "none"
    block: int | None = Field(default=None, ge=1)
    rounding: str = "nearest_even"
    overflow: str = "saturate"
    rounding_in: Literal["unit", "software"] = "unit"
    random_bits: int = Field(default=16, ge=1, le=32)
    min_elements: int = Field(default=0, ge=0)

    @field_validator("format")
    @classmethod
    def _known_format(cls, name: str) -> str:
        return get_format(name).name

    @field_validator("rounding")
    @classmethod
    def _known_rounding(cls, name: str) -> str:
        return str(get_rounding(name)) if name != "stochastic" else name

    @field_validator("overflow")
    @classmethod
    def _known_overflow(cls, name: str) -> str:
        return get_overflow(name).value

    @model_validator(mode="after")
    def _consistent(self) -> "Storage":
        row = get_format(self.format)
        if (self.scaling == "block") != (self.block is not None):
            raise InputError('block, a number of elements, goes with scaling = "block"')
        if self.scaling != "none" and (isinstance(row, BlockFormat) or self.exact):
            raise InputError(f'{self.format} takes no scaling of its own; use scaling = "none"')
        if self.scaling == "none" and isinstance(row, CodebookFormat | IntegerFormat | FixedFormat):
            raise InputError(f"{self.format} needs a scaling: tensor, row or block")
        if isinstance(row, CodebookFormat) and self.rounding_in == "unit":
            raise InputError(f'{self.format}: no unit looks up codes; use rounding_in = "software"')
        self.fmt  # noqa: B018  a format that cannot be scaled is refused here
        return self

    @property
    def exact(self) -> bool:
        """Whether values are kept as they were computed."""
        return self.format == "float32"

    @property
    def fmt(self) -> AnyFormat:
        """The format of whole tensors, scales included."""
        row = get_format(self.format)
        if self.scaling == "none" or isinstance(row, BlockFormat):
            return row
        if not isinstance(row, FloatFormat | IntegerFormat | FixedFormat | CodebookFormat):
            raise InputError(f"{self.format} cannot be scaled; use a float, integer or codebook")
        name = f"{row.name} ({self.scaling})"
        return BlockFormat(name, row, FLOAT32, _BLOCKS.get(self.scaling, (self.block,)), "absmax")


class MemoryTable(Row):
    """What a recipe keeps narrower than it computes it.

    Attributes:
        weight: parameters, after every optimizer step and whenever the program writes them.
        master: with it, the optimizer reads and writes masters kept so, and forward and backward
            read `weight`, the working copies made of them after every step.
        gradient: `.grad` of parameters, after each accumulation.
        optimizer: optimizer states by name, "exp_avg" or a shell pattern; the name itself comes
            first, then patterns in their order, "*" last. States that match none stay.
        activation: floating-point tensors saved for backward that are no parameters or buffers.
            One number a row (a mean, a reciprocal deviation) stays as it was computed.
    """

    weight: Storage = Storage()
    master: Storage | None = None
    gradient: Storage = Storage()
    optimizer: dict[str, Storage] = Field(default_factory=dict)
    activation: Storage | None = None


class LossScalingRow(Row):
    """The loss scale S: a power of two that gradients carry on their way back.

    Attributes:
        kind: "static" keeps S = initial; "dynamic" multiplies S with `backoff` after a step whose
            gradients were not finite, and with `growth` after `interval` finite steps in a row.
        initial, growth, backoff: powers of two, so that scaling and unscaling are exact.
        interval: in optimizer steps.
        least, most: bounds of S.
    """

    kind: Literal["static", "dynamic"] = "dynamic"
    initial: float = 2.0**16
    growth: float = 2.0
    backoff: float = 0.5
    interval: int = Field(default=2000, ge=1)
    least: float = 2.0**-24
    most: float = 2.0**24

    @field_validator("initial", "growth", "backoff", "least", "most")
    @classmethod
    def _power_of_two(cls, value: Any) -> float:
        if not (0 < value < math.inf) or math.frexp(value)[0] != 0.5:
            raise InputError(f"{value} is not a power of two, with which scaling is exact")
        return float(value)

    @model_validator(mode="after")
    def _ordered(self) -> "LossScalingRow":
        if not self.backoff < 1 < self.growth:
            raise InputError(f"backoff = {self.backoff} < 1 < growth = {self.growth} does not hold")
        if not 2.0**-100 <= self.least <= self.initial <= self.most <= 2.0**100:
            raise InputError(
                f"2^-100 <= least = {self.least} <= initial = {self.initial} <= most = "
                f"{self.most} <= 2^100 does not hold"
            )
        return self

    @property
    def patience(self) -> int:
        """Steps that may be skipped one after the other until S can fall no further."""
        if self.kind == "static":
            return 0
        return math.ceil(math.log2(self.most / self.least) / -math.log2(self.backoff))
