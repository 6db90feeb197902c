"""Names of formats that no catalog lists: a family and its numbers, spelled as one word."""

import re
from collections.abc import Callable
from typing import Any

from .errors import InputError
from .format import FixedFormat, FloatFormat, Format, IntegerFormat
from .p3109 import p3109
from .tables.logarithmic import LogFormat
from .tables.posit import PositFormat

#: What each suffix of eXmY changes: see `get_format`.
_SUFFIXES: dict[str, dict[str, Any]] = {
    "": {},
    "u": {"signed": False},
    "n": {"nan": "all_ones"},
    "nu": {"nan": "all_ones", "signed": False},
    "nuz": {"nan": "negative_zero"},
    "fn": {"infinity": False, "nan": "all_ones"},
    "fnu": {"infinity": False, "nan": "all_ones", "signed": False},
    "fnuz": {"infinity": False, "nan": "negative_zero"},
    "f": {"infinity": False, "nan": "none"},
    "fu": {"infinity": False, "nan": "none", "signed": False},
}

_CFLOAT = "Tesla, A Guide to Tesla's Configurable Floating Point Formats & Arithmetic (2021)"


def cfloat(
    name: str, exponent_bits: int, fraction_bits: int, bias: int, note: str = ""
) -> FloatFormat:
    """A configurable float of Tesla's Dojo: signed, no infinity, no NaN, bias 0 to 63.

    The guide prints denormals as 0.f 2^-bias; read so, they would overlap no normal number but
    leave a gap below 2^(1 - bias), the smallest one. 2^(1 - bias), as in IEEE 754 and as
    "gradual underflow" asks, is assumed.

    Raises:
        InputError: the bias is not one of 0 to 63.
    """
    if not 0 <= bias <= 63:
        raise InputError(f'format = "{name}": bias {bias} is not one of 0 to 63')
    return FloatFormat(
        name,
        exponent_bits,
        fraction_bits,
        bias,
        infinity=False,
        nan="none",
        source=f"{_CFLOAT}{note}",
    )


def _float(name: str, match: re.Match[str]) -> Format:
    exponent, fraction, suffix = int(match[1]), int(match[2]), match[4]
    least = 1 if suffix else 2
    if not (least <= exponent <= 11 and 1 <= fraction <= 52):
        raise InputError(
            f'format = "{name}": exponent bits must be {least} to 11 and fraction bits 1 to 52, '
            "so that float64 holds every value"
        )
    bias = int(match[3]) if match[3] else None
    if bias is None and suffix.endswith("uz"):
        bias = 2 ** (exponent - 1)
    return FloatFormat(name, exponent, fraction, bias, source="custom", **_SUFFIXES[suffix])


def _integer(name: str, match: re.Match[str]) -> Format:
    symmetric = bool(match[3])
    return IntegerFormat(
        name, int(match[2]), signed=not match[1], source="custom", symmetric=symmetric
    )


def _fixed(name: str, match: re.Match[str]) -> Format:
    whole, fraction = int(match[2]), int(match[3])
    return FixedFormat(name, whole, fraction, not match[1], bool(match[4]), "custom")


def _p3109(name: str, match: re.Match[str]) -> Format:
    return p3109(int(match[1]), int(match[2]), match[3] == "s", match[4] == "e")


def _posit(name: str, match: re.Match[str]) -> Format:
    return PositFormat(name, int(match[1]), int(match[2] or 2))


def _log(name: str, match: re.Match[str]) -> Format:
    bias = int(match[3]) if match[3] else None
    zero = not match[4]
    bits, gamma = int(match[1]), int(match[2])
    if match[5]:
        return LogFormat(name, bits, gamma, bias, zero, "linear", "half", "custom")
    return LogFormat(name, bits, gamma, bias, zero, source="custom")


def _cfloat8(name: str, match: re.Match[str]) -> Format:
    return cfloat(name, int(match[1]), int(match[2]), int(match[3]))


def _shp(name: str, match: re.Match[str]) -> Format:
    return cfloat(name, 5, 10, int(match[1]))


_FAMILIES: tuple[tuple[str, Callable[[str, re.Match[str]], Format]], ...] = (
    (r"e(\d{1,2})m(\d{1,2})(?:b(-?\d{1,4}))?(fnuz|fnu|fn|fu|f|nuz|nu|n|u|)", _float),
    (r"(u?)int(\d{1,2})(_symmetric)?", _integer),
    (r"(u?)q(\d{1,2})\.(\d{1,2})(_symmetric)?", _fixed),
    (r"binary(\d{1,2})p(\d{1,2})([su])([ef])", _p3109),
    (r"posit(\d{1,2})(?:es(\d))?", _posit),
    (r"lns(\d{1,2})g(\d{1,3})(?:b(-?\d{1,5}))?(n?)(l?)", _log),
    (r"cfloat8_1_(?=4_3|5_2)(\d)_(\d)b(\d{1,4})", _cfloat8),
    (r"cfloat16_shpb(\d{1,4})", _shp),
)


def parse_name(name: str) -> Format | None:
    """The format that a name of one of the families spells out; None if it spells none.

    Raises:
        InputError: the family is known, its numbers are not possible.
    """
    for pattern, build in _FAMILIES:
        if match := re.fullmatch(pattern, name):
            return build(name, match)
    return None
