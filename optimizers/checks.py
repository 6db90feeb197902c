"""What every optimizer refuses: hyper-parameters out of range, gradients it cannot use."""

from collections.abc import Iterable
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from ..formats.errors import InputError

#: What a step does about a NaN or infinite gradient: raise, or leave everything as it is.
NONFINITE = ("refuse", "skip")


class NonFiniteGradientError(InputError):
    """A gradient holds NaN or infinity; nothing has been changed by the refused step."""


def within(
    value: float, low: float, high: float, what: str, where: str, *, open_ends: bool = False
) -> float:
    """Return `value` if low <= value <= high (low < value < high with `open_ends`).

    Raises:
        InputError: it lies outside, or is not a finite number.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    inside = number and (low < value < high if open_ends else low <= value <= high)
    if not inside:
        how = "strictly between" if open_ends else "between"
        raise InputError(f"{where}: {what} = {value!r} is not {how} {low:g} and {high:g}")
    return value


def whole(value: int, least: int, what: str, where: str) -> int:
    """Return `value` if it is a whole number of at least `least`.

    Raises:
        InputError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{where}: {what} = {value!r} is not a whole number of at least {least}")
    return value


def betas_in_range(betas: Any, where: str) -> tuple[float, float]:
    """Return the two momentum factors as a tuple.

    Raises:
        InputError: not two numbers from 0 to below 1.
    """
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise InputError(f"{where}: betas = {betas!r} is not a pair of numbers: give (0.9, 0.99)")
    for beta in betas:
        if within(beta, 0.0, 1.0, "betas", where) == 1.0:
            raise InputError(f"{where}: betas = {tuple(betas)} must lie below 1")
    return (betas[0], betas[1])


def refuse_complex(params: Iterable[Tensor], where: str) -> None:
    """Parameters must be real floating point.

    Raises:
        InputError: one is complex or integer.
    """
    for p in params:
        if not p.is_floating_point():
            raise InputError(
                f"{where}: a parameter of dtype {p.dtype} is not real floating point: "
                "split a complex parameter into its real and imaginary parts"
            )


def usable_gradients(param_groups: list[dict[str, Any]], where: str) -> None:
    """All gradients must be dense and finite; called before a step changes anything.

    Raises:
        InputError: a gradient is sparse.
        NonFiniteGradientError: a gradient holds NaN or infinity.
    """
    for number, group in enumerate(param_groups):
        names = group.get("param_names") or [
            f"{i} of group {number}" for i in range(len(group["params"]))
        ]
        for name, p in zip(names, group["params"], strict=True):
            if p.grad is None:
                continue
            shape = tuple(p.shape)
            if p.grad.layout != torch.strided:
                raise InputError(
                    f"{where}: the gradient of parameter {name}, shape {shape}, is sparse: "
                    "make it dense (sparse=False in nn.Embedding)"
                )
            # The extremes are NaN if one value is; ten times faster than asking each.
            if p.grad.numel() and not all(isfinite(x) for x in torch.aminmax(p.grad)):
                raise NonFiniteGradientError(
                    f"{where}: the gradient of parameter {name}, shape {shape}, holds NaN or "
                    "infinity; the step was not taken: lower lr, clip, or skip this batch"
                )


def step_allowed(param_groups: list[dict[str, Any]], where: str, nonfinite: str) -> bool:
    """`usable_gradients`, or False for NaN and infinity where `nonfinite` is "skip".

    Raises:
        InputError, NonFiniteGradientError: see `usable_gradients`.
    """
    try:
        usable_gradients(param_groups, where)
    except NonFiniteGradientError:
        if nonfinite != "skip":
            raise
        return False
    return True
