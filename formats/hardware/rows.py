"""The conversion instructions of chips, with their sources; what is not public is an assumption."""

from collections.abc import Iterator
from dataclasses import replace

from ..errors import choice
from .row import Addend, Basis, Conversion, Lane

_PTX = "NVIDIA PTX ISA 9.1, cvt: rounding .rs (sm_100a, sm_103a) with .satfinite"
_QUACK = "probes in Dao-AILab/quack, quack/rounding.py (2026)"
_HALVES = (Lane(0), Lane(16))
_BYTES = tuple(Lane(8 * n) for n in range(4))
_B300_BYTES = (Lane(8), Lane(0, True), Lane(24), Lane(16, True))
_FP4_BYTES = (Lane(16), Lane(0), Lane(24), Lane(8))
_B300_FP4_BYTES = (Lane(16), Lane(0, True), Lane(24), Lane(8, True))
_FP6 = "the 6-bit formats take their random bytes as the probed 8-bit ones do"
_FP4 = "sm_100a takes the bytes that sm_103a takes, none of them reversed"


def _cvt_rs(kind: str, target: str, bits: int, lanes: tuple[Lane, ...], nan_code: int,
            assumption: str = "") -> Conversion:  # fmt: skip
    """NaN is one code (6- and 4-bit formats: the largest value), the rest saturates."""
    basis: Basis = "documented" if assumption else "third-party probe"
    return Conversion(
        f"nvidia-{kind}", "float32", target, bits, lanes, nan_code=nan_code, infinity="largest",
        overflow="largest", source=f"{_PTX}; {_QUACK}", basis=basis,
        assumptions=(assumption,) if assumption else (),
    )  # fmt: skip


_NVIDIA = [
    _cvt_rs("cvt-rs-f16x2", "float16", 13, _HALVES, 0x7FFF),
    _cvt_rs("cvt-rs-bf16x2", "bfloat16", 16, _HALVES, 0x7FFF),
    _cvt_rs("b200-cvt-rs-e4m3x4", "float8_e4m3fn", 8, _BYTES, 0x7F),
    _cvt_rs("b300-cvt-rs-e4m3x4", "float8_e4m3fn", 8, _B300_BYTES, 0x7F),
    _cvt_rs("b200-cvt-rs-e5m2x4", "float8_e5m2", 8, _BYTES, 0x7F),
    _cvt_rs("b300-cvt-rs-e5m2x4", "float8_e5m2", 8, _B300_BYTES, 0x7F),
    _cvt_rs("b200-cvt-rs-e3m2x4", "float6_e3m2fn", 8, _BYTES, 0x1F, _FP6),
    _cvt_rs("b300-cvt-rs-e3m2x4", "float6_e3m2fn", 8, _B300_BYTES, 0x1F, _FP6),
    _cvt_rs("b200-cvt-rs-e2m3x4", "float6_e2m3fn", 8, _BYTES, 0x1F, _FP6),
    _cvt_rs("b300-cvt-rs-e2m3x4", "float6_e2m3fn", 8, _B300_BYTES, 0x1F, _FP6),
    _cvt_rs("b200-cvt-rs-e2m1x4", "float4_e2m1fn", 8, _FP4_BYTES, 0x7, _FP4),
    _cvt_rs("b300-cvt-rs-e2m1x4", "float4_e2m1fn", 8, _B300_FP4_BYTES, 0x7),
]

_CDNA4 = "AMD CDNA4 ISA (2025), 7.3: V_CVT_SR_FP8_F32, V_CVT_SR_BF8_F32, FP16_OVFL rule"
_RDNA4 = "ROCm rocjitsu, shared/conversion.h: rules measured on a Radeon RX 9070 XT"
_CDNA3 = "AMD CDNA3 ISA (2024); HIP amd_hip_fp8.h, cast_to_f8 (the host's FNUZ rules)"
_AS_RDNA4 = "placement and alignment of the random bits are those measured on RDNA4"
_NAN_AS_RDNA4 = "NaN is the code that RDNA4 returns, whatever the operand's sign and payload"


def _cvt_sr(rdna4: Conversion) -> Iterator[Conversion]:
    """The instruction on RDNA4, CDNA4 (OCP) and CDNA3 (FNUZ); "-ovfl" is MODE.FP16_OVFL = 1."""
    yield rdna4
    yield replace(rdna4, name=f"{rdna4.name}-ovfl", overflow="largest")
    name = rdna4.name.replace("rdna4", "cdna4")
    cdna4 = replace(
        rdna4, name=name, source=_CDNA4, basis="documented", assumptions=(_AS_RDNA4, _NAN_AS_RDNA4)
    )
    yield cdna4
    yield replace(cdna4, name=f"{name}-ovfl", overflow="largest", infinity="largest")
    yield replace(
        cdna4, name=name.replace("cdna4", "cdna3"), target=rdna4.target.removesuffix("fn") + "fnuz",
        nan_code=0x80, infinity="nan", overflow="nan", source=_CDNA3,
        assumptions=(_AS_RDNA4, "infinity and overflow are NaN with FP16_OVFL = 0"),
    )  # fmt: skip


_AMD_FP8 = Conversion(
    "amd-rdna4-cvt-sr-fp8", "float32", "float8_e4m3fn", 20, (Lane(12),), align="minimum_normal",
    nan_code=0xFF, infinity="nan", overflow="nan", source=_RDNA4, basis="third-party probe",
)  # fmt: skip
_AMD_BF8 = replace(
    _AMD_FP8, name="amd-rdna4-cvt-sr-bf8", target="float8_e5m2", random_bits=21, lanes=(Lane(11),),
    nan_code=0xFE, infinity="infinity", overflow="infinity",
)  # fmt: skip
_AMD = [*_cvt_sr(_AMD_FP8), *_cvt_sr(_AMD_BF8)]

_IGC = "intel-graphics-compiler, documentation/visa/instructions/SRND.md"
_SRND_NAN = "NaN keeps its sign and the top of its payload and becomes quiet"
_BOCHS = "Bochs, cpu/avx: the AVX10.2 conversions, after the text of the specification"
_INTEL = [
    Conversion(
        "intel-srnd-bf8", "float16", "float8_e5m2", 8, align="operand", nan="payload",
        nan_code=0x7E, source=_IGC, assumptions=(_SRND_NAN, "overflow is infinity"),
    ),
    Conversion(
        "intel-srnd-f16", "float32", "float16", 13, align="operand", nan="payload",
        nan_code=0x7E00, source=_IGC,
        assumptions=(
            _SRND_NAN, "overflow is infinity",
            "a subnormal result is truncated after the addition at bit 0 of the operand, the "
            "order in which the document tells its steps",
        ),
    ),
    Conversion(
        "intel-vcvtneps2bf16", "float32", "bfloat16", 0, addend="nearest_even",
        subnormal_operand="zero", nan="payload", nan_code=0x7FC0,
        source="Intel SDM, VCVTNEPS2BF16", basis="measured",
    ),
]  # fmt: skip
_BF8_BIAS = Conversion(
    "intel-vcvtbiasph2bf8", "float16", "float8_e5m2", 8, align="operand", nan="payload",
    nan_code=0x7E, source=_BOCHS, basis="emulator",
    assumptions=(
        "(bits + bias) >> 8 for subnormal operands too, as Bochs had it until 2025 and GCC's test "
        "helper has it; Bochs of 2026 normalises them before it adds the bias",
    ),
)  # fmt: skip
_HF8_BIAS = Conversion(
    "intel-vcvtbiasph2hf8", "float16", "float8_e4m3fn", 7, (Lane(1),), align="operand",
    nan="signed", nan_code=0x7F, infinity="nan", overflow="nan", source=_BOCHS, basis="emulator",
    assumptions=("overflow is judged after the bias is added (GCC's test helper: before)",),
)  # fmt: skip
for _bias in (_BF8_BIAS, _HF8_BIAS):
    _saturating = replace(_bias, name=f"{_bias.name}s", overflow="largest", infinity="largest")
    _INTEL += [_bias, _saturating]

_TT = "tenstorrent/tt-isa-documentation, SFPSTOCHRND_FloatFloat.md (Wormhole B0, Blackhole A0)"
#: The rounding modes of the instruction; "zero" came with Blackhole.
_SFPSTOCHRND: tuple[tuple[str, Addend], ...] = (
    ("", "random"), ("-nearest", 0x400000), ("-zero", 0x7FFFFF)
)  # fmt: skip
_TENSTORRENT = [
    Conversion(
        f"tenstorrent-sfpstochrnd-{kind}{suffix}", "float32", target, 23, addend=addend,
        compare=">=", subnormal_operand="positive_zero", nan="signed", nan_code=infinity,
        source=_TT,
    )
    for kind, target, infinity in (("bf16", "bfloat16", 0x7F80), ("tf32", "tfloat32", 0x3FC00))
    for suffix, addend in _SFPSTOCHRND
]  # fmt: skip

CONVERSIONS = {row.name: row for row in (*_NVIDIA, *_AMD, *_INTEL, *_TENSTORRENT)}


def list_conversions() -> list[str]:
    """The names of the conversion instructions that `convert` knows."""
    return list(CONVERSIONS)


def get_conversion(conversion: str | Conversion) -> Conversion:
    """The row of that name; a `Conversion` passes through.

    Raises:
        InputError: no such conversion.
    """
    if isinstance(conversion, Conversion):
        return conversion
    return CONVERSIONS[choice(conversion, CONVERSIONS, "conversion")]
