"""How positive medians are kept: as they are, by their logarithm, or as logarithmic codes.

Each storage has the same three verbs on a stored tensor: `values` gives m, `log_ratio` gives
log(m/m₀), `move` multiplies m by exp(−η·direction). All keep m within `limits`, so that it stays
positive and finite, and so do samples m·ε at the largest spread an optimizer accepts.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from math import exp2, log, log2
from typing import Protocol

import torch
from torch import Tensor

from ..formats import LogFormat, encode, get_format
from ..formats.errors import InputError, hint
from .noise import Place, uniforms

PLAIN_STORAGES = ("median", "log")
ROUNDINGS = ("stochastic", "nearest")

#: The most that log m changes in one step where m itself is kept: e^±87 are float32 numbers.
REACH = 87.0


@cache
def limits(dtype: torch.dtype) -> tuple[float, float]:
    """The least and the largest median: three quarters of the exponents, 2^±94.5 in float32."""
    least = torch.finfo(dtype).tiny ** 0.75
    return least, 1 / least


class Medians(Protocol):
    """What the three storages have in common."""

    def store(self, m: Tensor) -> Tensor:
        """What is kept of the medians m."""
        ...

    def point(self, m: float) -> float:
        """One number as `log_ratio` takes it."""
        ...

    def values(self, stored: Tensor, dtype: torch.dtype) -> Tensor:
        """m, in `dtype`."""
        ...

    def log_ratio(self, stored: Tensor, origin: Tensor | float, dtype: torch.dtype) -> Tensor:
        """log(m/m₀), m₀ stored likewise or from `point`."""
        ...

    def move(self, stored: Tensor, lr: float, direction: Tensor, place: Place) -> None:
        """m ← m·exp(−lr·direction), in place; `direction` may be overwritten.

        place: of the random numbers, where the storage rounds with them.
        """
        ...


class PlainMedians:
    """m itself: the update is one multiplication, by at most e^±REACH in a step."""

    def store(self, m: Tensor) -> Tensor:
        return m.clamp(*limits(m.dtype))

    def point(self, m: float) -> float:
        return log(m)

    def values(self, stored: Tensor, dtype: torch.dtype) -> Tensor:
        return stored

    def log_ratio(self, stored: Tensor, origin: Tensor | float, dtype: torch.dtype) -> Tensor:
        start = origin.log() if isinstance(origin, Tensor) else origin
        return stored.log() - start

    def move(self, stored: Tensor, lr: float, direction: Tensor, place: Place) -> None:
        push = direction.mul_(-lr).clamp_(-REACH, REACH)
        stored.mul_(push.exp_()).clamp_(*limits(stored.dtype))


class LogMedians:
    """θ = log m: the update is one addition, and weight decay needs no logarithm."""

    def store(self, m: Tensor) -> Tensor:
        return m.clamp(*limits(m.dtype)).log_()

    def point(self, m: float) -> float:
        return log(m)

    def values(self, stored: Tensor, dtype: torch.dtype) -> Tensor:
        return stored.exp()

    def log_ratio(self, stored: Tensor, origin: Tensor | float, dtype: torch.dtype) -> Tensor:
        return stored - origin

    def move(self, stored: Tensor, lr: float, direction: Tensor, place: Place) -> None:
        least, largest = limits(stored.dtype)
        stored.add_(direction.mul_(-lr)).clamp_(log(least), log(largest))


@dataclass(frozen=True)
class CodedMedians:
    """m = 2^((k − bias)/γ) in a logarithmic format: k is stored, the update is one integer add.

        k ← k − round(η·γ/ln 2·direction)

    `rounding` of the step: "stochastic" ⌊x + U⌋, U uniform in [0, 1), right in the mean however
    small the step; or "nearest", ties to even, which loses every step below 1/2. k takes the
    narrowest of uint8 and int16. The first k is the format's nearest to the given median.
    """

    row: LogFormat
    rounding: str

    @cached_property
    def ends(self) -> tuple[int, int]:
        """The least and the largest k in use: not that of zero, none beyond `limits`."""
        powers = [int(log2(x) * self.row.gamma) + self.row.offset for x in limits(torch.float32)]
        return max(int(self.row.zero), powers[0]), min(self.row.top, powers[1])

    def store(self, m: Tensor) -> Tensor:
        table = self.row.table.values
        least, largest = (float(table[k]) for k in self.ends)
        narrow = torch.uint8 if self.row.top < 256 else torch.int16
        codes: Tensor = encode(m.detach().cpu().clamp(least, largest).reshape(-1), self.row)
        kept = codes.to(torch.int32).clamp_(*self.ends).to(narrow)
        return kept.reshape(m.shape).to(m.device)

    def point(self, m: float) -> float:
        return self.row.offset + self.row.gamma * log2(m)

    def values(self, stored: Tensor, dtype: torch.dtype) -> Tensor:
        table = powers(self.row, dtype, stored.device)
        return table.index_select(0, stored.reshape(-1).int()).reshape(stored.shape)

    def log_ratio(self, stored: Tensor, origin: Tensor | float, dtype: torch.dtype) -> Tensor:
        start = origin.to(dtype) if isinstance(origin, Tensor) else origin
        return (stored.to(dtype) - start).mul_(log(2) / self.row.gamma)

    def move(self, stored: Tensor, lr: float, direction: Tensor, place: Place) -> None:
        steps = direction.mul_(lr * self.row.gamma / log(2)).clamp_(-self.row.top, self.row.top)
        if self.rounding == "nearest":
            steps.round_()
        else:
            steps.add_(uniforms(steps, place)).floor_()
        stored.copy_(stored.int().sub_(steps.int()).clamp_(*self.ends))


@cache
def powers(row: LogFormat, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The value of every k of the format, each power rounded once to `dtype`."""
    values = row.table.values if dtype == torch.float64 else row.table.values32
    return torch.from_numpy(values).to(device)


@cache
def medians_in(storage: str, rounding: str, place: str) -> Medians:
    """The storage of that name: "median", "log", or a logarithmic format such as "lns15g128".

    Raises:
        InputError: neither, or a format that leaves the normal numbers of float32.
    """
    if storage == "median":
        return PlainMedians()
    if storage == "log":
        return LogMedians()
    return CodedMedians(log_format(storage, PLAIN_STORAGES, place), rounding)


def log_format(name: str, others: tuple[str, ...], place: str) -> LogFormat:
    """The logarithmic format `name`.

    Raises:
        InputError: it is none, or leaves the normal numbers of float32.
    """
    try:
        row = get_format(name)
    except InputError:
        row = None
    if not isinstance(row, LogFormat):
        raise InputError(
            f'{place}: storage = "{name}" is not one of {", ".join(others)} or a logarithmic '
            f"format such as lns15g128{hint(name, others)}"
        )
    if row.table.values32 is None:
        ends = [exp2(e) for e in (-126, 127)]
        raise InputError(
            f'{place}: storage = "{name}" has values outside {ends[0]:.3g} to {ends[1]:.3g}, the '
            "normal numbers of float32: use fewer bits, or more values a binade, as lns15g128"
        )
    return row
