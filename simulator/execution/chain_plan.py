"""Which lanes and roundings carry a chain exactly: from formats and, where they do not tell, data.

float32 lanes are twice as many as float64 ones, and an accumulator with float32's own exponents
needs no care for subnormals and overflow. What may be used is decided here by the conditions that
`kernels.chain_steps` proves sufficient.
"""

import math
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from ...formats.format import FLOAT32, ArithmeticFormat, FloatFormat, fits
from ...formats.jit import HALF
from ...formats.rounding import Mode, kernel_mode
from ..kernels import chain_steps as steps
from ..kernels.chain_random import block_steps, random_width
from ..kernels.chain_steps import (
    AS_IS,
    FULL,
    FUSED,
    IN_PLACE,
    NEAREST,
    ODD,
    WHOLE_STEPS,
    ZERO,
    Target,
)
from ..kernels.chain_tiles import Draws
from ..kernels.extent import extent
from ..order import Chain
from .layout import Formats, Matrix, Place, lowest_bit

FLOAT16 = FloatFormat("float16", 5, 10)

#: np.float64, np.float32, or np.float16 whose own arithmetic is the chain.
Lane = Any

#: Sums that stay below this for 16 steps never leave float32: growth is below 2^10 in those.
PEAK, LARGEST_PRODUCT = 2.0**64, 2.0**59


@dataclass(frozen=True)
class Plan:
    """How a chain is computed; the fields are those of `kernels.chain_steps`."""

    lane: Lane
    kind: int
    mode: int
    reach: int
    product: int = FUSED

    @property
    def way(self) -> tuple[tuple[int, ...], ...]:
        """What the kernels are compiled for."""
        return steps.static(self.kind, self.mode, self.reach, self.product)


@dataclass(frozen=True)
class Operands:
    """What is known of a product's operands: their formats, and their values if asked."""

    a: Matrix
    b: Matrix
    formats: Formats

    @property
    def width(self) -> int:
        """Significand bits of a product."""
        return sum(f.precision for f in self.formats)

    @cached_property
    def extents(self) -> list[tuple[int, float]]:
        """(exponent of the lowest bit set anywhere, largest finite magnitude) of both."""
        return [extent(np.ascontiguousarray(x).reshape(-1)) for x in (self.a, self.b)]

    def multiples_of(self, exponent: int) -> bool:
        """Whether every product is a multiple of 2^exponent."""
        if sum(lowest_bit(f) for f in self.formats) >= exponent:
            return True
        return sum(low for low, _ in self.extents) >= exponent

    def at_most(self, limit: float) -> bool:
        """Whether no finite product exceeds `limit`."""
        if math.prod(_largest(f) for f in self.formats) <= limit:
            return True
        return math.prod(high for _, high in self.extents) <= limit


def _largest(fmt: ArithmeticFormat) -> float:
    return max(fmt.grid.largest, -fmt.grid.lowest)


def choose(order: Chain, operands: Operands) -> Plan:
    """The fastest plan that is exact."""
    mode, _ = kernel_mode(order.accumulate)
    plan = _native(order, operands, mode) or _single(order, operands, mode)
    return plan or choose_double(order, operands)


def _native(order: Chain, operands: Operands, mode: int) -> Plan | None:
    """IEEE arithmetic of the machine itself, nearest-even.

    float16 only where nothing changes if float32 stands in for it.
    """
    if mode != Mode.NEAREST_EVEN or not all(fits(f, order.result) for f in operands.formats):
        return None
    if HALF and order.result.grid == FLOAT16.grid and order.fused and innocuous(order, operands):
        return Plan(np.float16, NEAREST, mode, AS_IS)
    lanes: dict[str, Lane] = {"float32": np.float32, "float64": np.float64}
    lane = lanes.get(order.accumulator)
    if lane is None:
        return None
    if order.flush:
        # Rounded products stay subnormal where sums do not: only float64 tells them apart.
        return Plan(lane, NEAREST, mode, steps.FLUSHED_AS_IS) if order.fused else None
    return Plan(lane, NEAREST, mode, AS_IS, FUSED if order.fused else AS_IS)


def _single(order: Chain, operands: Operands, mode: int) -> Plan | None:
    """float32 lanes, if they hold the operands, the sums and enough bits below the last one."""
    result = order.result
    held = all(fits(f, FLOAT32) for f in (*operands.formats, result))
    if order.flush or not held:
        return None
    kind, spare = _first_rounding(order, mode)
    if FLOAT32.fraction_bits - result.fraction_bits < spare:
        return None
    in_place = (result.min_exponent, result.max_exponent) == (-126, 127)
    if not order.fused and not _exact_in_float32(operands):
        return None
    if in_place:
        if mode == Mode.NEAREST_EVEN and innocuous(order, operands):
            kind = NEAREST
        if order.random_bits and not operands.at_most(LARGEST_PRODUCT):
            return None
        return Plan(np.float32, kind, mode, IN_PLACE, FUSED if order.fused else IN_PLACE)
    return Plan(np.float32, kind, mode, *_reaches(order, operands))


def choose_double(order: Chain, operands: Operands) -> Plan:
    """float64 lanes, which hold every chain but those in float64 itself."""
    mode, _ = kernel_mode(order.accumulate)
    kind, _ = _first_rounding(order, mode)
    reach, product = _reaches(order, operands)
    return Plan(np.float64, kind, mode, steps.FLUSHED if order.flush else reach, product)


def _first_rounding(order: Chain, mode: int) -> tuple[int, int]:
    """The kind of first rounding, and how many bits it needs below the last one kept.

    Rounded products need a thread that rounds downward; ODD leaves all but the last bit as
    ZERO does.
    """
    bits = order.random_bits or 0
    match Mode(mode):
        case Mode.TOWARD_ZERO | Mode.SRFF | Mode.SRF:
            spare = bits + (mode == Mode.SRF)
            return (ZERO, spare) if order.fused else (ODD, spare + 1)
        case Mode.UP | Mode.DOWN | Mode.TO_ODD:
            return ODD, 1
        case _:
            return ODD, bits + 2


def _reaches(order: Chain, operands: Operands) -> tuple[int, int]:
    """How far the second rounding of sums and that of products reach.

    Sums are multiples of the accumulator's quantum if products are, and rounded ones are.
    """
    whole = operands.multiples_of(lowest_bit(order.result))
    reach = WHOLE_STEPS if whole else FULL
    return (reach, FUSED) if order.fused else (WHOLE_STEPS, reach)


def _exact_in_float32(operands: Operands) -> bool:
    """Whether every product of the operands is a float32."""
    return (
        operands.width <= FLOAT32.precision
        and operands.multiples_of(lowest_bit(FLOAT32))
        and operands.at_most(FLOAT32.largest)
    )


def innocuous(order: Chain, operands: Operands) -> bool:
    """Whether nearest-even to 24 bits and then to q <= 11 bits is nearest-even at once.

    It is if the addends c and p have at most q bits (Figueroa, SIGNUM Newsletter 30(3), 1995:
    24 >= 2 q + 2). Let x = c + p, 2^e <= |x| < 2^(e+1), be rounded to a midpoint M between two
    q-bit numbers without being M: 0 < |x - M| <= 2^(e-24). If both addends were multiples of
    2^(e-23), x would be exact. So one, u, is not, and is less than 2^(e-24+q) <= 2^(e-13). The
    other, v, is within 2^(e-13) + 2^(e-24) of M > 2^e, so at least 2^(e-1), so a multiple of
    2^(e-q) >= 2^(e-11), as M is: v = M, which is no q-bit number.
    Below 2^-126, where c is a multiple of the quantum Q = 2^(-125-q) and M an odd one of Q / 2,
    an inexact x has a p below 2^(q-149) <= Q / 4, which does not reach from c to M.
    """
    q = order.result.precision
    addend = operands.width if order.fused else q
    return addend <= q <= 11


@cache
def make_target(
    fmt: FloatFormat,
    lane: Lane,
    mode: int,
    bits: int,
    smallest: float,
) -> Target:
    """The format as these lanes round to it."""
    integer: Any = np.int32 if lane is np.float32 else np.int64
    drop = _drop(fmt, lane)
    stops = {Mode.TOWARD_ZERO: (1, 1), Mode.TO_ODD: (1, 1), Mode.DOWN: (1, 0), Mode.UP: (0, 1)}
    above, below = (fmt.largest if s else math.inf for s in stops.get(Mode(mode), (0, 0)))
    last, middle = 1 << drop, 1 << max(drop - bits, 0)
    values = (0.0, 1.0, smallest, fmt.largest, above, below)
    return Target(integer(last), integer(middle), *(lane(v) for v in values))


def _drop(fmt: FloatFormat, lane: Lane) -> int:
    return (23 if lane is np.float32 else 52) - fmt.fraction_bits


def make_draws(
    order: Chain, plan: Plan, place: Place, lane: int, strides: tuple[int, int]
) -> Draws:
    """The random bits of chain `lane` of `order.lanes`; outputs are numbered by `strides`."""
    bits = order.random_bits or 1
    drop = _drop(order.result, plan.lane)
    integer: Any = np.int32 if plan.lane is np.float32 else np.int64
    share, width = block_steps(bits), random_width(bits)
    return Draws(
        seed=np.uint64(place.seed % 2**64),
        stream=np.uint64(place.stream % 2**64),
        first=place.k_first + lane,
        every=order.lanes,
        steps=share,
        blocks=-(-place.k_all // share),
        row=strides[0],
        column=strides[1],
        width=width,
        places=width - drop,
        mask=integer(((1 << bits) - 1) << (drop - bits)),
        set_bit=integer(1 << (drop - bits - 1) if plan.mode == Mode.SRF else 0),
    )
