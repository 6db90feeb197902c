"""The block formats, one row each, and their other names."""

from collections.abc import Iterator, Mapping
from typing import cast

from ..format import FixedFormat, FloatFormat, Format, IntegerFormat
from ..rounding import Rounding
from ..tables.codebook import DYNAMIC_TREE_4BIT, LINEAR2_4BIT
from .block import BlockFormat

_MX = "OCP Microscaling Formats (MX) v1.0, section 5.3"
_NVFP4 = "NVIDIA, Pretraining Large Language Models with NVFP4, arXiv 2509.25149"
_MSFP = "Darvish Rouhani et al., Pushing the Limits of Narrow Precision Inferencing, NeurIPS 2020"
_GROUPS = "group-wise quantization, as in Frantar et al., GPTQ, arXiv 2210.17323"
_SHAMPOO = "Wang, Zhou, Li, Huang, 4-bit Shampoo, NeurIPS 2024, arXiv 2405.18144"
_DEEPSEEK = "DeepSeek-V3 Technical Report, arXiv 2412.19437, section 3.3"

#: float32 whose subnormals are zero.
NORMAL32 = FloatFormat("float32_normal", 8, 23, subnormals=False, source=_SHAMPOO)
MXINT8 = FixedFormat("mxint8_element", 1, 6, source=_MX)

BLOCK_ALIASES = {
    "mxfp8": "mxfp8_e4m3", "mxfp4": "mxfp4_e2m1",
    "deepseek_v3_activation": "float8_e4m3fn_1x128",
    "deepseek_v3_weight": "float8_e4m3fn_128x128",
}  # fmt: skip


def sign_magnitude(bits: int) -> FloatFormat:
    """Sign and `bits` magnitude bits, the first of weight 1: a float with one exponent bit.

    Its subnormals and its one binade of normal numbers are equally spaced, 2^(1 - bits) apart.
    """
    return FloatFormat(
        f"sign_magnitude{bits + 1}", 1, bits - 1, 1, infinity=False, nan="none", source=_MSFP
    )


def block_rows(catalog: Mapping[str, Format]) -> dict[str, BlockFormat]:
    """The rows by name; their parts are those of the catalog."""
    floats = {name: row for name, row in catalog.items() if isinstance(row, FloatFormat)}
    rows = [*_mx(floats), *_msfp(floats), *_groups(floats, catalog), *_others(floats)]
    return {row.name: row for row in rows}


def _mx(floats: Mapping[str, FloatFormat]) -> Iterator[BlockFormat]:
    scale = floats["float8_e8m0fnu"]
    for name, element in (
        ("mxfp8_e4m3", "float8_e4m3fn"), ("mxfp8_e5m2", "float8_e5m2"),
        ("mxfp6_e3m2", "float6_e3m2fn"), ("mxfp6_e2m3", "float6_e2m3fn"),
        ("mxfp4_e2m1", "float4_e2m1fn"),
    ):  # fmt: skip
        yield BlockFormat(name, floats[element], scale, source=_MX)
    yield BlockFormat("mxint8", MXINT8, scale, source=_MX)


def _msfp(floats: Mapping[str, FloatFormat]) -> Iterator[BlockFormat]:
    """MSFP11 to 16: 8 exponent bits shared by 16 elements of a sign and 2 to 7 bits."""
    for bits in range(2, 8):
        yield BlockFormat(
            f"msfp{9 + bits}", sign_magnitude(bits), floats["float8_e8m0fnu"], (16,),
            "shared_exponent", source=_MSFP,
        )  # fmt: skip


def _groups(
    floats: Mapping[str, FloatFormat], catalog: Mapping[str, Format]
) -> Iterator[BlockFormat]:
    """int4 and int8 in groups along the last axis: symmetric, or unsigned with a zero point."""
    half = floats["float16"]
    for bits in (4, 8):
        signed = cast(IntegerFormat, catalog[f"int{bits}"])
        unsigned = IntegerFormat(f"uint{bits}", bits, signed=False, source="unsigned integer")
        for n in (32, 64, 128):
            yield BlockFormat(f"int{bits}_g{n}", signed, half, (n,), "absmax", source=_GROUPS)
            yield BlockFormat(f"uint{bits}_g{n}", unsigned, half, (n,), "minmax", source=_GROUPS)


def _others(floats: Mapping[str, FloatFormat]) -> Iterator[BlockFormat]:
    single = floats["float32"]
    yield BlockFormat(
        "nvfp4", floats["float4_e2m1fn"], floats["float8_e4m3fnu"], (16,), "nvfp4",
        tensor_scale=single, source=_NVFP4,
    )  # fmt: skip
    for book in (LINEAR2_4BIT, DYNAMIC_TREE_4BIT):
        yield BlockFormat(
            f"{book.name}_b64", book, NORMAL32, (64,), "absmax_reciprocal",
            scale_rounding=Rounding.TOWARD_ZERO, source=_SHAMPOO,
        )  # fmt: skip
    for block in ((1, 128), (128, 128)):
        name = f"float8_e4m3fn_{block[0]}x{block[1]}"
        yield BlockFormat(name, floats["float8_e4m3fn"], single, block, "absmax", source=_DEEPSEEK)
