"""A conversion as a Triton kernel is compiled for it: a format, a rounding and a policy as numbers.

Numbers of the layout of float32 (`wide` = 32) or float64 (64): magnitudes and results are bits of
it, so that a kernel needs no float.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..format import FloatFormat, Grid, GridFormat
from ..lanes import find_beyond
from ..reference import nan_code
from ..rounding import Overflow


class Layout(NamedTuple):
    """The fields of float32 or float64, as signed integers of its width."""

    wide: int
    fraction: int
    bias: int

    @property
    def sign(self) -> int:
        """The sign bit, as a negative number."""
        return int(-(2 ** (self.wide - 1)))

    @property
    def infinity(self) -> int:
        """The bits of infinity."""
        return (2 * self.bias + 1) << self.fraction

    def bits(self, value: float) -> int:
        """The bits of a value of the layout."""
        if self.wide == 32:
            return int(np.float32(value).view(np.int32))
        return int(np.float64(value).view(np.int64))


SINGLE, DOUBLE = Layout(32, 23, 127), Layout(64, 52, 1023)


class Target(NamedTuple):
    """What `triton.bits.round_bits` and `wrap_bits` are compiled for.

    Attributes:
        wide, fraction, bias, sign, magnitude, fraction_mask, implicit, infinity: the layout.
        fraction_bits, min_exponent: of the grid; quantum: the exponent of its smallest step.
        quantum_bits, quantum_value: that step, as bits and as a float64.
        mode, k: the rounding, see `formats.rounding.Mode`, and its random bits.
        high, low: magnitudes of the largest and the lowest value; low_is_negative: below zero.
        over_*, infinite_*: the bits that finite and infinite numbers beyond the range become.
        absent: what zero, and what rounds to it, becomes where the format has none.
        wraps, wrap_mask, wrap_largest: integers modulo wrap_mask + 1 quanta.
    """

    wide: int
    fraction: int
    bias: int
    sign: int
    magnitude: int
    fraction_mask: int
    implicit: int
    infinity: int
    fraction_bits: int
    min_exponent: int
    quantum: int
    quantum_bits: int
    quantum_value: float
    mode: int
    k: int
    high: int
    low: int
    low_is_negative: int
    over_up: int
    over_down: int
    infinite_up: int
    infinite_down: int
    signed_zero: int
    has_zero: int
    absent: int
    wraps: int
    wrap_mask: int
    wrap_largest: int


class Code(NamedTuple):
    """What `triton.bits.float_code` and `whole_code` are compiled for."""

    wide: int
    fraction: int
    bias: int
    magnitude: int
    fraction_mask: int
    implicit: int
    infinity: int
    quantum: int
    least_normal: int
    drop: int
    rebias: int
    infinity_code: int
    sign_code: int
    nan_code: int
    steps: float
    mask: int


NO_CODE = Code(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0, 0)


@lru_cache(maxsize=1024)
def make_target(
    grid: Grid, layout: Layout, mode: int, k: int, overflow: Overflow, endless: bool = False
) -> Target:
    """The conversion of numbers of a layout, which holds every value of the grid.

    endless: finite numbers beyond the range become infinity in every mode.
    """
    beyond = find_beyond(grid, mode, overflow)
    if endless:
        beyond |= {"over_up": math.inf, "over_down": -math.inf}
    quantum = grid.min_exponent - grid.subnormal_fraction_bits
    wraps, step = overflow is Overflow.WRAP, 2.0**quantum
    absent = grid.lowest if overflow in (Overflow.SATURATE, Overflow.PROPAGATE) else math.nan
    return Target(
        wide=layout.wide,
        fraction=layout.fraction,
        bias=layout.bias,
        sign=layout.sign,
        magnitude=-layout.sign - 1,
        fraction_mask=(1 << layout.fraction) - 1,
        implicit=1 << layout.fraction,
        infinity=layout.infinity,
        fraction_bits=grid.fraction_bits,
        min_exponent=grid.min_exponent,
        quantum=quantum,
        quantum_bits=layout.bits(step),
        quantum_value=step,
        mode=mode,
        k=k,
        high=layout.bits(grid.largest),
        low=layout.bits(abs(grid.lowest)),
        low_is_negative=int(grid.lowest < 0),
        over_up=layout.bits(beyond["over_up"]),
        over_down=layout.bits(beyond["over_down"]),
        infinite_up=layout.bits(beyond["infinite_up"]),
        infinite_down=layout.bits(beyond["infinite_down"]),
        signed_zero=int(grid.signed_zero),
        has_zero=int(grid.has_zero),
        absent=layout.bits(absent),
        wraps=int(wraps),
        wrap_mask=round((grid.largest - grid.lowest) / step) if wraps else 0,
        wrap_largest=round(grid.largest / step) if wraps else 0,
    )


@lru_cache(maxsize=256)
def make_code(fmt: GridFormat, layout: Layout) -> Code:
    """The codes of values of a format, which the layout holds."""
    grid = fmt.grid
    quantum = grid.min_exponent - grid.subnormal_fraction_bits
    real = isinstance(fmt, FloatFormat)
    infinity = nan = rebias = drop = sign = least = 0
    if isinstance(fmt, FloatFormat):
        zero = int(fmt.zero)
        drop = layout.fraction - fmt.fraction_bits
        rebias = (layout.bias + fmt.min_exponent - zero) << fmt.fraction_bits
        infinity = fmt.infinity_body if fmt.infinity else 0
        nan = nan_code(fmt) if grid.has_nan else 0
        sign = 1 << (fmt.bits - 1) if fmt.signed else 0
        least = layout.bits(2.0**fmt.min_exponent)
    limit = 1 << layout.wide

    def wrapped(number: int) -> int:
        return (number + limit // 2) % limit - limit // 2

    return Code(
        wide=layout.wide,
        fraction=layout.fraction,
        bias=layout.bias,
        magnitude=-layout.sign - 1,
        fraction_mask=(1 << layout.fraction) - 1,
        implicit=1 << layout.fraction,
        infinity=layout.infinity,
        quantum=quantum,
        least_normal=least,
        drop=drop,
        rebias=rebias,
        infinity_code=infinity,
        sign_code=wrapped(sign),
        nan_code=wrapped(nan),
        steps=0.0 if real else 2.0**-quantum,
        mask=wrapped((1 << fmt.bits) - 1),
    )
