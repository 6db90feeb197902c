"""What a number format is: a frozen row of named fields, from which every extreme follows."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from .codebook import CodebookFormat
from .errors import InputError

NanCodes = Literal["ieee", "all_ones", "negative_zero", "none"]


class Grid(NamedTuple):
    """The values of a format as the rounding kernels see them; all scalars.

    Between 2^e and 2^(e+1) values are 2^(e - fraction_bits) apart; below 2^min_exponent they
    are 2^(min_exponent - subnormal_fraction_bits) apart. `lowest` <= value <= `largest`.
    """

    fraction_bits: int
    min_exponent: int
    subnormal_fraction_bits: int
    largest: float
    lowest: float
    signed_zero: bool
    has_zero: bool
    has_infinity: bool
    has_nan: bool


@dataclass(frozen=True)
class FloatFormat:
    """A binary floating-point format: (-1)^s 2^(E - bias) 1.f, subnormals 2^(1 - bias) 0.f.

    Attributes:
        name: canonical name, as in ml_dtypes and torch where they have it.
        exponent_bits, fraction_bits: field widths in bits; the sign is one more if `signed`.
        bias: exponent bias; None stands for 2^(exponent_bits - 1) - 1.
        infinity: whether codes for +-infinity exist.
        nan: which codes are NaN: "ieee" (top exponent, nonzero fraction), "all_ones" (the top
            code alone, once per sign), "negative_zero" (the one code of -0), "none".
        subnormals: False means that magnitudes below the smallest normal do not exist.
        zero: False (e8m0fnu) means that exponent field 0 is a normal number.
        published: (largest, smallest normal, smallest subnormal) as the source prints them.
    """

    name: str
    exponent_bits: int
    fraction_bits: int
    bias: int | None = None
    signed: bool = True
    infinity: bool = True
    nan: NanCodes = "ieee"
    subnormals: bool = True
    zero: bool = True
    source: str = ""
    published: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if not (1 <= self.exponent_bits <= 11 and 0 <= self.fraction_bits <= 52):
            raise InputError(
                f"format {self.name}: {self.exponent_bits} exponent and {self.fraction_bits} "
                "fraction bits do not fit in float64; use 1 to 11 and 0 to 52"
            )
        if self.infinity and self.nan != "ieee":
            raise InputError(f'format {self.name}: infinity needs nan = "ieee"')
        extremes = (self.largest, self.min_normal, self.min_subnormal)
        if self.published is not None and extremes != self.published:
            raise InputError(f"format {self.name}: extremes {extremes} are not {self.published}")

    @property
    def bits(self) -> int:
        """Width of a code in bits."""
        return self.exponent_bits + self.fraction_bits + self.signed

    @property
    def precision(self) -> int:
        """Significand bits, the implicit one included."""
        return self.fraction_bits + 1

    @cached_property
    def exponent_bias(self) -> int:
        """`bias`, or the IEEE default for this width."""
        return int(2 ** (self.exponent_bits - 1)) - 1 if self.bias is None else self.bias

    @property
    def min_exponent(self) -> int:
        """Exponent of the smallest normal number."""
        return (1 if self.zero else 0) - self.exponent_bias

    @property
    def max_exponent(self) -> int:
        """Exponent of the largest finite number."""
        top = (1 << self.exponent_bits) - 1 - self.exponent_bias
        return top - 1 if self._top_exponent_reserved else top

    @property
    def _top_exponent_reserved(self) -> bool:
        """IEEE formats give the top exponent to infinity and NaN; e8m0 has no fraction to keep."""
        return self.nan == "ieee" or (self.nan == "all_ones" and self.fraction_bits == 0)

    @property
    def largest(self) -> float:
        """The largest finite value."""
        steps = 2 ** (self.fraction_bits + 1) - 1
        if self.nan == "all_ones" and self.fraction_bits > 0:
            steps -= 1
        return float(steps) * 2.0 ** (self.max_exponent - self.fraction_bits)

    @property
    def min_normal(self) -> float:
        """The smallest positive normal value."""
        return 2.0**self.min_exponent

    @property
    def min_subnormal(self) -> float:
        """The smallest positive value."""
        return 2.0 ** (self.min_exponent - (self.fraction_bits if self.subnormals else 0))

    @cached_property
    def grid(self) -> Grid:
        """The format as the kernels see it."""
        return Grid(
            fraction_bits=self.fraction_bits,
            min_exponent=self.min_exponent,
            subnormal_fraction_bits=self.fraction_bits if self.subnormals else 0,
            largest=self.largest,
            lowest=-self.largest if self.signed else (0.0 if self.zero else self.min_normal),
            signed_zero=self.signed and self.nan != "negative_zero",
            has_zero=self.zero,
            has_infinity=self.infinity,
            has_nan=self.nan != "none",
        )


@dataclass(frozen=True)
class IntegerFormat:
    """An integer format: two's complement of `bits` bits, or unsigned; quantum 1."""

    name: str
    bits: int
    signed: bool = True
    source: str = ""

    def __post_init__(self) -> None:
        if not (1 + self.signed) <= self.bits <= 32:
            raise InputError(
                f"format {self.name}: {self.bits} bits is not one of {1 + self.signed} to 32"
            )

    @property
    def largest(self) -> float:
        """2^(bits - 1) - 1, or 2^bits - 1 unsigned."""
        return float(2 ** (self.bits - self.signed) - 1)

    @property
    def lowest(self) -> float:
        """-2^(bits - 1), or 0 unsigned."""
        return -float(2 ** (self.bits - 1)) if self.signed else 0.0

    @property
    def precision(self) -> int:
        """Bits of the largest magnitude."""
        return self.bits

    @cached_property
    def grid(self) -> Grid:
        """The format as the kernels see it: 52 fraction bits from 2^52 on are a quantum of 1."""
        return Grid(52, 52, 52, self.largest, self.lowest, False, True, False, False)


Format = FloatFormat | IntegerFormat | CodebookFormat
#: Formats with a grid that follows from widths; what arithmetic units compute on.
ArithmeticFormat = FloatFormat | IntegerFormat


#: The format of float32 arrays and tensors.
FLOAT32 = FloatFormat("float32", 8, 23)


def fits(fmt: ArithmeticFormat, container: FloatFormat) -> bool:
    """Whether every value of `fmt` is a value of the float format `container`."""
    grid, room = fmt.grid, container.grid
    smallest = grid.min_exponent - grid.subnormal_fraction_bits
    return (
        fmt.precision <= container.precision
        and max(grid.largest, -grid.lowest) <= room.largest
        and smallest >= room.min_exponent - room.subnormal_fraction_bits
    )
