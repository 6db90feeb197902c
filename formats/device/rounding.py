"""Rounding by torch operations alone, for tensors on any device: the twin of `kernels.py`.

Between the bits of x and the bits of the result there are only int64 operations: no float
product that a device might contract into a fused multiply-add, no power or logarithm, no
subnormal that it might flush to zero. Magnitudes are those of `bits.py`.
"""

import math

import torch
from torch import Tensor

from ..errors import InputError
from ..format import Grid
from ..rounding import AnyRounding, Mode, Overflow, get_overflow, get_rounding, kernel_mode
from .bits import (
    IMPLICIT,
    INFINITE,
    MASK,
    ZERO,
    Layout,
    Parts,
    assemble,
    disassemble,
    integer_steps,
    layout_of,
    wide_of,
    widen,
)
from .random import draw_integers


def quantize_on_device(
    x: Tensor,
    grid: Grid,
    rounding: AnyRounding = "nearest_even",
    overflow: str | Overflow = "saturate",
    random: Tensor | None = None,
    *,
    seed: int = 0,
    stream: int = 0,
    name: str = "the format",
) -> Tensor:
    """Each element of x rounded once to a value of the grid; bit-equal to the CPU kernels.

    Args:
        x: float64, float32, bfloat16 or float16, any device, strides and shape; not changed.
        random: integers in 0 .. 2^k - 1 of x's shape for stochastic rounding, used in place of
            the Philox integers that `seed` and `stream` select.
        name: the format, for messages.

    Returns:
        A tensor of x's shape, dtype and device, outside of autograd. A NaN keeps its bits.

    Raises:
        InputError: x's dtype does not hold every value of the grid; a policy or NaN that the
            grid has no value for (found by one reduction, which waits for the device).
    """
    layout = layout_of(x)
    if not grid_fits(grid, layout):
        wider = "x.double()" if x.dtype is torch.float32 else "x.float() or x.double()"
        raise InputError(f"{x.dtype} cannot hold every value of {name}; pass {wider}")
    parts = round_parts(
        disassemble(x.detach()),
        grid,
        rounding,
        overflow,
        random,
        seed=seed,
        stream=stream,
        name=name,
    )
    return torch.where(torch.isnan(x.detach()), x.detach(), assemble(parts, x.dtype))


def grid_fits(grid: Grid, layout: Layout) -> bool:
    """Whether every value of the grid is a value of the dtype."""
    top = max(grid.largest, -grid.lowest)
    quantum = grid.min_exponent - grid.subnormal_fraction_bits
    steps = math.frexp(top)[1] - quantum  # bits of the largest magnitude, in quanta
    room = 1 - layout.bias - layout.fraction_bits
    largest = (2.0 - 2.0**-layout.fraction_bits) * 2.0**layout.bias
    precision = min(grid.fraction_bits + 1, steps)
    return precision <= layout.fraction_bits + 1 and top <= largest and quantum >= room


def round_parts(
    parts: Parts,
    grid: Grid,
    rounding: AnyRounding,
    overflow: str | Overflow,
    random: Tensor | None,
    *,
    seed: int = 0,
    stream: int = 0,
    name: str = "the format",
) -> Parts:
    """Numbers rounded to the grid; arguments and errors as `quantize_on_device`."""
    policy = get_overflow(overflow)
    mode, bits = kernel_mode(get_rounding(rounding))
    check_parts(parts, grid, policy, name)
    wide = parts.wide
    integers = _integers(wide, random, bits, seed, stream) if bits else torch.zeros_like(wide)
    rounded = _round_wide(parts, grid, Mode(mode), bits, integers)
    return _bound(parts, rounded, grid, Mode(mode), policy)


def _integers(x: Tensor, random: Tensor | None, bits: int, seed: int, stream: int) -> Tensor:
    """The random integers of stochastic rounding: the caller's, checked, or those of Philox."""
    if random is None:
        return draw_integers(x.shape, bits, seed, stream, x.device)
    if random.shape != x.shape or random.dtype.is_floating_point or random.dtype.is_complex:
        raise InputError(
            f"random_bits: {random.dtype} {tuple(random.shape)} are not integers of shape "
            f"{tuple(x.shape)}"
        )
    integers = random.to(x.device, torch.int64)
    if integers.numel():
        least, most = int(integers.min()), int(integers.max())
        if not 0 <= least <= most < 2**bits:
            raise InputError(f"random_bits: {least} to {most} is not within 0 to {2**bits - 1}")
    return integers


def check_parts(parts: Parts, grid: Grid, policy: Overflow, name: str) -> None:
    """Refuse what the grid has no value for: a policy, NaN, or infinity that cannot wrap."""
    if policy is Overflow.WRAP and not _wraps(grid):
        raise InputError(
            f'overflow = "wrap" is for integers that use all codes, not {name}; use saturate'
        )
    if grid.has_nan:
        return
    if policy is Overflow.NAN or (policy is Overflow.INFINITY and not grid.has_infinity):
        raise InputError(f'overflow = "{policy}": {name} has no code for it; use saturate')
    if missing := int(parts.nan.sum()):
        raise InputError(f"{missing} NaN in the input: {name} has no NaN; remove them first")
    if policy is Overflow.WRAP and bool((parts.wide == INFINITE).any()):
        raise InputError(f"infinity in the input cannot wrap into {name}; use saturate")


def _wraps(grid: Grid) -> bool:
    """Whether the values are the multiples of a quantum, as many as a power of two."""
    quantum = 2.0 ** (grid.min_exponent - grid.subnormal_fraction_bits)
    count = (grid.largest - grid.lowest) / quantum + 1
    even = grid.fraction_bits == 52 == grid.subnormal_fraction_bits and not grid.has_nan
    return even and math.frexp(count)[0] == 0.5


def _round_wide(parts: Parts, grid: Grid, mode: Mode, k: int, random: Tensor) -> Tensor:
    """The rounded magnitudes on the grid of unbounded exponent.

    s low bits of the significand go. Up to s = 52 they are cut in place, and a carry into the
    exponent is the right one; beyond, the magnitude is below the quantum and becomes 0 or it.
    """
    wide = parts.wide
    quantum = grid.min_exponent - grid.subnormal_fraction_bits
    e = (wide >> 52) - 1023
    s = torch.where(e < grid.min_exponent, quantum + 52 - e, 52 - grid.fraction_bits)
    sig = torch.where(wide == ZERO, 0, (wide & MASK) | IMPLICIT)
    places = s.clamp(max=62)
    kept = sig >> places
    rest = sig - (kept << places)
    up = _carry(kept, rest, s, mode, parts.negative, k, random)
    inside = s.clamp(max=52)
    cut = ((wide >> inside) + up) << inside
    tiny = torch.where(up != 0, (quantum + 1023) << 52, ZERO)
    return torch.where(s > 52, tiny, cut)


def _carry(
    kept: Tensor, rest: Tensor, s: Tensor, mode: Mode, negative: Tensor, k: int, r: Tensor
) -> Tensor:
    """1 where the magnitude kept + rest * 2^-s goes up to kept + 1, else 0."""
    match mode:
        case Mode.NEAREST_EVEN:
            half = 1 << (s - 1).clamp(0, 61)
            up = (rest > half) | ((rest == half) & ((kept & 1) == 1))
        case Mode.NEAREST_AWAY:
            up = rest >= (1 << (s - 1).clamp(0, 61))
        case Mode.TOWARD_ZERO:
            up = torch.zeros_like(negative)
        case Mode.UP:
            up = (rest != 0) & ~negative
        case Mode.DOWN:
            up = (rest != 0) & negative
        case Mode.TO_ODD:
            up = (rest != 0) & ((kept & 1) == 0)
        case Mode.SRFF:
            return (_shift(rest, s - k) + r) >> k
        case Mode.SRF:
            return (_shift(rest, s - k - 1) + 2 * r + 1) >> (k + 1)
        case Mode.SRC:
            return (_nearest_even_shift(rest, s - k) + r) >> k
    return up.to(torch.int64)


def _shift(bits: Tensor, places: Tensor) -> Tensor:
    """floor(bits * 2^-places); `places` may be negative or huge."""
    return torch.where(places < 0, bits << (-places).clamp(0, 62), bits >> places.clamp(0, 63))


def _nearest_even_shift(bits: Tensor, places: Tensor) -> Tensor:
    """bits * 2^-places to the nearest integer, ties to even."""
    kept = _shift(bits, places)
    rest = torch.where(places > 0, bits - (kept << places.clamp(0, 62)), 0)
    half = 1 << (places - 1).clamp(0, 61)
    return kept + ((rest > half) | ((rest == half) & ((kept & 1) == 1))).to(torch.int64)


def _bound(x: Parts, rounded: Tensor, grid: Grid, mode: Mode, policy: Overflow) -> Parts:
    """Rounded magnitudes inside the range of the grid, after the overflow policy."""
    if policy is Overflow.WRAP:
        return _wrap(x.negative, rounded, grid)
    negative, wide, nan = x.negative, rounded, x.nan
    floor, ceiling = wide_of(abs(grid.lowest)), wide_of(grid.largest)
    if not grid.has_zero:
        # Zero and what rounds to it from above are not there: the lowest value is positive.
        rises = ~negative & (x.wide != ZERO) & (wide < floor)
        absent = (wide == ZERO) & ~rises
        wide = torch.where(rises | absent, floor, wide)
        negative = negative & ~absent
        nan = nan if policy is Overflow.SATURATE else nan | absent
    below = negative & ((wide > floor) if grid.lowest < 0 else (wide != ZERO))
    over = below | (~negative & (wide > ceiling))
    limit = torch.where(below, floor, ceiling)
    stops = torch.zeros_like(over)
    if policy is Overflow.SATURATE:
        stops = over
    elif policy is Overflow.INFINITY and grid.has_infinity:
        stops = over & (x.wide != INFINITE) & _toward_zero(mode, negative)
    else:
        nan = nan | over
    wide = torch.where(over, torch.where(stops, limit, INFINITE), wide)
    if grid.lowest >= 0:
        negative = negative & ~(stops & below)
        nan = nan | (below & ~stops)  # infinity has no sign in an unsigned format
    return Parts(negative & (grid.signed_zero | (wide != ZERO)), wide, nan)


def _toward_zero(mode: Mode, negative: Tensor) -> Tensor:
    """Where the rounding of an overflow stops at the largest value, as in IEEE 754."""
    if mode is Mode.UP:
        return negative
    if mode is Mode.DOWN:
        return ~negative
    return torch.full_like(negative, mode in (Mode.TOWARD_ZERO, Mode.TO_ODD))


def _wrap(negative: Tensor, wide: Tensor, grid: Grid) -> Parts:
    """Multiples of the quantum modulo the number of codes, a power of two up to 2^32."""
    quantum = grid.min_exponent - grid.subnormal_fraction_bits
    lowest, largest = (round(math.ldexp(v, -quantum)) for v in (grid.lowest, grid.largest))
    span = largest - lowest + 1
    steps = integer_steps(wide, quantum) & (span - 1)
    steps = torch.where(negative, -steps, steps) & (span - 1)
    steps = torch.where(steps > largest, steps - span, steps)
    folded = widen(steps.abs(), quantum, span.bit_length())
    return Parts(steps < 0, folded, torch.zeros_like(negative))
