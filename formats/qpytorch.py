"""The functions of qtorch.quant, by name and argument, computed exactly.

Change `from qtorch.quant import float_quantize, quantizer` into
`from tapeout.formats.qpytorch import float_quantize, quantizer`: nothing is compiled, any device
will do, and docs/qpytorch.md says where the numbers differ from QPyTorch's and why. In short:
"nearest" rounds ties to even; each value is rounded once; NaN stays NaN; floats keep the sign of
zero; FloatingPoint(4, 3) and (5, 2) end at 448 and 57344, as the hardware's formats do; stochastic
rounding follows torch.manual_seed, on every device with the same bits.

`seed` is the one argument more: with it a call always draws the same random bits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .errors import InputError, choice
from .qtorch.numbers import BlockFloatingPoint, FixedPoint, FloatingPoint, is_qtorch
from .qtorch.rounding import ROUNDINGS, clamp_fixed, fixed_range, round_number

__all__ = [
    "BlockFloatingPoint",
    "FixedPoint",
    "FloatingPoint",
    "Quantizer",
    "block_quantize",
    "fixed_point_quantize",
    "float_quantize",
    "quantizer",
]

Hook = Callable[[Tensor], Tensor]


def float_quantize(
    x: Tensor, exp: int, man: int, rounding: str = "stochastic", *, seed: int | None = None
) -> Tensor:
    """x rounded to the float format of `exp` exponent and `man` fraction bits, saturating.

    Raises:
        InputError: exp is not 1 to 8 or man not 1 to 23; the rounding is not "nearest" or
            "stochastic"; x's dtype does not hold every value.
    """
    return round_number(x, FloatingPoint(exp, man), rounding, seed)


def fixed_point_quantize(
    x: Tensor,
    wl: int,
    fl: int,
    clamp: bool = True,
    symmetric: bool = False,
    rounding: str = "stochastic",
    *,
    seed: int | None = None,
) -> Tensor:
    """x rounded to multiples of 2^-fl, and to the range of wl bits if `clamp`.

    The range is [-2^(wl-fl-1), 2^(wl-fl-1) - 2^-fl], from -largest if `symmetric`.

    Raises:
        InputError: wl is not 1 to 32 or fl not 1 to 64; an unknown rounding; x's dtype does not
            hold every value of the range.
    """
    return round_number(x, FixedPoint(wl, fl, clamp, symmetric), rounding, seed)


def block_quantize(
    x: Tensor, wl: int, dim: int = -1, rounding: str = "stochastic", *, seed: int | None = None
) -> Tensor:
    """x rounded to integers of wl bits times a power of two that a block shares.

        E = floor(log2 of the block's largest magnitude),  quantum 2^(E - wl + 2),
        |result| <= (2^(wl-1) - 1) quantum

    dim: one block for each index of that dimension; -1: one block in all. A block that holds NaN
    or infinity has no exponent and becomes NaN.

    Raises:
        InputError: wl is not 2 to 32; x has no dimension `dim`; an unknown rounding.
    """
    return round_number(x, BlockFloatingPoint(wl, dim), rounding, seed)


def quantizer(
    forward_number: Any = None,
    backward_number: Any = None,
    forward_rounding: str = "stochastic",
    backward_rounding: str = "stochastic",
    clamping_grad_zero: bool = False,
    backward_hooks: Sequence[Hook] = (),
) -> Callable[[Tensor], Tensor]:
    """A function that rounds values on the way forward and gradients on the way back.

    Args:
        forward_number, backward_number: FloatingPoint, FixedPoint or BlockFloatingPoint, of qtorch
            or of this module; None leaves the tensor as it is.
        clamping_grad_zero: the gradient is zero where a FixedPoint forward number was clamped.
        backward_hooks: applied in turn to the gradient before it is rounded.

    Raises:
        InputError: an unknown rounding or number; clamping_grad_zero with another number than a
            clamping FixedPoint or None.
    """
    for rounding in (forward_rounding, backward_rounding):
        choice(rounding, ROUNDINGS, "rounding", "quantizer")
    for number in (forward_number, backward_number):
        if number is not None and not is_qtorch(number):
            raise InputError(
                f"quantizer: {number!r} is not a FloatingPoint, FixedPoint or BlockFloatingPoint; "
                "for other formats use tapeout.formats.autograd.straight_through"
            )
    fixed = type(forward_number).__name__ == "FixedPoint" and forward_number.clamp
    if clamping_grad_zero and not (fixed or forward_number is None):
        raise InputError(
            "quantizer: clamping_grad_zero needs a FixedPoint forward number with clamp=True, not "
            f"{forward_number!r}"
        )
    way = _Way(
        forward_number, backward_number, forward_rounding, backward_rounding,
        clamping_grad_zero and fixed, tuple(backward_hooks),
    )  # fmt: skip

    def rounded(x: Tensor) -> Tensor:
        out: Tensor = _apply(x, way)[0]
        return out

    return rounded


class Quantizer(nn.Module):
    """`quantizer` as a module, for nn.Sequential."""

    def __init__(
        self,
        forward_number: Any = None,
        backward_number: Any = None,
        forward_rounding: str = "stochastic",
        backward_rounding: str = "stochastic",
    ) -> None:
        super().__init__()
        self.quantize = quantizer(
            forward_number, backward_number, forward_rounding, backward_rounding
        )

    def forward(self, x: Tensor) -> Tensor:
        """x rounded; its gradient is rounded on the way back."""
        return self.quantize(x)


@dataclass(frozen=True)
class _Way:
    """What a quantizer does, forward and back."""

    forward_number: Any
    backward_number: Any
    forward_rounding: str
    backward_rounding: str
    masked: bool
    hooks: tuple[Hook, ...]


class _BothWays(torch.autograd.Function):
    """Forward rounds values; backward masks, hooks and rounds the gradient, in that order."""

    @staticmethod
    def forward(x: Tensor, way: _Way) -> tuple[Tensor, Tensor]:
        if way.forward_number is None:
            return x.clone(), torch.empty(0)
        if not way.masked:
            return round_number(x, way.forward_number, way.forward_rounding, None), torch.empty(0)
        number = way.forward_number
        low, high = fixed_range(number)
        free = round_number(x, FixedPoint(number.wl, number.fl, False), way.forward_rounding, None)
        return clamp_fixed(free, number), (free < low) | (free > high)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.way = inputs[1]
        ctx.save_for_backward(output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        way, (mask,) = ctx.way, ctx.saved_tensors
        gradient = gradients[0]
        for hook in way.hooks:
            gradient = hook(gradient)
        if way.backward_number is not None:
            gradient = round_number(gradient, way.backward_number, way.backward_rounding, None)
        return (gradient.masked_fill(mask, 0) if way.masked else gradient), None


#: torch leaves this untyped.
_apply: Callable[..., Any] = _BothWays.apply
