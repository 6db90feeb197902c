"""The formats, one row each; a row checks itself against the extremes its source prints."""

import re
from functools import cache

from .codebook import CODEBOOKS
from .errors import InputError, hint
from .format import FloatFormat, Format, IntegerFormat
from .qtorch_numbers import from_qtorch, is_qtorch

_IEEE = "IEEE 754-2019"
_OFP8 = "OCP 8-bit Floating Point Specification (OFP8) rev. 1.0"
_MX = "OCP Microscaling Formats (MX) v1.0"
_FNUZ = "arXiv 2206.02915 (Noune et al.)"
_IEEE_LIKE = "IEEE 754-2019 interchange rules at 8 bits, as in ml_dtypes"
_B11 = "Sun et al., HFP8, NeurIPS 2019; specials as in ml_dtypes"
_TF32 = "NVIDIA A100 Tensor Core GPU Architecture whitepaper (2020)"
_BF16 = "Intel, BFLOAT16 Hardware Numerics Definition (2018)"

_FLOATS = (
    FloatFormat("float64", 11, 52, source=_IEEE,
                published=(1.7976931348623157e308, 2.2250738585072014e-308, 5e-324)),
    FloatFormat("float32", 8, 23, source=_IEEE,
                published=(3.4028234663852886e38, 2.0**-126, 2.0**-149)),
    FloatFormat("tfloat32", 8, 10, source=_TF32,
                published=(3.4011621342146535e38, 2.0**-126, 2.0**-136)),
    FloatFormat("bfloat16", 8, 7, source=_BF16,
                published=(3.3895313892515355e38, 2.0**-126, 2.0**-133)),
    FloatFormat("float16", 5, 10, source=_IEEE, published=(65504.0, 2.0**-14, 2.0**-24)),
    FloatFormat("float8_e4m3fn", 4, 3, infinity=False, nan="all_ones", source=_OFP8,
                published=(448.0, 2.0**-6, 2.0**-9)),
    FloatFormat("float8_e5m2", 5, 2, source=_OFP8, published=(57344.0, 2.0**-14, 2.0**-16)),
    FloatFormat("float8_e4m3", 4, 3, source=_IEEE_LIKE, published=(240.0, 2.0**-6, 2.0**-9)),
    FloatFormat("float8_e3m4", 3, 4, source=_IEEE_LIKE, published=(15.5, 2.0**-2, 2.0**-6)),
    FloatFormat("float8_e4m3b11fnuz", 4, 3, 11, infinity=False, nan="negative_zero",
                source=_B11, published=(30.0, 2.0**-10, 2.0**-13)),
    FloatFormat("float8_e4m3fnuz", 4, 3, 8, infinity=False, nan="negative_zero", source=_FNUZ,
                published=(240.0, 2.0**-7, 2.0**-10)),
    FloatFormat("float8_e5m2fnuz", 5, 2, 16, infinity=False, nan="negative_zero", source=_FNUZ,
                published=(57344.0, 2.0**-15, 2.0**-17)),
    FloatFormat("float8_e8m0fnu", 8, 0, signed=False, infinity=False, nan="all_ones",
                subnormals=False, zero=False, source=_MX,
                published=(2.0**127, 2.0**-127, 2.0**-127)),
    FloatFormat("float6_e3m2fn", 3, 2, infinity=False, nan="none", source=_MX,
                published=(28.0, 2.0**-2, 2.0**-4)),
    FloatFormat("float6_e2m3fn", 2, 3, infinity=False, nan="none", source=_MX,
                published=(7.5, 1.0, 2.0**-3)),
    FloatFormat("float4_e2m1fn", 2, 1, infinity=False, nan="none", source=_MX,
                published=(6.0, 1.0, 0.5)),
)  # fmt: skip
_INTEGERS = tuple(
    IntegerFormat(name, bits, source="two's complement")
    for name, bits in (("int32", 32), ("int16", 16), ("int8", 8), ("int4", 4), ("int2", 2))
)
_ROWS: tuple[Format, ...] = (*_FLOATS, *_INTEGERS, *CODEBOOKS)
CATALOG = {row.name: row for row in _ROWS}

ALIASES = {
    "fp64": "float64", "fp32": "float32", "tf32": "tfloat32", "bf16": "bfloat16",
    "fp16": "float16", "half": "float16", "e4m3": "float8_e4m3fn", "e4m3fn": "float8_e4m3fn",
    "e5m2": "float8_e5m2", "e4m3fnuz": "float8_e4m3fnuz", "e5m2fnuz": "float8_e5m2fnuz",
    "e8m0": "float8_e8m0fnu", "e8m0fnu": "float8_e8m0fnu", "e3m2": "float6_e3m2fn",
    "e3m2fn": "float6_e3m2fn", "e2m3": "float6_e2m3fn", "e2m3fn": "float6_e2m3fn",
    "e2m1": "float4_e2m1fn", "e2m1fn": "float4_e2m1fn",
}  # fmt: skip

_FLOAT_NAME = re.compile(r"e(\d{1,2})m(\d{1,2})(fn|fnuz)?")
_INTEGER_NAME = re.compile(r"(u?)int(\d{1,2})")


def list_formats() -> list[str]:
    """The canonical names of the catalog; any eXmY, eXmYfn, eXmYfnuz, intN, uintN works too."""
    return list(CATALOG)


@cache
def _named(name: str, where: str) -> Format:
    canonical = ALIASES.get(name, name)
    if canonical in CATALOG:
        return CATALOG[canonical]
    if match := _FLOAT_NAME.fullmatch(name):
        return _custom_float(name, int(match[1]), int(match[2]), match[3])
    if match := _INTEGER_NAME.fullmatch(name):
        return IntegerFormat(name, int(match[2]), signed=not match[1], source="custom")
    known = [*CATALOG, *ALIASES]
    place = f"{where}: " if where else ""
    raise InputError(
        f'{place}format = "{name}" is not one of {", ".join(CATALOG)}, nor a custom '
        f"eXmY, eXmYfn, eXmYfnuz, intN or uintN{hint(name, known)}"
    )


def _custom_float(name: str, exponent: int, fraction: int, suffix: str | None) -> FloatFormat:
    """eXmY with IEEE infinities and NaN; `fn`: one NaN, no infinity; `fnuz`: NaN in place of -0."""
    least = 1 if suffix else 2
    if not (least <= exponent <= 11 and 1 <= fraction <= 52):
        raise InputError(
            f'format = "{name}": exponent bits must be {least} to 11 and fraction bits 1 to 52, '
            "so that float64 holds every value"
        )
    if suffix == "fn":
        return FloatFormat(
            name, exponent, fraction, infinity=False, nan="all_ones", source="custom"
        )
    if suffix == "fnuz":
        bias = 2 ** (exponent - 1)
        return FloatFormat(
            name, exponent, fraction, bias, infinity=False, nan="negative_zero", source="custom"
        )
    return FloatFormat(name, exponent, fraction, source="custom")


def get_format(fmt: str | Format, where: str = "") -> Format:
    """The format of that name, alias or custom spelling; a `Format` passes through, a
    number of qtorch's becomes its format.

    Raises:
        InputError: no such format; `where` is named as the place.
    """
    if isinstance(fmt, str):
        return _named(fmt, where)
    return from_qtorch(fmt, where) if is_qtorch(fmt) else fmt
