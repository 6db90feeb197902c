"""The formats, one row each; a row checks itself against the extremes its source prints."""

from functools import cache

from .blocks.block import AnyFormat, BlockFormat
from .blocks.rows import BLOCK_ALIASES, block_rows
from .errors import InputError, hint
from .format import FixedFormat, FloatFormat, Format, IntegerFormat
from .names import cfloat, parse_name
from .p3109 import p3109
from .qtorch.numbers import from_qtorch, is_qtorch
from .tables.codebooks import ALL_CODEBOOKS
from .tables.logarithmic import LogFormat
from .tables.posit import PositFormat

_IEEE = "IEEE 754-2019"
_OFP8 = "OCP 8-bit Floating Point Specification (OFP8) rev. 1.0"
_MX = "OCP Microscaling Formats (MX) v1.0"
_FNUZ = "arXiv 2206.02915 (Noune et al.)"
_IEEE_LIKE = "IEEE 754-2019 interchange rules at 8 bits, as in ml_dtypes"
_B11 = "Sun et al., HFP8, NeurIPS 2019; specials as in ml_dtypes"
_TF32 = "NVIDIA A100 Tensor Core GPU Architecture whitepaper (2020)"
_BF16 = "Intel, BFLOAT16 Hardware Numerics Definition (2018)"

_DLFLOAT = (
    "Agrawal et al., DLFloat, ARITH 2019; code by code as in the conversion that IBM published "
    "with onnx-mlir (DLF16Conversion.hpp). Its units round nearest_away and give no sign to zero; "
    "here zero keeps its sign. That what rounds to 2^-31 becomes zero follows that conversion."
)
_PTX = "NVIDIA, PTX ISA 8.7: ue4m3 has 7 value bits, no sign, no infinity, NaN at 0x7F"
_UE5M3 = (
    "unsigned e5m3 of block scales; no infinity and NaN at the top code are assumed, as in ue4m3"
)
_CFLOAT_BIAS = "; the bias is configurable, that of IEEE 754 is taken here"
_UHP = (
    "Tesla, A Guide to Tesla's Configurable Floating Point Formats & Arithmetic (2021): unsigned, "
    "bias 31, zero and normal numbers; infinity and NaN as in IEEE 754 are assumed"
)

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
    FloatFormat("dlfloat16", 6, 9, infinity=False, nan="all_ones", subnormals=False,
                source=_DLFLOAT, normal_zero_field=True,
                published=(8573157376.0, 2.0**-31 + 2.0**-40, 2.0**-31 + 2.0**-40)),
    FloatFormat("float8_e4m3fnu", 4, 3, signed=False, infinity=False, nan="all_ones",
                source=_PTX, published=(448.0, 2.0**-6, 2.0**-9)),
    FloatFormat("float8_e5m3fnu", 5, 3, signed=False, infinity=False, nan="all_ones",
                source=_UE5M3),
    FloatFormat("cfloat16_uhp", 6, 10, signed=False, subnormals=False, source=_UHP),
)  # fmt: skip
_CFLOATS = (
    cfloat("cfloat8_1_4_3", 4, 3, 7, _CFLOAT_BIAS),
    cfloat("cfloat8_1_5_2", 5, 2, 15, _CFLOAT_BIAS),
    cfloat("cfloat16_shp", 5, 10, 15, _CFLOAT_BIAS),
)
_P3109 = tuple(
    p3109(8, precision, signed, extended)
    for signed in (True, False)
    for extended in (True, False)
    for precision in range(1, 8 + (not signed))
)
_TWOS = "two's complement"
_INTEGERS = (
    *(IntegerFormat(f"int{bits}", bits, source=_TWOS) for bits in (32, 16, 8, 4, 2, 1)),
    *(IntegerFormat(f"uint{bits}", bits, False, "unsigned") for bits in (32, 16, 8, 4, 2, 1)),
    IntegerFormat("int8_symmetric", 8, source=_TWOS, symmetric=True),
    IntegerFormat("int4_symmetric", 4, source=_TWOS, symmetric=True),
)
_Q = "fixed point, the sign not counted in m (Texas Instruments' Q notation)"
_FIXED = tuple(
    FixedFormat(f"q{whole}.{fraction}", whole, fraction, source=_Q)
    for whole, fraction in ((0, 7), (0, 15), (1, 6), (3, 4), (7, 8))
)
_POSITS = tuple(
    PositFormat(f"posit{bits}es{es}", bits, es)
    for bits, es in ((8, 0), (8, 1), (8, 2), (16, 1), (16, 2))
)
_LOGS = (
    LogFormat("lns8g8", 8, 8),
    LogFormat("lns8g8b0n", 8, 8, 0, zero=False),
    LogFormat("lns4g1", 4, 1),
    LogFormat("lns4g2", 4, 2),
)
_ROWS: tuple[Format, ...] = (
    *_FLOATS, *_CFLOATS, *_P3109, *_INTEGERS, *_FIXED, *ALL_CODEBOOKS, *_POSITS, *_LOGS
)  # fmt: skip
CATALOG = {row.name: row for row in _ROWS}
BLOCKS = block_rows(CATALOG)

ALIASES = {
    "fp64": "float64", "fp32": "float32", "tf32": "tfloat32", "bf16": "bfloat16",
    "fp16": "float16", "half": "float16", "e4m3": "float8_e4m3fn", "e4m3fn": "float8_e4m3fn",
    "e5m2": "float8_e5m2", "e4m3fnuz": "float8_e4m3fnuz", "e5m2fnuz": "float8_e5m2fnuz",
    "e8m0": "float8_e8m0fnu", "e8m0fnu": "float8_e8m0fnu", "e3m2": "float6_e3m2fn",
    "e3m2fn": "float6_e3m2fn", "e2m3": "float6_e2m3fn", "e2m3fn": "float6_e2m3fn",
    "e2m1": "float4_e2m1fn", "e2m1fn": "float4_e2m1fn", "e4m3b11fnuz": "float8_e4m3b11fnuz",
    "binary16": "float16", "binary32": "float32", "binary64": "float64",
    "dlfloat": "dlfloat16", "ue4m3": "float8_e4m3fnu", "e4m3fnu": "float8_e4m3fnu",
    "ue5m3": "float8_e5m3fnu", "e5m3fnu": "float8_e5m3fnu", "ue8m0": "float8_e8m0fnu",
    "posit8": "posit8es2", "posit16": "posit16es2",
}  # fmt: skip


def list_formats() -> list[str]:
    """The canonical names of the catalog; `get_format` says which others work."""
    return list(CATALOG)


def list_block_formats() -> list[str]:
    """The canonical names of the block formats, which share scales among elements."""
    return list(BLOCKS)


def get_element(name: str) -> Format:
    """`get_format` for numbers one by one.

    Raises:
        InputError: no such format, or one whose elements share scales.
    """
    row = get_format(name)
    if isinstance(row, BlockFormat):
        raise InputError(f'format = "{name}" shares scales among its elements; use a format of one')
    return row


@cache
def _named(name: str, where: str) -> AnyFormat:
    canonical = ALIASES.get(name, name)
    if canonical in CATALOG:
        return CATALOG[canonical]
    if (block := BLOCK_ALIASES.get(name, name)) in BLOCKS:
        return BLOCKS[block]
    if (row := parse_name(name)) is not None:
        return row
    known = [*CATALOG, *ALIASES, *BLOCKS, *BLOCK_ALIASES]
    place = f"{where}: " if where else ""
    raise InputError(
        f'{place}format = "{name}" is not one of {", ".join(CATALOG)}, nor of the families eXmY, '
        f"intN, qM.N, binaryKpP, positNesE, lnsNgG, cfloat8{hint(name, known)}"
    )


def get_format(fmt: str | AnyFormat, where: str = "") -> AnyFormat:
    """The format of that name, alias or family; a `Format` passes through.

    | spelling                  | format                                                        |
    |---------------------------|---------------------------------------------------------------|
    | eXmY[bN]                  | float, X exponent and Y fraction bits, bias N (2^(X-1) - 1 if |
    |                           | not given), IEEE 754 infinities and NaN                       |
    | eXmY[bN]u                 | the same without a sign                                       |
    | eXmY[bN]n, nu             | NaN at the top body alone, infinity below it; nu: unsigned    |
    | eXmY[bN]fn, fnu           | NaN at the top body, no infinity; fnu: unsigned               |
    | eXmY[bN]f, fu             | neither NaN nor infinity; fu: unsigned                        |
    | eXmY[bN]nuz, fnuz         | NaN in place of -0, infinity at the top body (nuz) or none    |
    |                           | (fnuz); bias 2^(X-1) if not given                             |
    | binaryKpP{s,u}{e,f}       | IEEE P3109: width K, precision P, signed or unsigned,         |
    |                           | extended (infinities) or finite: see `p3109`                  |
    | cfloat8_1_4_3bN, 1_5_2bN, | Tesla's configurable floats with bias N of 0 to 63            |
    | cfloat16_shpbN            |                                                               |
    | intN, uintN               | two's complement or unsigned integer of N bits, 1 to 32       |
    | qM.N, uqM.N               | fixed point: M integer and N fraction bits, and a sign (q)    |
    | intN_symmetric, qM.N_..   | without the most negative value                               |
    | positN[esE]               | posit of N bits, 2 to 16, with E exponent bits, 0 to 4 (2)    |
    | lnsNgG[bB][n][l]          | ±2^((k - B)/G), N bits with the sign; n: no zero; l: nearest  |
    |                           | by distance, not by logarithm: see `LogFormat`                |

    Letters of float suffixes are those of ml_dtypes: f finite, n NaN alone, u unsigned, uz
    unsigned zero. Names of the catalog come first: e4m3 is float8_e4m3fn, and e3m2fn, e2m3fn
    and e2m1fn, as in ml_dtypes, have no NaN. Other biases of 8-bit chips are spelled with bN,
    as e4m3b3, e4m3b11 (Gaudi) or e4m3b9fnuz (Graphcore).

    Raises:
        InputError: no such format; `where` is named as the place.
    """
    if isinstance(fmt, str):
        return _named(fmt, where)
    if is_qtorch(fmt):
        return from_qtorch(fmt, where)
    if isinstance(fmt, AnyFormat):
        return fmt
    place = f"{where}: " if where else ""
    raise InputError(
        f"{place}format = {fmt!r} is not a name, a Format or a BlockFormat; pass a name such as "
        '"float8_e4m3fn" (list_formats and list_block_formats have all)'
    )
