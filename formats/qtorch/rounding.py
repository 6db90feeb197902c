"""Tensors rounded to QPyTorch's kinds of numbers, on any device, exactly."""

from typing import Any

import torch
from torch import Tensor

from ..conversion import quantize
from ..device.bits import INFINITE, LAYOUTS, assemble, disassemble, layout_of, scale_parts
from ..device.random import draw_integers
from ..device.rounding import grid_fits, round_parts
from ..errors import InputError, choice
from ..format import Grid
from ..rounding import Rounding, Stochastic
from .numbers import check_block, check_fixed, check_float, from_qtorch

ROUNDINGS: dict[str, Rounding | Stochastic] = {
    "nearest": Rounding.NEAREST_EVEN,
    "stochastic": Stochastic(),
}
_HUGE = 1.7976931348623157e308
_PIECE = 1 << 14


def round_number(x: Tensor, number: Any, rounding: str, seed: int | None) -> Tensor:
    """x rounded to a qtorch number; NaN stays NaN even where the number has no code for it."""
    if not isinstance(x, Tensor):
        raise InputError(f"qpytorch: {type(x).__name__} is not a tensor; pass torch.as_tensor(x)")
    layout_of(x)
    mode = ROUNDINGS[choice(rounding, ROUNDINGS, "rounding", type(number).__name__)]
    if isinstance(mode, Stochastic) and seed is None:
        # From torch's generator, so that torch.manual_seed decides.
        seed = int(torch.randint(2**63 - 1, (), dtype=torch.int64))
    match type(number).__name__:
        case "FloatingPoint":
            check_float(number.exp, number.man)
            return _rounded_floats(x, number, mode, seed or 0)
        case "FixedPoint":
            check_fixed(number.wl, number.fl)
            return _rounded_steps(x, number, mode, seed or 0)
        case _:
            return round_blocks(x, number, mode, seed or 0)


def _rounded_floats(x: Tensor, number: Any, mode: Rounding | Stochastic, seed: int) -> Tensor:
    row: Any = from_qtorch(number)
    _check_held(x, row.grid, number)
    if x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64):
        lost = torch.isnan(x)
        values = quantize(torch.where(lost, 0.0, x.detach()), row, rounding=mode, seed=seed)
        return torch.where(lost, x.detach(), values)
    return _on_grid(x, row.grid._replace(has_nan=True), mode, "saturate", seed)


def _rounded_steps(x: Tensor, number: Any, mode: Rounding | Stochastic, seed: int) -> Tensor:
    """Multiples of 2^-fl; without clamping the range is that of the dtype."""
    place = 52 - number.fl
    if not number.clamp:
        grid = Grid(52, place, 52, _HUGE, -_HUGE, False, True, True, True)
        return _on_grid(x, grid, mode, "infinity", seed)
    low, high = fixed_range(number)
    grid = Grid(52, place, 52, high, low, False, True, False, True)
    _check_held(x, grid, number)
    return _on_grid(x, grid, mode, "saturate", seed)


def round_blocks(x: Tensor, number: Any, mode: Rounding | Stochastic, seed: int) -> Tensor:
    """Each block over the quantum of its largest magnitude is rounded to integers.

    number: BlockFloatingPoint(wl, dim), qtorch's or ours; mode: any rounding, not qtorch's alone.
    """
    check_block(number.wl)
    if not -1 <= number.dim < max(x.dim(), 1):
        raise InputError(
            f"BlockFloatingPoint(dim={number.dim}): x has {x.dim()} dimensions; use -1 to "
            f"{x.dim() - 1}"
        )
    if x.numel() == 0:
        return x.detach().clone()
    parts = disassemble(x.detach())
    others = [d for d in range(x.dim()) if d != number.dim]
    top = parts.wide.amax(others, keepdim=True) if others else parts.wide
    # A block of zeros has no exponent; any will do.
    quantum = ((top >> 52) - 1023).clamp(min=-1074) - (number.wl - 2)
    largest = float(2 ** (number.wl - 1) - 1)
    grid = Grid(52, 52, 52, largest, -largest, False, True, False, True)
    steps = round_parts(scale_parts(parts, -quantum), grid, mode, "saturate", None, seed=seed)
    rounded = scale_parts(steps, quantum)
    return assemble(rounded._replace(nan=rounded.nan | (top == INFINITE)), x.dtype)


def _on_grid(
    x: Tensor, grid: Grid, mode: Rounding | Stochastic, overflow: str, seed: int
) -> Tensor:
    """x rounded by torch operations; on the CPU in pieces that stay in its caches."""
    bits = mode.bits if isinstance(mode, Stochastic) else 0
    random = draw_integers(x.shape, bits, seed, 0, x.device) if bits else None
    if x.device.type != "cpu" or x.numel() <= _PIECE:
        return _rounded(x.detach(), grid, mode, overflow, random)
    flat = torch.split(x.detach().reshape(-1), _PIECE)
    draws = [None] * len(flat) if random is None else torch.split(random.reshape(-1), _PIECE)
    pieces = zip(flat, draws, strict=True)
    done = [_rounded(piece, grid, mode, overflow, drawn) for piece, drawn in pieces]
    return torch.cat(done).reshape(x.shape)


def _rounded(
    x: Tensor, grid: Grid, mode: Rounding | Stochastic, overflow: str, random: Tensor | None
) -> Tensor:
    return assemble(round_parts(disassemble(x), grid, mode, overflow, random), x.dtype)


def fixed_range(number: Any) -> tuple[float, float]:
    """The lowest and the largest value of a fixed-point number."""
    step, top = 2.0**-number.fl, 2.0 ** (number.wl - number.fl - 1)
    return (step - top if number.symmetric else -top), top - step


def clamp_fixed(x: Tensor, number: Any) -> Tensor:
    low, high = fixed_range(number)
    _check_held(x, Grid(52, 52 - number.fl, 52, high, low, False, True, False, True), number)
    return x.clamp(low, high)


def _check_held(x: Tensor, grid: Grid, number: Any) -> None:
    if not grid_fits(grid, LAYOUTS[x.dtype]):
        raise InputError(
            f"{x.dtype} cannot hold every value of {number!r}; pass x.float() or x.double()"
        )
