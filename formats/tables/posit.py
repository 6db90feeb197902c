"""Posits: a sign, a run of regime bits, es exponent bits, and whatever is left for the fraction."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .table import Table, dyadic_cut


@dataclass(frozen=True)
class PositFormat:
    """A posit of `bits` bits with `es` exponent bits.

    A positive code is read from the left after its sign bit 0: a run of r equal bits and the bit
    that ends it (regime k = r - 1 for ones, -r for zeros), es bits of exponent e, fraction f;
    bits past the right end are 0:

        value = 2^(k 2^es + e) (1 + f)

    Negative codes are the two's complement of the positive ones. Code 0 is zero, the code
    100...0 is NaR (not a real), which stands for NaN and infinities.

    Rounding to nearest is the standard's: as if the bit string were rounded, so that the
    threshold between two neighbours is the posit of bits + 1 bits between them, a tie goes to
    the even code, nothing becomes zero but zero, and what is larger than the largest value goes
    to it under every overflow policy. The other roundings know only the order of the values:
    toward zero below the smallest one is 0, and stochastic rounding takes its probability from
    the distances.

    Source: Standard for Posit Arithmetic (2022), which has es = 2; es as in Gustafson and
    Yonemoto, "Beating Floating Point at its Own Game" (2017).
    """

    name: str
    bits: int
    es: int
    source: str = "Posit Standard (2022); Gustafson & Yonemoto 2017"

    def __post_init__(self) -> None:
        if not (2 <= self.bits <= 16 and 0 <= self.es <= 4):
            raise InputError(
                f"format {self.name}: {self.bits} bits with {self.es} exponent bits is not a posit "
                "of 2 to 16 bits with 0 to 4 exponent bits"
            )

    @property
    def largest(self) -> float:
        """maxpos = 2^((bits - 2) 2^es)."""
        return 2.0 ** ((self.bits - 2) << self.es)

    @property
    def lowest(self) -> float:
        """-maxpos."""
        return -self.largest

    @property
    def min_subnormal(self) -> float:
        """minpos = 1 / maxpos, the smallest positive value."""
        return 1.0 / self.largest

    @cached_property
    def table(self) -> Table:
        """The magnitudes: code i is rung i, and every value and threshold is a float64."""
        values = magnitudes(self.bits, self.es)
        middles = magnitudes(self.bits + 1, self.es)[1::2][:-1].copy()
        middles[:1] = np.nextafter(0.0, 1.0)
        rungs = np.arange(len(values))
        narrow = self.largest < 2.0**127
        return Table(
            name=self.name,
            bits=self.bits,
            values=values,
            values32=values.astype(np.float32) if narrow else None,
            floors=values,
            on_floor=np.ones(len(values), bool),
            middles=middles,
            on_middle=rungs[:-1] > 0,
            odd=rungs % 2 == 1,
            cut=dyadic_cut(values),
            negative="twos_complement",
            nan=1 << (self.bits - 1),
            not_real=True,
            exact32=narrow,
        )


def magnitudes(bits: int, es: int) -> NDArray[Any]:
    """The values of the posit codes 0 .. 2^(bits - 1) - 1, exact in float64."""
    width = bits - 1
    codes = np.arange(1 << width, dtype=np.int64)
    first = codes >> (width - 1)
    run = np.zeros(codes.shape, np.int64)
    running = np.ones(codes.shape, bool)
    for place in range(width - 1, -1, -1):
        running &= ((codes >> place) & 1) == first
        run += running
    # Left-align what follows the run and its end in 32 bits, so that missing bits read as zero.
    rest = (codes << (32 - width) << (run + 1)) & 0xFFFFFFFF
    exponent = rest >> (32 - es)
    fraction = (rest << es) & 0xFFFFFFFF
    regime = np.where(first == 1, run - 1, -run)
    values = np.ldexp(1.0 + fraction / 2.0**32, (regime << es) + exponent)
    values[0] = 0.0
    return values
