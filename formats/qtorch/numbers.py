"""QPyTorch's number objects as formats: recognised by their type, without importing qtorch.

    FloatingPoint(exp, man)                   the format of these widths: (4, 3) is e4m3, (5, 2)
                                              e5m2, (8, 7) bfloat16, another pair eXmY
    FixedPoint(wl, fl, clamp, symmetric)      Q(wl - fl - 1).(fl), two's complement of wl bits
    BlockFloatingPoint(wl, dim)               integers of wl bits, symmetric, one exponent a block;
                                              dim = -1, one block in all, is a `BlockFormat`

FloatingPoint(4, 3) is the E4M3 that hardware has, with its NaN and its largest value 448. QPyTorch
keeps no code for NaN or infinity, so that its own range ends at 480; for exactly that one,
FloatFormat("e4m3_unreserved", 4, 3, infinity=False, nan="none") says so.

The three classes below stand in for qtorch's where that is not installed; either are accepted.
Source: Zhang, Lin, Yang, De Sa, "QPyTorch: a low-precision arithmetic simulation framework",
arXiv 1910.04540; qtorch 0.3.0.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from ..blocks.block import AnyFormat, BlockFormat


@dataclass(frozen=True)
class FloatingPoint:
    """`exp` exponent and `man` fraction bits, and a sign."""

    exp: int
    man: int


@dataclass(frozen=True)
class FixedPoint:
    """`wl` bits in all, `fl` of them behind the point; two's complement.

    clamp=False: what lies beyond the range stays there, rounded. symmetric=True: the lowest value
    is -largest.
    """

    wl: int
    fl: int
    clamp: bool = True
    symmetric: bool = False


@dataclass(frozen=True)
class BlockFloatingPoint:
    """Integers of `wl` bits, one exponent for each index of dimension `dim`; -1: one in all."""

    wl: int
    dim: int = -1


_SOURCE = "QPyTorch, qtorch 0.3.0: BlockFloatingPoint(wl, dim=-1), arXiv 1910.04540"
_NAMES = ("FloatingPoint", "FixedPoint", "BlockFloatingPoint")
_MODULES = ("qtorch.number", __name__)
#: The pairs whose name says more than eXmY.
_FLOATS = {(8, 23): "float32", (8, 10): "tfloat32", (8, 7): "bfloat16", (5, 10): "float16"}


def is_qtorch(number: object) -> bool:
    """Whether this is a number of qtorch's, or one of the classes here."""
    kind = type(number)
    return kind.__name__ in _NAMES and kind.__module__ in _MODULES


def from_qtorch(number: Any, where: str = "") -> "AnyFormat":
    """The format of a qtorch number; see the head of this file.

    Raises:
        InputError: widths outside of what qtorch or the format allows; clamp=False, which has no
            largest value and so is no format; blocks over all dimensions but one, which depend on
            the tensor; a `where` is named as the place.
    """
    from ..catalog import get_element

    place = f"{where}: " if where else ""
    match type(number).__name__:
        case "FloatingPoint":
            return get_element(_float_name(number, place))
        case "FixedPoint":
            return get_element(_fixed_name(number, place))
        case _:
            return _block_format(number, place)


def _block_format(number: Any, place: str) -> "BlockFormat":
    """The whole tensor over one power of two: Q1.(wl - 2), symmetric, times 2^E of the largest.

    The values are those of `qtorch_rounding.round_blocks` wherever 2^-127 <= the largest
    magnitude < 2^128. The scale's format ends there: below, the quantum stays that of 2^-127;
    beyond, and for infinity, elements saturate.
    """
    from ..blocks.block import BlockFormat
    from ..catalog import get_element

    if number.dim != -1:
        raise InputError(
            f"{place}{_shown(number)} has blocks over all dimensions but one, which only a tensor "
            "fixes; pass it to quantize, or use tapeout.formats.qpytorch.block_quantize"
        )
    wl = check_block(number.wl, place)
    element: Any = get_element(f"q1.{wl - 2}_symmetric")
    scale: Any = get_element("float8_e8m0fnu")
    return BlockFormat(
        f"qtorch_block{wl}", element, scale, block=(), rule="shared_exponent", source=_SOURCE
    )


def check_block(wl: int, place: str = "") -> int:
    """Refuse what has no magnitude bit, or more than 32."""
    if not 2 <= wl <= 32:
        raise InputError(f"{place}BlockFloatingPoint(wl={wl}): wl must be 2 to 32")
    return int(wl)


def check_float(exp: int, man: int, place: str = "") -> None:
    """Refuse what qtorch.FloatingPoint refuses."""
    if not (1 <= exp <= 8 and 1 <= man <= 23):
        raise InputError(
            f"{place}FloatingPoint(exp={exp}, man={man}): exp must be 1 to 8 and man 1 to 23"
        )


def check_fixed(wl: int, fl: int, place: str = "") -> None:
    """Refuse what qtorch.FixedPoint refuses, and words beyond 32 bits."""
    if not (1 <= wl <= 32 and 1 <= fl <= 64):
        raise InputError(f"{place}FixedPoint(wl={wl}, fl={fl}): wl must be 1 to 32 and fl 1 to 64")


def _float_name(number: Any, place: str) -> str:
    exp, man = int(number.exp), int(number.man)
    check_float(exp, man, place)
    return _FLOATS.get((exp, man), f"e{exp}m{man}" + ("fn" if exp == 1 else ""))


def _fixed_name(number: Any, place: str) -> str:
    wl, fl = int(number.wl), int(number.fl)
    check_fixed(wl, fl, place)
    if not number.clamp:
        raise InputError(
            f"{place}{_shown(number)} with clamp=False has no largest value and is no format; use "
            "clamp=True, or tapeout.formats.qpytorch.fixed_point_quantize"
        )
    if wl - fl - 1 < 0:
        raise InputError(
            f"{place}{_shown(number)}: a word of {wl} bits with {fl} behind the point has no place "
            "for its sign; use fl up to wl - 1, or tapeout.formats.qpytorch.fixed_point_quantize"
        )
    return f"q{wl - fl - 1}.{fl}" + ("_symmetric" if number.symmetric else "")


def _shown(number: Any) -> str:
    fields = ", ".join(f"{key}={value}" for key, value in vars(number).items())
    return f"{type(number).__name__}({fields})"
