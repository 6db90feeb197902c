"""Learning-rate schedules: a factor of the base rate as a function of the step."""

from math import cos, pi

from ..formats.errors import InputError


def cosine(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then half a cosine down to zero after the last step.

    (step + 1)/(warmup + 1) while step < warmup, then (1 + cos(π·t))/2 with
    t = (step − warmup)/(steps − warmup); `step` counts from 0.

    Raises:
        InputError: not 0 <= step < steps, or not 0 <= warmup < steps.

    Source: Loshchilov and Hutter, "SGDR", ICLR 2017, arXiv 1608.03983, equation 5, no restart.
    """
    if not 0 <= warmup < steps:
        raise InputError(f"cosine: warmup = {warmup} must be at least 0 and below steps = {steps}")
    if not 0 <= step < steps:
        raise InputError(f"cosine: step = {step} must be at least 0 and below steps = {steps}")
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1.0 + cos(pi * (step - warmup) / (steps - warmup)))
