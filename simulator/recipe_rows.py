"""The rows of a recipe: how an operand is prepared, and what a matrix product does with it."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ..formats import BlockFormat, FloatFormat, get_format
from ..formats.errors import InputError
from ..formats.format import FLOAT32, FixedFormat, GridFormat, IntegerFormat, fits
from ..formats.rounding import get_overflow, get_rounding
from .order import KOrder, SplitK
from .tables import Row
from .units import arithmetic_format

FLOAT64 = get_format("float64")
#: Who an operand is, and in which product: the keys of a recipe.
OPERANDS = ("weight", "activation", "gradient", "attention", "optimizer", "exempt")
GEMMS = ("fprop", "dgrad", "wgrad", "attention", "optimizer", "exempt")
LAYER_GEMMS = ("fprop", "dgrad", "wgrad")


class Hadamard(Row):
    """A rotation of `size` neighbours along the contraction: y = x diag(signs) H / sqrt(size).

    H is the Hadamard matrix in Sylvester's order, computed in log2(size) stages of float32
    additions and subtractions, each rounded nearest-even, then multiplied by fl(size^-1/2), which
    is a power of two for sizes 4, 16, 64, 256. Both operands are rotated alike, so that the exact
    product is the same; K is filled with zeros to whole rotations. `size` = 1 is no rotation.

    Attributes:
        random: signs are drawn once a run from its seed; otherwise all are +1.
    """

    size: int = Field(default=1, ge=1, le=4096)
    random: bool = False

    @model_validator(mode="after")
    def _power_of_two(self) -> "Hadamard":
        if self.size & (self.size - 1):
            raise InputError(f"hadamard size = {self.size} is not a power of two")
        return self


class Delayed(Row):
    """Delayed scaling: the scale of a pass follows from the largest magnitudes of those before.

    With amax over the last `history` passes (`max`) or the last (`most_recent`), the scale becomes
    fl(largest 2^-margin / amax), float32's largest number where that is infinite; amax = 0 and
    amax = inf keep the scale. It starts as 1. Source: Transformer Engine, DelayedScaling.
    """

    history: int = Field(default=1024, ge=1)
    algorithm: Literal["max", "most_recent"] = "max"
    margin: int = 0


class Operand(Row):
    """How one operand of a matrix product is prepared: rotated, scaled, rounded.

    `none` rounds x itself. `tensor` and `row` have s = fl(largest / amax) over the tensor or over
    each row (a row holds all elements that meet in one dot product), q = round(fl(x s)), and the
    product is multiplied by fl(1 / s); `delayed` the same with s from earlier passes. `block` has
    a scale for each block of the block format, by its rule (`formats.blocks.rules`). All of it in
    float32, nearest-even, but for `round`, which is `rounding` into `format`. amax = 0 takes s = 1.

    Attributes:
        format: of float or integer elements, or a block format, which brings its scales along.
        block: (n,) or (m, n): n elements along the contraction, m beside them, share a scale;
            empty is the block format's own.
        rule: of the scales of blocks; empty is the block format's own, or "absmax".
        shrink: elements are multiplied by it after scaling, so that none saturates, and the
            product by fl(1 / shrink).
        rounding_in: "unit" is the chip's conversion unit, which may lack `rounding`; "software" is
            the same, but does in software what the unit lacks, with `random_bits` random bits.
    """

    format: str
    scaling: Literal["none", "tensor", "delayed", "row", "block"] | None = None
    block: tuple[int, ...] = ()
    rule: str = ""
    delayed: Delayed = Delayed()
    shrink: float = Field(default=1.0, gt=0.0, le=1.0)
    hadamard: Hadamard = Hadamard()
    rounding: str = "nearest_even"
    rounding_in: Literal["unit", "software"] = "unit"
    random_bits: int = Field(default=16, ge=1, le=32)
    overflow: str = "saturate"

    @field_validator("format")
    @classmethod
    def _known_format(cls, name: str) -> str:
        return get_format(name).name

    @field_validator("rounding")
    @classmethod
    def _known_rounding(cls, name: str) -> str:
        return str(get_rounding(name)) if name != "stochastic" else name

    @model_validator(mode="after")
    def _consistent(self) -> "Operand":
        policy = get_overflow(self.overflow)
        own = isinstance(get_format(self.format), BlockFormat)
        if own and self.scaling not in (None, "block"):
            raise InputError(f'{self.format} brings its scales: scaling = "block" is the only one')
        if self.scaling == "block" and not own and not self.block:
            raise InputError(f'scaling = "block" of {self.format} needs block = [n] or [m, n]')
        whole = not isinstance(self.fmt, FloatFormat)
        if (whole and self.scales == "none") or (
            policy != "saturate" and (whole or self.blocks is not None)
        ):
            raise InputError(f'{self.format} needs a scaling and overflow = "saturate"')
        plain = self.scales == "none" and self.hadamard.size == 1
        if not fits(self.fmt, FLOAT32) and not (self.fmt == FLOAT64 and plain):
            raise InputError(
                f"{self.format}: float32 cannot hold every value of this operand; of wider "
                "formats there is float64, without scaling or rotation"
            )
        if self.shrink != 1.0 and self.scales == "none":
            raise InputError(f"shrink = {self.shrink} needs a scaling")
        return self

    @property
    def scales(self) -> str:
        """The scaling, said or not."""
        own = isinstance(get_format(self.format), BlockFormat)
        return self.scaling or ("block" if own else "none")

    @property
    def blocks(self) -> BlockFormat | None:
        """The block format, with this row's block and rule; None without scaling by blocks."""
        if self.scales != "block":
            return None
        return _block_format(self.format, self.block, self.rule)

    @property
    def fmt(self) -> GridFormat:
        """The format of the elements."""
        fmt = self.blocks.element if self.blocks else get_format(self.format)
        if not isinstance(fmt, FloatFormat | IntegerFormat | FixedFormat):
            raise InputError(f"format {self.format} is no float or integer: no unit computes on it")
        return fmt

    def varied(self, element: str) -> "Operand":
        """The same row with other elements, as on a chip whose format is a variant."""
        update: dict[str, Any] = {"format": element}
        if self.blocks is not None:
            update |= {"scaling": "block", "block": self.blocks.block, "rule": self.blocks.rule}
        return Operand.model_validate(self.model_dump() | update)


@lru_cache(maxsize=256)
def _block_format(name: str, block: tuple[int, ...], rule: str) -> BlockFormat:
    """A block format with that block and rule; around elements, float32 scales by "absmax"."""
    fmt = get_format(name)
    if not isinstance(fmt, BlockFormat):
        fmt = BlockFormat(name, arithmetic_format(name), FLOAT32, block, "absmax")
    fmt = replace(fmt, block=block or fmt.block, rule=rule or fmt.rule)
    if fmt.scale_rule.zero_point or not all(fmt.block) or not fmt.block:
        raise InputError(f"{name}: zero points and open blocks are for no matrix unit")
    return fmt


class Gemm(Row):
    """What one kind of product does in its own way.

    Attributes:
        weight .. optimizer: keys of `Operand` that differ in this product.
        instruction: the matrix instruction, where the chip has several.
        accumulator: the output format of that instruction.
        promote_every: N, products along k after which the unit's sum, begun from +0, joins a
            float32 sum outside of it: c <- fma(sum, fl(s_a s_b), c), with the scales of the
            blocks that the N products lie in, or 1.
        k_order, split_k: in place of the unit's own; see `order.Sequence`, `order.SplitK`.
    """

    weight: Operand | None = None
    activation: Operand | None = None
    gradient: Operand | None = None
    attention: Operand | None = None
    optimizer: Operand | None = None
    instruction: str | None = None
    accumulator: str | None = None
    promote_every: int | None = Field(default=None, ge=1)
    k_order: KOrder | None = None
    split_k: SplitK | None = None


class Gemms(Row):
    """A `Gemm` for each kind of product."""

    fprop: Gemm = Gemm()
    dgrad: Gemm = Gemm()
    wgrad: Gemm = Gemm()
    attention: Gemm = Gemm()
    optimizer: Gemm = Gemm()
    exempt: Gemm = Gemm()


class Outputs(Row):
    """Formats in which the results of matrix products are stored, nearest-even."""

    fprop: str = "float32"
    dgrad: str = "float32"
    wgrad: str = "float32"
    attention: str = "float32"
    optimizer: str = "float32"
    exempt: str = "float32"

    @field_validator("*")
    @classmethod
    def _known(cls, name: str) -> str:
        fmt = arithmetic_format(name)
        held = fits(fmt, FLOAT32) or fmt == FLOAT64
        if not isinstance(fmt, FloatFormat) or not held or not fmt.infinity:
            raise InputError(
                f"{name} is not a float format with infinity that float32 holds, nor float64"
            )
        return fmt.name


def merged(table: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`table` with the values of `over` in place of its own, tables merged key by key."""
    result = deepcopy(table)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = deepcopy(value)
    return result


def with_operands(table: dict[str, Any]) -> dict[str, Any]:
    """The table of a recipe with each operand of each `gemm` completed from the role's own row."""
    gemms = table.get("gemm")
    if not isinstance(gemms, dict):
        return table
    result = dict(table, gemm={})
    for name, gemm in gemms.items():
        whole = dict(gemm) if isinstance(gemm, dict) else gemm
        for role in OPERANDS if isinstance(gemm, dict) else ():
            base, over = table.get(role), gemm.get(role)
            if isinstance(base, dict) and isinstance(over, dict):
                whole[role] = merged(base, over)
        result["gemm"][name] = whole
    return result
