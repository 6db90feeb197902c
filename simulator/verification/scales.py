"""Scales for units whose operands come in scaled blocks: sizes apart by every distance."""

from typing import Any, NamedTuple

import numpy as np

from ...formats.format import ArithmeticFormat, FloatFormat
from ..dot_unit import DotUnit
from .codes import Codes, to_values
from .space import Rng, Values, exponent_range, on_grid

#: The arguments of `DotUnit.dot` that take scales.
NAMES = ("a_scale", "b_scale")


class ScaleRow(NamedTuple):
    """The format of a unit's scales, and the products that share one."""

    fmt: ArithmeticFormat
    block: int

    def groups(self, k: int) -> int:
        """Scales along k products; the last may have fewer of them."""
        return -(-k // self.block)


def scale_of(unit: DotUnit) -> ScaleRow | None:
    """The unit's scales, or None if its operands have none."""
    row: Any = getattr(unit, "scale", None)
    return None if row is None else ScaleRow(row.fmt, row.block)


def draw_scales(row: ScaleRow, rng: Rng, n: int, k: int) -> tuple[Values, Values]:
    """Scales of A and of B, (n, groups) each.

    One third 1 throughout; one third alike, but for one group that is 2^d smaller, d swept; the
    rest any codes, or all about 1.
    """
    groups = row.groups(k)
    low, high = exponent_range(row.fmt)
    kind = rng.integers(0, 6, n)
    base = np.clip(rng.integers(-12, 13, (2, n, 1)), low, high).astype(np.int64)
    e = np.repeat(np.where(kind[None, :, None] < 2, np.clip(0, low, high), base), groups, axis=2)
    distance = np.arange(n) % 48
    at, row_index = rng.integers(0, groups, n), np.arange(n)
    lowered = (kind == 2) | (kind == 3)
    for side, part in ((0, distance // 2), (1, distance - distance // 2)):
        e[side, row_index[lowered], at[lowered]] -= part[lowered]
    mixed = kind == 4
    e[:, mixed] += rng.integers(-3, 4, e[:, mixed].shape)
    scales = [on_grid(np.ldexp(1.0, np.clip(x, low, high).astype(np.int32)), row.fmt) for x in e]
    wild = kind == 5
    for values in scales:
        codes: Codes = rng.integers(0, 2**row.fmt.bits, (int(wild.sum()), groups), dtype=np.uint64)
        drawn = np.abs(np.asarray(to_values(codes, row.fmt), np.float64))
        rare = rng.random(drawn.shape) < 0.2
        values[wild] = np.where(np.isnan(drawn) & ~rare, 1.0, drawn)
    return scales[0], scales[1]


def scaled_addends(c: Values, scales: tuple[Values, Values], fmt: ArithmeticFormat) -> Values:
    """C moved by the scales of the first group, where they are powers of two within its range."""
    factor = scales[0][:, 0] * scales[1][:, 0]
    exponent = np.frexp(np.where(np.isfinite(factor) & (factor > 0), factor, 1.0))[1] - 1
    moved = np.ldexp(np.where(np.isfinite(c), c, 0.0), exponent)
    if isinstance(fmt, FloatFormat):
        moved = on_grid(np.clip(moved, -fmt.largest, fmt.largest), fmt)
    return np.where(np.isfinite(c), moved, c)
