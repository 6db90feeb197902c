"""Rounding inside autograd: the straight-through estimator, on request.

Rounding is a staircase whose derivative is zero wherever it exists, so `quantize` on its own
ends a graph. Whoever trains through it substitutes a derivative, and says so with
`straight_through`: forward the rounded values, backward the identity.
Source: Bengio, Leonard, Courville, arXiv 1308.3432; the clipped form as in Hubara et al.,
"Quantized neural networks", JMLR 2018, section 2.3.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .catalog import get_format
from .conversion import decode, quantize
from .errors import InputError
from .format import Format

_LARGEST_TABLE = 16


def straight_through(x: Tensor, fmt: str | Format, clipped: bool = False, **options: Any) -> Tensor:
    """quantize(x, fmt, **options) with the derivative of the identity.

        y = Q(x),   dL/dx = dL/dy,                                     clipped=False
                    dL/dx = dL/dy where lowest <= x <= largest, else 0, clipped=True

    The gradient itself is not rounded. `clipped` is the derivative of clamp(x, lowest, largest)
    with its ends counted in: an infinity lies outside; a NaN is no saturation, its gradient passes.
    Differentiable any number of times (the derivative is constant), and under torch.func: grad,
    vjp, jacrev, jvp, jacfwd, and vmap, where all of the batch is rounded as one tensor, so that
    stochastic rounding draws other bits for each element of the batch, and options of x's shape
    (random_bits) are refused.

    Args:
        x: a tensor that `quantize` takes.
        options: rounding, overflow, seed, stream, random_bits as in `quantize`.

    Raises:
        InputError: as `quantize`; clipped=True with a format that has no range of its own.
    """
    row = get_format(fmt)
    low, high = value_range(row) if clipped else (0.0, 0.0)
    out: Tensor = _apply(x, row, clipped, low, high, options)
    return out


@cache
def value_range(fmt: Format) -> tuple[float, float]:
    """The lowest and the largest finite value of a format.

    Raises:
        InputError: the format scales blocks, so that its range depends on the data.
    """
    grid = getattr(fmt, "grid", None)
    if grid is not None:
        return float(grid.lowest), float(grid.largest)
    lowest, largest = getattr(fmt, "lowest", None), getattr(fmt, "largest", None)
    if lowest is not None and largest is not None:
        return float(lowest), float(largest)
    if getattr(fmt, "bits", 99) <= _LARGEST_TABLE and not hasattr(fmt, "element"):
        values = decode(np.arange(2**fmt.bits, dtype=np.uint16), fmt)
        finite = values[np.isfinite(values)]
        return float(finite.min()), float(finite.max())
    raise InputError(
        f"clipped gradient: {fmt.name} has no largest value of its own; use the straight-through "
        "gradient without clipping"
    )


class _StraightThrough(torch.autograd.Function):
    """Forward rounds, backward passes or masks; the mask is all that is kept."""

    @staticmethod
    def forward(
        x: Tensor, row: Format, clipped: bool, low: float, high: float, options: dict[str, Any]
    ) -> Tensor:
        # A plain tensor: quantize returns one outside of autograd, never x itself.
        return quantize(x.detach(), row, **options)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, clipped, low, high, _ = inputs
        mask = ~((x < low) | (x > high)) if clipped else None
        ctx.clipped = clipped
        if mask is not None:
            ctx.save_for_backward(mask)
            ctx.save_for_forward(mask)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _passed(ctx, gradients[0]), None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        # Forward mode asks for a tensor of its own, not the tangent of x itself.
        return _passed(ctx, tangents[0]).clone()

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
        if args[-1].get("random_bits") is not None:
            raise InputError(
                "straight_through under vmap: random_bits have the shape of one example, not of "
                "the batch; pass seed and stream"
            )
        return _apply(*args), in_dims[0]


#: torch leaves this untyped.
_apply: Callable[..., Any] = _StraightThrough.apply


def _passed(ctx: Any, gradient: Tensor) -> Tensor:
    """The gradient, zero where the input lay outside the range of a clipped format."""
    if not ctx.clipped:
        return gradient
    (mask,) = ctx.saved_tensors
    return torch.where(mask, gradient, torch.zeros_like(gradient))
