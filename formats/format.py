"""What a number format is: a frozen row of named fields, from which every extreme follows."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from .errors import InputError
from .tables.codebook import CodebookFormat
from .tables.logarithmic import LogFormat
from .tables.posit import PositFormat

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

    The body of a code is the code without its sign. Finite bodies ascend with their values; the
    special ones stand above them:

        nan = "ieee"            all bodies of the top exponent: fraction 0 is infinity if the
                                format has one, the rest NaN
        nan = "all_ones"        the top body is NaN, the one below it infinity if there is one
        nan = "negative_zero"   the one code of -0 is NaN, the top body infinity if there is one
        nan = "none"            no NaN, the top body infinity if there is one

    Attributes:
        name: canonical name, as in ml_dtypes and torch where they have it.
        exponent_bits, fraction_bits: field widths in bits; the sign is one more if `signed`.
        bias: any exponent bias; None stands for 2^(exponent_bits - 1) - 1.
        infinity: whether codes for +-infinity exist (+infinity alone if unsigned).
        nan: which codes are NaN, as above.
        subnormals: False means that magnitudes below the smallest normal do not exist, and that
            every code of exponent field 0 reads as zero.
        zero: False (e8m0fnu) means that exponent field 0 is a normal number.
        published: (largest, smallest normal, smallest subnormal) as the source prints them.
        normal_zero_field: True (DLFloat) means that exponent field 0 holds normal numbers too,
            2^(0 - bias) 1.f, except that its fraction 0 is zero.
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
    normal_zero_field: bool = False

    def __post_init__(self) -> None:
        if not (1 <= self.exponent_bits <= 11 and 0 <= self.fraction_bits <= 52):
            raise InputError(
                f"format {self.name}: {self.exponent_bits} exponent and {self.fraction_bits} "
                "fraction bits do not fit in float64; use 1 to 11 and 0 to 52"
            )
        self._check_specials()
        if self.top_body < 1 or not self._within_float64():
            raise InputError(
                f"format {self.name}: exponent bias {self.exponent_bias} takes values out of "
                "float64, or leaves none: use a bias with 2^-1022 <= smallest normal and largest "
                "< 2^1024, and more bits than special codes"
            )
        extremes = (self.largest, self.min_normal, self.min_subnormal)
        if self.published is not None and extremes != self.published:
            raise InputError(f"format {self.name}: extremes {extremes} are not {self.published}")

    def _check_specials(self) -> None:
        if self.nan == "ieee" and self.fraction_bits == 0:
            raise InputError(f'format {self.name}: nan = "ieee" needs a fraction bit')
        if self.nan == "negative_zero" and not (self.signed and self.zero):
            raise InputError(f'format {self.name}: nan = "negative_zero" needs a sign and a zero')
        if self.normal_zero_field and not (self.zero and not self.subnormals and self.bits <= 16):
            raise InputError(
                f"format {self.name}: normal_zero_field needs zero, no subnormals, and 16 bits "
                "or fewer"
            )

    def _within_float64(self) -> bool:
        smallest = self.min_exponent - (self.fraction_bits if self.subnormals else 0)
        top = (self.top_body >> self.fraction_bits) - self.exponent_bias
        return self.min_exponent >= -1022 and smallest >= -1074 and top <= 1023

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
        """Exponent of the smallest normal number, or of 2^-bias under `normal_zero_field`."""
        return (1 if self.zero and not self.normal_zero_field else 0) - self.exponent_bias

    @property
    def max_exponent(self) -> int:
        """Exponent of the largest finite number."""
        field = self.top_body >> self.fraction_bits
        first = 1 if self.zero and not self.normal_zero_field else 0
        return field - self.exponent_bias if field >= first else self.min_exponent - 1

    @cached_property
    def top_body(self) -> int:
        """The body of the largest finite value: what is left below the special codes."""
        if self.nan == "ieee":
            return (((1 << self.exponent_bits) - 1) << self.fraction_bits) - 1
        return self._ones - (self.nan == "all_ones") - self.infinity

    @property
    def _ones(self) -> int:
        return (1 << (self.exponent_bits + self.fraction_bits)) - 1

    @property
    def infinity_body(self) -> int:
        """The body of infinity, where the format has one."""
        return self.top_body + 1

    @cached_property
    def largest(self) -> float:
        """The largest finite value."""
        return self.magnitude(self.top_body)

    def magnitude(self, body: int) -> float:
        """The value of a finite body, sign left out; exact.

        The body above the top one gives what the next value would be.
        """
        field, fraction = divmod(body, 1 << self.fraction_bits)
        if field == 0 and self.zero and not (self.normal_zero_field and fraction):
            return fraction * self.min_subnormal if self.subnormals else 0.0
        exponent = field - self.exponent_bias - self.fraction_bits
        return float((1 << self.fraction_bits) + fraction) * 2.0**exponent

    @property
    def min_normal(self) -> float:
        """The smallest positive normal value."""
        hidden = 2.0**-self.fraction_bits if self.normal_zero_field else 0.0
        return (1.0 + hidden) * 2.0**self.min_exponent

    @property
    def min_subnormal(self) -> float:
        """The smallest positive value."""
        if not self.subnormals:
            return self.min_normal
        return 2.0 ** (self.min_exponent - self.fraction_bits)

    @property
    def tabled(self) -> bool:
        """Whether rounding goes through the table of values rather than through the grid.

        A grid cannot say that the even one of two powers of two is the one with the even code
        (no fraction bits), nor that 2^min_exponent is missing (`normal_zero_field`).
        """
        return self.zero and (self.fraction_bits == 0 or self.normal_zero_field)

    @cached_property
    def grid(self) -> Grid:
        """The format as the kernels see it; what `tabled` formats differ in is left out."""
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
    """An integer format: two's complement of `bits` bits, or unsigned; quantum 1.

    `symmetric` leaves the most negative code unused, so that lowest = -largest; decoded, that
    code is still -2^(bits - 1).
    """

    name: str
    bits: int
    signed: bool = True
    source: str = ""
    symmetric: bool = False

    def __post_init__(self) -> None:
        _check_width(self.name, self.bits, self.signed, self.symmetric)

    @property
    def largest(self) -> float:
        """2^(bits - 1) - 1, or 2^bits - 1 unsigned."""
        return float(2 ** (self.bits - self.signed) - 1)

    @property
    def lowest(self) -> float:
        """-2^(bits - 1), or -largest if symmetric, or 0 unsigned."""
        return -(self.largest + (not self.symmetric)) if self.signed else 0.0

    @property
    def precision(self) -> int:
        """Bits of the largest magnitude."""
        return self.bits

    @cached_property
    def grid(self) -> Grid:
        """The format as the kernels see it: 52 fraction bits from 2^52 on are a quantum of 1."""
        return Grid(52, 52, 52, self.largest, self.lowest, False, True, False, False)


@dataclass(frozen=True)
class FixedFormat:
    """A fixed-point format Qm.n: an integer of m + n bits, and a sign, times 2^-n.

    The sign is not counted in m (the convention of Texas Instruments; Arm's Q counts it): q3.4
    has 8 bits and reaches from -8 to 8 - 1/16, uq4.4 from 0 to 16 - 1/16. Codes are two's
    complement; `symmetric` as for `IntegerFormat`.
    """

    name: str
    integer_bits: int
    fraction_bits: int
    signed: bool = True
    symmetric: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        if self.integer_bits < 0 or self.fraction_bits < 0:
            raise InputError(f"format {self.name}: Qm.n needs m and n of 0 or more")
        _check_width(self.name, self.bits, self.signed, self.symmetric)

    @property
    def bits(self) -> int:
        """Width of a code in bits."""
        return self.integer_bits + self.fraction_bits + self.signed

    @property
    def quantum(self) -> float:
        """The distance between neighbours, 2^-n."""
        return 2.0**-self.fraction_bits

    @property
    def largest(self) -> float:
        """2^m - 2^-n."""
        return (2.0 ** (self.integer_bits + self.fraction_bits) - 1) * self.quantum

    @property
    def lowest(self) -> float:
        """-2^m, or -largest if symmetric, or 0 unsigned."""
        if not self.signed:
            return 0.0
        return -self.largest if self.symmetric else -(2.0**self.integer_bits)

    @property
    def precision(self) -> int:
        """Bits of the largest magnitude."""
        return self.bits

    @cached_property
    def integer(self) -> IntegerFormat:
        """The integers that the codes are."""
        return IntegerFormat(self.name, self.bits, self.signed, self.source, self.symmetric)

    @cached_property
    def grid(self) -> Grid:
        """The format as the kernels see it: 52 fraction bits from 2^(52 - n) on."""
        place = 52 - self.fraction_bits
        return Grid(52, place, 52, self.largest, self.lowest, False, True, False, False)


def _check_width(name: str, bits: int, signed: bool, symmetric: bool) -> None:
    least = 2 if symmetric else 1
    if not least <= bits <= 32:
        raise InputError(f"format {name}: {bits} bits is not one of {least} to 32")
    if symmetric and not signed:
        raise InputError(f"format {name}: symmetric is for signed formats; leave it out")


#: Formats with a grid that follows from widths; what arithmetic units compute on.
ArithmeticFormat = FloatFormat | IntegerFormat
#: Formats that the grid kernels round to.
GridFormat = FloatFormat | IntegerFormat | FixedFormat
#: Formats that are a list of values, whatever its rule.
TableFormat = CodebookFormat | PositFormat | LogFormat
Format = GridFormat | TableFormat


#: The format of float32 arrays and tensors.
FLOAT32 = FloatFormat("float32", 8, 23)


def fits(fmt: GridFormat, container: FloatFormat) -> bool:
    """Whether every value of `fmt` is a value of the float format `container`."""
    grid, room = fmt.grid, container.grid
    smallest = grid.min_exponent - grid.subnormal_fraction_bits
    return (
        fmt.precision <= container.precision
        and max(grid.largest, -grid.lowest) <= room.largest
        and smallest >= room.min_exponent - room.subnormal_fraction_bits
    )
