"""A conversion instruction as a row: what is added to the discarded bits, and where.

Every row is read by one exact reference (`reference.py`) and one kernel
(`kernels.py`); nothing in them knows a vendor.
"""

from dataclasses import dataclass
from typing import Literal

from ..catalog import get_format
from ..errors import InputError
from ..format import FloatFormat
from ..reference import nan_code

Align = Literal["result", "minimum_normal", "operand"]
Special = Literal["infinity", "largest", "nan"]
Addend = Literal["random", "nearest_even"] | int
Basis = Literal["documented", "measured", "third-party probe", "emulator"]


@dataclass(frozen=True)
class Lane:
    """Where the random bits of one value of a packed conversion sit: word >> shift, low k bits.

    `reversed` takes these k bits in the opposite order.
    """

    shift: int = 0
    reversed: bool = False


@dataclass(frozen=True)
class Conversion:
    """One conversion instruction: a magnitude goes up when an addend carries out.

    With k random bits r of a 32-bit word and the discarded bits of the significand,

        "random", compare "carry":  floor(2^k d) + r >= 2^k, d the discarded fraction of an ulp
        "random", compare ">=":     floor(2^k d) >= r
        an integer:                 as "random" with that constant in place of r
        "nearest_even":             round to nearest, ties to even

    There is no sticky bit: what lies below the k bits is lost.

    Attributes:
        operand, target: names of the formats; the operand has IEEE codes.
        random_bits: k; 0 for "nearest_even".
        lanes: the placement of r for each value that shares a word; value i of an array takes
            lane i mod len(lanes) of word i // len(lanes).
        align: what the top random bit lines up with. "result": the top discarded bit, on the
            result's grid, subnormal or not. "minimum_normal": the significand is first shifted
            right to the target's smallest normal exponent and the bits shifted out are lost.
            "operand": bit fraction_bits(operand) - fraction_bits(target) - 1 of the operand's own
            significand; a subnormal result is truncated from that sum.
        subnormal_operand: subnormals of the operand are kept, or become zero of their sign, or
            +0 ("positive_zero": and so does -0).
        nan: "fixed" gives nan_code, "signed" adds the operand's sign, "payload" also the top
            bits of its fraction.
        infinity, overflow: what +-infinity and what a rounded magnitude beyond the largest
            become: infinity, the largest value, or NaN with the operand's sign.
        basis: how the row is known: the vendor's text, the silicon in our own tests, somebody
            else's probes of the silicon, an emulator. assumptions: what is not public.
    """

    name: str
    operand: str
    target: str
    random_bits: int
    lanes: tuple[Lane, ...] = (Lane(),)
    addend: Addend = "random"
    compare: Literal["carry", ">="] = "carry"
    align: Align = "result"
    subnormal_operand: Literal["keep", "zero", "positive_zero"] = "keep"
    nan: Literal["fixed", "signed", "payload"] = "fixed"
    nan_code: int = 0
    infinity: Special = "infinity"
    overflow: Special = "infinity"
    source: str = ""
    basis: Basis = "documented"
    assumptions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        most, k = 32 if self.align == "result" else self.discarded_bits, self.random_bits
        placed = all(0 <= lane.shift <= 32 - k for lane in self.lanes)
        if self.addend != "nearest_even" and not (placed and 1 <= k <= most):
            raise InputError(
                f"conversion {self.name}: random_bits = {k} at {self.lanes} are not 1 to {most} "
                f'(what align = "{self.align}" takes) within a 32-bit word'
            )
        if self.align != "result" and not (self.addend == "random" and self.compare == "carry"):
            raise InputError(
                f'conversion {self.name}: align = "{self.align}" goes with addend = "random" and '
                f'compare = "carry" alone, not with {self.addend} and "{self.compare}"'
            )

    @property
    def operand_format(self) -> FloatFormat:
        """The format converted from."""
        return _float_format(self.operand)

    @property
    def target_format(self) -> FloatFormat:
        """The format converted to."""
        return _float_format(self.target)

    @property
    def discarded_bits(self) -> int:
        """Fraction bits that a normal result drops."""
        return self.operand_format.fraction_bits - self.target_format.fraction_bits

    @property
    def largest_code(self) -> int:
        """The code of the largest finite magnitude."""
        fmt = self.target_format
        top = (1 << (fmt.bits - fmt.signed)) - 1
        if fmt.nan == "ieee":
            return top - (1 << fmt.fraction_bits)
        return top - (fmt.nan == "all_ones")

    def special_code(self, special: Special) -> int:
        """The magnitude code of infinity, the largest value, or the target's only NaN."""
        fmt = self.target_format
        if special == "infinity":
            return ((1 << fmt.exponent_bits) - 1) << fmt.fraction_bits
        return nan_code(fmt) if special == "nan" else self.largest_code


def _float_format(name: str) -> FloatFormat:
    fmt = get_format(name)
    if not isinstance(fmt, FloatFormat):
        raise InputError(f"conversion: {name} is not a binary floating-point format")
    return fmt
