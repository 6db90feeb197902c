"""How a real number becomes one of a format's values: rounding modes and overflow policies."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from .errors import InputError, choice, whole_number
from .generators import RANDOM_SOURCES


class Rounding(StrEnum):
    """Rounding of a magnitude that lies between two neighbouring values of a format.

    `nearest_*` differ on ties only: to the even code, or away from zero. `up` and `down` are
    toward +inf and -inf. `to_odd` takes the neighbour with the odd code unless x is exact (it
    makes a later, narrower rounding correct: Boldo & Melquiond 2008). `stochastic` rounds away
    from zero with a probability equal to the discarded fraction (see `Stochastic`).
    """

    NEAREST_EVEN = "nearest_even"
    NEAREST_AWAY = "nearest_away"
    TOWARD_ZERO = "toward_zero"
    UP = "up"
    DOWN = "down"
    TO_ODD = "to_odd"
    STOCHASTIC = "stochastic"


STOCHASTIC_RULES = ("srff", "srf", "src")


@dataclass(frozen=True)
class Stochastic:
    """Stochastic rounding with `bits` = k random bits r, uniform in 0 .. 2^k - 1.

    With d in [0, 1) the discarded fraction in ulps of the result, the magnitude goes up iff

        srff:  floor(2^k d) + r >= 2^k       bias -2^-(k+1) ulp (toward zero): adders that
                                             truncate to k bits and take the carry
        srf:   d + (r + 1/2) 2^-k >= 1       no bias for continuous d
        src:   RNE(2^k d) + r >= 2^k         no bias; at most 2^-(k+1) ulp for each value

    Source: Fitzgibbon & Felix, arXiv 2504.20634. `source` names the generator of r: "philox" is
    Philox4x32-10 on a counter (Salmon et al., SC 2011), the same bits on every machine; the others
    are generators of chips, drawn in row-major order, the top k bits of each word: see
    `generators.draw_words`.
    """

    bits: int = 32
    rule: str = "srff"
    source: str = "philox"

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", whole_number(self.bits, "stochastic rounding: bits"))
        if not 1 <= self.bits <= 32:
            raise InputError(f"stochastic rounding: bits = {self.bits} is not one of 1 to 32")
        choice(self.rule, STOCHASTIC_RULES, "rule", "stochastic rounding")
        choice(self.source, RANDOM_SOURCES, "source", "stochastic rounding")

    def __str__(self) -> str:
        return f"stochastic({self.bits} bits, {self.rule})"


class Overflow(StrEnum):
    """What a magnitude beyond the largest value becomes.

    `saturate`: the largest value, infinity included (SatFinite of IEEE P3109). `propagate`: the
    largest value, but infinity stays infinity, or NaN where the format has none (SatPropagate).
    `infinity`: infinity where the format has one, else NaN; roundings toward zero stop at the
    largest value, as in IEEE 754 (OvfInf). `nan`: NaN. `wrap`: modulo 2^bits, integers only.
    A format without negative values has the lowest value, or NaN, below it.
    """

    SATURATE = "saturate"
    PROPAGATE = "propagate"
    INFINITY = "infinity"
    NAN = "nan"
    WRAP = "wrap"


#: The policies as the kernels see them.
OVERFLOW_CODES = {"saturate": 0, "infinity": 1, "nan": 2, "wrap": 3, "propagate": 4}

#: The saturation modes of the IEEE P3109 interim report, by its names.
P3109_SATURATION = {
    "SatFinite": "saturate",
    "SatPropagate": "propagate",
    "OvfInf": "infinity",
}


class Mode(IntEnum):
    """A rounding as the kernels see it."""

    NEAREST_EVEN = 0
    NEAREST_AWAY = 1
    TOWARD_ZERO = 2
    UP = 3
    DOWN = 4
    TO_ODD = 5
    SRFF = 6
    SRF = 7
    SRC = 8


AnyRounding = str | Rounding | Stochastic


def get_rounding(rounding: AnyRounding, where: str = "") -> Rounding | Stochastic:
    """The rounding of that name; "stochastic" is `Stochastic()` with its 32 bits.

    Raises:
        InputError: the name is not one of `Rounding`.
    """
    if isinstance(rounding, Stochastic):
        return rounding
    name = choice(str(rounding), [r.value for r in Rounding], "rounding", where)
    return Stochastic() if name == Rounding.STOCHASTIC else Rounding(name)


def get_overflow(overflow: str | Overflow, where: str = "") -> Overflow:
    """The overflow policy of that name, or of IEEE P3109's name for it.

    Raises:
        InputError: the name is neither of `Overflow` nor of `P3109_SATURATION`.
    """
    name = P3109_SATURATION.get(str(overflow), str(overflow))
    known = [*(o.value for o in Overflow), *P3109_SATURATION]
    return Overflow(choice(name, known, "overflow", where))


class Flush(StrEnum):
    """Where subnormals become zeros of their sign, as hardware does that has none.

    `inputs`: magnitudes below the smallest normal number of the array's own dtype, before
    rounding (DAZ). `outputs`: magnitudes below the smallest normal value of the format, after
    rounding to it (FTZ). `both`, `none`.
    """

    NONE = "none"
    INPUTS = "inputs"
    OUTPUTS = "outputs"
    BOTH = "both"


def get_flush(flush: str | Flush) -> Flush:
    """The flush of that name.

    Raises:
        InputError: the name is not one of `Flush`.
    """
    return Flush(choice(str(flush), [f.value for f in Flush], "flush"))


def kernel_mode(rounding: Rounding | Stochastic) -> tuple[int, int]:
    """(mode, random bits) of a rounding; 0 bits for the deterministic ones."""
    if isinstance(rounding, Stochastic):
        return int(Mode[rounding.rule.upper()]), rounding.bits
    return int(Mode[rounding.name]), 0
