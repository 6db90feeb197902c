"""Chains on a device: flushes, interleaved lanes, and the kernel of the plan."""

from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from ....formats.device.conversion import flushed, key_of
from ....formats.device.launch import blocks, launch
from ....formats.device.target import DOUBLE, SINGLE, Target, make_target
from ....formats.format import FLOAT32, fits
from ....formats.rounding import Mode, Overflow, kernel_mode
from ...kernels.chain_random import block_steps, random_width
from ...order import Chain
from ..chain_plan import LARGEST_PRODUCT, PEAK, Operands, innocuous
from ..layout import Formats, Place, lowest_bit
from .tiles import MOST, WIDE, programs, start

_SMALLEST = 2.0**-126
_BLOCK = 1024
#: The most random bits that the general rounding carries in 32-bit lanes.
_NARROW_BITS = 28
AS_IS, IN_PLACE, GENERAL, FUSED = range(4)
NEAREST, ODD, ZERO = range(3)


class Step(NamedTuple):
    """A first and a second rounding as the kernel is compiled for them; see `chain_steps`.

    drop: the low bits of the lane that go, for IN_PLACE. smallest: what is below becomes zero.
    fma: whether the step is one fused multiply-add of the lane.
    """

    reach: int
    kind: int = NEAREST
    mode: int = 0
    k: int = 0
    drop: int = 0
    smallest: float = 0.0
    fma: int = 0
    AS_IS: int = AS_IS
    IN_PLACE: int = IN_PLACE
    FUSED: int = FUSED
    NEAREST: int = NEAREST
    ZERO: int = ZERO


class Plan(NamedTuple):
    """How a chain is computed on a device: the lane, and both roundings of sum and product."""

    lane: torch.dtype
    sums: Step
    products: Step
    sums_to: Target
    products_to: Target


class Known:
    """A product's operands as `chain_plan` asks about them."""

    def __init__(self, a: Tensor, b: Tensor, formats: Formats) -> None:
        self.a, self.b, self.formats = a, b, formats
        self._extents: list[tuple[int, float]] | None = None

    @property
    def width(self) -> int:
        """Significand bits of a product."""
        return sum(f.precision for f in self.formats)

    def multiples_of(self, exponent: int) -> bool:
        """Whether every product is a multiple of 2^exponent."""
        if sum(lowest_bit(f) for f in self.formats) >= exponent:
            return True
        return sum(low for low, _ in self.extents()) >= exponent

    def at_most(self, limit: float) -> bool:
        """Whether no finite product exceeds `limit`."""
        largest = [max(f.grid.largest, -f.grid.lowest) for f in self.formats]
        if largest[0] * largest[1] <= limit:
            return True
        (_, x), (_, y) = self.extents()
        return x * y <= limit

    def extents(self) -> list[tuple[int, float]]:
        """(exponent of the lowest bit set anywhere, largest finite magnitude) of both."""
        if self._extents is None:
            self._extents = [_extent(x) for x in (self.a, self.b)]
        return self._extents


def _extent(x: Tensor) -> tuple[int, float]:
    """As `kernels.extent`: the lowest bit from the trailing zeros of the significands."""
    size = torch.where(torch.isfinite(x), x, 0.0).abs().double()
    bits = size.view(torch.int64)
    sig = (bits & (2**52 - 1)) | 2**52
    tail = ((sig & -sig).double().view(torch.int64) >> 52) - 1023
    exponents = torch.where(bits != 0, (bits >> 52) - 1075 + tail, 1100)
    if not x.numel():
        return 1100, 0.0
    low, high = torch.stack([exponents.amin().double(), size.amax()]).tolist()
    return int(low), high


def choose(order: Chain, known: Known) -> Plan:
    """The fastest plan that is exact: conditions as in `chain_plan`, products exact in the lane."""
    return _native(order, known) or _single(order, known) or make_double(order)


def _native(order: Chain, known: Known) -> Plan | None:
    """IEEE float32 or float64 as they are."""
    mode, _ = kernel_mode(order.accumulate)
    held = all(fits(f, order.result) for f in known.formats)
    lanes = {"float32": torch.float32, "float64": torch.float64}
    if mode != Mode.NEAREST_EVEN or order.flush or not held or order.accumulator not in lanes:
        return None
    plain = make_target(FLOAT32.grid, SINGLE, 0, 0, Overflow.INFINITY)
    step = Step(AS_IS, fma=int(order.fused))
    product = Step(FUSED if order.fused else AS_IS)
    return Plan(lanes[order.accumulator], step, product, plain, plain)


def _first_rounding(mode: int, bits: int) -> tuple[int, int]:
    """The kind of first rounding, and how many bits it needs below the last one kept."""
    match Mode(mode):
        case Mode.TOWARD_ZERO | Mode.SRFF | Mode.SRF:
            return ZERO, bits + (mode == Mode.SRF)
        case Mode.UP | Mode.DOWN | Mode.TO_ODD:
            return ODD, 1
        case _:
            return ODD, bits + 2


def _single(order: Chain, known: Known) -> Plan | None:
    """float32 lanes, if they hold the operands, every product, and bits enough below the last."""
    result, (mode, bits) = order.result, kernel_mode(order.accumulate)
    held = all(fits(f, FLOAT32) for f in (*known.formats, result))
    kind, spare = _first_rounding(mode, bits)
    drop = FLOAT32.fraction_bits - result.fraction_bits
    if order.flush or not held or drop < spare or not _exact_in_float32(known):
        return None
    inside = (result.min_exponent, result.max_exponent) == (-126, 127)
    reach = IN_PLACE if inside and mode != Mode.SRC else GENERAL
    if reach == GENERAL and bits > _NARROW_BITS:
        return None
    asked = cast(Operands, known)  # it has what is asked of those, on tensors
    if inside and mode == Mode.NEAREST_EVEN and innocuous(order, asked):
        kind = NEAREST
    if inside and bits and not known.at_most(LARGEST_PRODUCT):
        return None
    product = Step(FUSED if order.fused else reach, drop=drop)
    return Plan(
        torch.float32, Step(reach, kind, mode, bits, drop), product,
        make_target(result.grid, SINGLE, mode, bits, Overflow.INFINITY),
        make_target(result.grid, SINGLE, 0, 0, Overflow.INFINITY),
    )  # fmt: skip


def make_double(order: Chain) -> Plan:
    """float64 lanes, which hold the products of every chain but those in float64 itself."""
    result, (mode, bits) = order.result, kernel_mode(order.accumulate)
    kind, _ = _first_rounding(mode, bits)
    grid, smallest = result.grid, 0.0
    if order.flush:
        grid, smallest = grid._replace(min_exponent=-900), 2.0**result.min_exponent
    return Plan(
        torch.float64, Step(GENERAL, kind, mode, bits, smallest=smallest),
        Step(FUSED if order.fused else GENERAL),
        make_target(grid, DOUBLE, mode, bits, Overflow.INFINITY),
        make_target(result.grid, DOUBLE, 0, 0, Overflow.INFINITY),
    )  # fmt: skip


def _exact_in_float32(known: Known) -> bool:
    return (
        known.width <= FLOAT32.precision
        and known.multiples_of(lowest_bit(FLOAT32))
        and known.at_most(FLOAT32.largest)
    )


def run_chain(
    order: Chain, a: Tensor, b: Tensor, c: Tensor, formats: Formats, place: Place
) -> Tensor:
    """Chains; several lanes start from +0, are added in ascending order, then to `c`."""
    if order.flush:
        a, b, c = (flushed(x, _SMALLEST) for x in (a, b, c))
    if order.lanes == 1:
        return _one_chain(order, a, b, c, formats, place, 0)
    total = torch.zeros_like(c)
    for n in range(order.lanes):
        part = a[:, :, n :: order.lanes], b[:, n :: order.lanes]
        lane = _one_chain(order, *part, torch.zeros_like(c), formats, place, n)
        total = add(total, lane, order) if n else lane
    return add(c, total, order)


def _one_chain(
    order: Chain, a: Tensor, b: Tensor, c: Tensor, formats: Formats, place: Place, lane: int
) -> Tensor:
    """One of the interleaved chains; in float64 where stochastic sums came near float32's end."""
    plan = choose(order, Known(a, b, formats))
    watched = order.random_bits is not None and plan.sums.reach == IN_PLACE
    out, peaks = _run(order, plan, a, b, c, place, lane)
    if watched and int(peaks.max()) >= int(np.float32(PEAK).view(np.int32)):
        out, _ = _run(order, make_double(order), a, b, c, place, lane)
    return out


def _run(
    order: Chain, plan: Plan, a: Tensor, b: Tensor, c: Tensor, place: Place, lane: int
) -> tuple[Tensor, Tensor]:
    """(D, the bits of the largest sum of each program)."""
    import triton.language as tl

    from ...kernels.triton import chain as kernels

    single = plan.lane is torch.float32
    kind = torch.int32 if single else torch.int64
    most = WIDE if single and order.random_bits is None else MOST
    tiles, batch = programs(a, b, most)
    peaks = torch.zeros(tiles * batch, dtype=kind, device=a.device)
    bits, out = order.random_bits or 1, c.clone()
    share = block_steps(bits)
    after = (
        *key_of(place.seed, place.stream), place.k_first + lane, order.lanes,
        blocks(place.k_all, share), b.shape[2], 1,
    )  # fmt: skip
    start(
        kernels.matmul, a, b, (out, peaks), after=after, s=plan.sums, gs=plan.sums_to,
        p=plan.products, gp=plan.products_to, LANE=tl.float32 if single else tl.float64,
        WIDTH=random_width(bits), most=most,
    )  # fmt: skip
    return out, peaks


def add(x: Tensor, y: Tensor, order: Chain) -> Tensor:
    """round(x + y), elementwise, as the accumulator of `order` adds."""
    from ...kernels.triton import chain as kernels

    plan: Any = make_double(order.model_copy(update={"fused": True}))
    step, target = plan.sums, plan.sums_to
    if order.accumulator == "float64":
        step = Step(AS_IS)
    out = torch.empty_like(x)
    launch(
        kernels.add, (blocks(x.numel(), _BLOCK),), x.contiguous(), y.contiguous(), out, x.numel(),
        _SMALLEST if order.flush else 0.0, s=step, g=target, BLOCK=_BLOCK,
    )  # fmt: skip
    return out
