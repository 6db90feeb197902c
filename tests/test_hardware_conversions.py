"""Conversion instructions: kernel against reference, closed forms, a processor, published rules."""

import ctypes
from dataclasses import replace

import llvmlite.binding as llvm
import ml_dtypes
import numpy as np
import pytest

from tapeout.formats import InputError, decode, quantize
from tapeout.formats.generators import RANDOM_SOURCES, Generator, draw_words
from tapeout.formats.hardware.conversion import (
    Conversion,
    Lane,
    convert,
    get_conversion,
    list_conversions,
    words_needed,
)
from tapeout.formats.hardware.reference import convert_exact, random_integer_exact

ROWS = list_conversions()
RNG = np.random.default_rng(8)
SPECIAL16 = [0x0000, 0x8000, 0x0001, 0x83FF, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7C01, 0xFE55, 0x7FFF]
SPECIAL32 = [
    0x00000000, 0x80000000, 0x00000001, 0x807FFFFF, 0x00800000, 0x7F7FFFFF, 0xFF7F8000, 0x7F7F0000,
    0x7F800000, 0xFF800000, 0x7F800001, 0xFFC12345, 0x7FFFFFFF, 0xFFBFFFFF,
]  # fmt: skip


def hard_operands(row: Conversion, count: int = 250) -> np.ndarray:
    """Codes of specials, of values of the target and their neighbours, of any size, of any bits."""
    fmt, dtype = row.target_format, np.dtype(f"u{row.operand_format.bits // 8}")
    top = min(fmt.max_exponent, row.operand_format.max_exponent - 1)
    scale = 2.0 ** RNG.integers(fmt.min_exponent - fmt.fraction_bits - 3, top + 2, count)
    spread = RNG.standard_normal(count) * scale
    near = quantize(spread, fmt) if fmt.bits > 8 else grid_of(row)
    values = np.concatenate([spread, near, [fmt.largest, -fmt.largest, fmt.largest * 1.05]])
    floats = np.dtype(f"f{dtype.itemsize}")
    with np.errstate(over="ignore"):
        codes = values.astype(floats).view(dtype)
    any_bits = RNG.integers(0, 2 ** (8 * dtype.itemsize), count, dtype=dtype)
    special = np.array(SPECIAL16 if dtype.itemsize == 2 else SPECIAL32, dtype)
    return np.concatenate([special, codes, codes + dtype.type(1), codes - dtype.type(1), any_bits])


def grid_of(row: Conversion) -> np.ndarray:
    values = decode(np.arange(2**row.target_format.bits, dtype=np.uint8), row.target)
    finite: np.ndarray = values[np.isfinite(values)].astype(np.float64)
    return finite


def exact(operands: np.ndarray, row: Conversion, words: np.ndarray) -> list[int]:
    lanes = len(row.lanes)
    random = [
        random_integer_exact(int(words[i // lanes]), row, i % lanes) if words.size else 0
        for i in range(operands.size)
    ]
    return [convert_exact(int(x), row, r) for x, r in zip(operands, random, strict=True)]


def check(row: Conversion, operands: np.ndarray) -> None:
    words = RNG.integers(0, 2**32, words_needed(row, operands.size), dtype=np.uint32)
    words[::7], words[3::7] = 0, 2**32 - 1
    got = convert(operands, row, words if words.size else None)
    want = np.array(exact(operands, row, words))
    first = int(np.argmax(got != want))
    assert np.array_equal(got, want), f"{operands[first]:#x}: {got[first]:#x}, {want[first]:#x}"


@pytest.mark.parametrize("name", ROWS)
def test_kernel_equals_reference(name: str) -> None:
    row = get_conversion(name)
    check(row, hard_operands(row))


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in ROWS if get_conversion(n).operand == "float16"])
def test_kernel_equals_reference_on_every_half_precision_operand(name: str) -> None:
    check(get_conversion(name), np.arange(2**16, dtype=np.uint16))


def test_a_row_of_ones_own_is_read_like_the_rest() -> None:
    """Widths, lanes, comparisons and alignments that no chip of the table has."""
    base = get_conversion("nvidia-b200-cvt-rs-e5m2x4")
    for row in (
        replace(base, name="3 bits", random_bits=3, lanes=(Lane(29), Lane(1, True), Lane(15))),
        replace(base, name="all 32", random_bits=32, lanes=(Lane(),)),
        replace(base, name="24, >=", random_bits=24, lanes=(Lane(8, True),), compare=">="),
        replace(base, name="half", addend=0x80, target="float8_e4m3fnuz"),
        replace(base, name="near", random_bits=0, addend="nearest_even", target="float6_e2m3fn"),
        replace(base, name="near16", operand="float16", random_bits=0, addend="nearest_even"),
        replace(base, name="few", random_bits=5, align="minimum_normal"),
        replace(base, name="flush", subnormal_operand="positive_zero", align="operand"),
    ):
        check(row, hard_operands(row, 300))


# --- closed forms, written without the table -------------------------------------------------


def test_bf16x2_is_an_integer_addition() -> None:
    x = hard_operands(get_conversion("nvidia-cvt-rs-bf16x2"), 20_000)
    words = RNG.integers(0, 2**32, (x.size + 1) // 2, dtype=np.uint32)
    r = np.stack([words & 0xFFFF, words >> 16], 1).reshape(-1)[: x.size]
    finite = (x & 0x7FFFFFFF) <= 0x7F7F0000
    want = np.where(finite, (x.astype(np.uint64) + r) >> 16, 0)
    got = convert(x, "nvidia-cvt-rs-bf16x2", words)
    assert np.array_equal(got[finite], want[finite])
    large = ~finite & ((x & 0x7FFFFFFF) <= 0x7F800000)
    assert np.array_equal(got[large], 0x7F7F | (x[large] >> 16 & 0x8000))
    assert set(got[~finite & ~large].tolist()) == {0x7FFF}


NVIDIA = [
    (n, 13 if "f16x2" in n else 8) for n in ROWS if n.startswith("nvidia") and "bf16" not in n
]


@pytest.mark.parametrize(("name", "k"), NVIDIA)
def test_nvidia_adds_the_integer_below_the_ulp_and_truncates(name: str, k: int) -> None:
    """x + r 2^-k ulp, exact in float64, rounded toward zero: the rule told in real numbers."""
    row = get_conversion(name)
    fmt = row.target_format
    x = RNG.standard_normal(40_000) * 2.0 ** RNG.integers(
        fmt.min_exponent - 14, fmt.max_exponent + 2, 40_000
    )
    x = x.astype(np.float32)
    words = RNG.integers(0, 2**32, words_needed(row, x.size), dtype=np.uint32)
    r = lane_integers(words, row, k)[: x.size]
    exponent = np.maximum(np.frexp(np.abs(x))[1] - 1, fmt.min_exponent)
    ulp = np.ldexp(1.0, exponent - fmt.fraction_bits)
    moved = x.astype(np.float64) + np.copysign(r * ulp / 2**k, x)
    want = quantize(moved, row.target, rounding="toward_zero", overflow="saturate")
    got = decode(convert(x, name, words), row.target).astype(np.float64)
    assert np.array_equal(got, want)
    assert np.array_equal(np.signbit(got), np.signbit(x))


def lane_integers(words: np.ndarray, row: Conversion, k: int) -> np.ndarray:
    """The integers of every lane, by strings of bits."""
    table = np.array([int(f"{n:0{k}b}"[::-1], 2) for n in range(2**k)])
    lanes = [words >> np.uint32(lane.shift) & np.uint32(2**k - 1) for lane in row.lanes]
    turned = [table[r] if lane.reversed else r for r, lane in zip(lanes, row.lanes, strict=True)]
    return np.stack(turned, 1).reshape(-1).astype(np.int64)


PLACEMENT = {  # the byte of the word and whether its bits are turned, for values 0 to 3
    ("b200", "e4m3x4"): ((0, 0), (1, 0), (2, 0), (3, 0)),
    ("b300", "e4m3x4"): ((1, 0), (0, 1), (3, 0), (2, 1)),
    ("b300", "e2m1x4"): ((2, 0), (0, 1), (3, 0), (1, 1)),
}


@pytest.mark.parametrize(("chip", "kind"), PLACEMENT)
def test_each_value_takes_its_own_byte(chip: str, kind: str) -> None:
    """Sweeping one byte moves one value, up as often as the top 8 discarded bits say."""
    name = f"nvidia-{chip}-cvt-rs-{kind}"
    x = np.float32(1 + 0.1875 if kind == "e4m3x4" else 1 + 0.75)  # half of an ulp above 1.125, 1.5
    for value, (byte, turned) in enumerate(PLACEMENT[chip, kind]):
        for other in range(4):
            words = np.arange(256, dtype=np.uint32) << np.uint32(8 * other)
            codes = convert(np.full(1024, x), name, words).reshape(256, 4)[:, value]
            ups = codes != codes[0]
            assert ups.sum() == (128 if other == byte else 0)
            if other == byte:  # carry iff r >= 128: the byte's top bit, or its lowest if turned
                assert np.array_equal(ups, (np.arange(256) & (1 if turned else 128)) != 0)


@pytest.mark.parametrize(
    ("kind", "f", "bias", "limit"), [("fp8", 3, 7, 0x7E), ("bf8", 2, 15, 0x7B)]
)
def test_amd_shifts_to_the_smallest_normal_and_adds_the_top_of_the_seed(
    kind: str, f: int, bias: int, limit: int
) -> None:
    name = f"amd-rdna4-cvt-sr-{kind}-ovfl"
    x = hard_operands(get_conversion(name), 20_000)
    x = x[(x & 0x7FFFFFFF) < 0x7F800000]
    seed = RNG.integers(0, 2**32, x.size, dtype=np.uint32)
    field = (x >> 23 & 0xFF).astype(np.int64) - 127 + bias
    significand = (x & 0x7FFFFF).astype(np.int64) | np.where(x & 0x7F800000, 1 << 23, 0)
    significand >>= np.clip(1 - field, 0, 40)
    steps = (significand + (seed >> np.uint32(9 + f))) >> (23 - f)
    code = np.minimum(steps + (np.maximum(field - 1, 0) << f), limit)
    assert np.array_equal(convert(x, name, seed), code | (x >> 24 & 0x80))


def test_bf8_with_a_bias_is_an_integer_addition() -> None:
    """VCVTBIASPH2BF8 and SRND HF -> BF8: (bits + bias) >> 8 for all that stays finite."""
    bits = np.tile(np.arange(2**16, dtype=np.uint16), 9)
    bias = np.repeat(np.array([0, 1, 2, 64, 127, 128, 200, 254, 255], np.uint32), 2**16)
    total = (bits.astype(np.uint32) + bias) >> 8
    finite = (bits & 0x7C00) != 0x7C00
    for name in ("intel-vcvtbiasph2bf8", "intel-srnd-bf8"):
        got = convert(bits, name, bias)
        assert np.array_equal(got[finite], total[finite])
        assert np.array_equal(got[bits == 0xFC00], np.full(9, 0xFC))
        nan = (bits & 0x7FFF) > 0x7C00
        assert np.array_equal(got[nan], (bits[nan] >> 8) | 2)
    saturated = convert(bits, "intel-vcvtbiasph2bf8s", bias)
    over = (total & 0x7F) == 0x7C
    assert np.array_equal(saturated[~over], got[~over])
    inf = (bits & 0x7FFF) == 0x7C00
    assert np.array_equal(
        saturated[over & (finite | inf)] & 0x7F, np.full((over & (finite | inf)).sum(), 0x7B)
    )


def test_hf8_with_a_bias() -> None:
    """VCVTBIASPH2HF8: bias >> 1 added at the fraction's last bit, then truncated, exponent - 8."""
    bits = np.tile(np.arange(0x7C00, dtype=np.uint16), 8)
    bias = np.repeat(np.array([0, 1, 2, 100, 127, 128, 254, 255], np.uint32), 0x7C00)
    total = bits.astype(np.int64) + (bias >> 1)
    exponent, fraction = (total >> 10) - 8, total & 0x3FF
    normal = (total >> 7) - 64
    subnormal = (fraction | 0x400) >> np.clip(8 - exponent, 0, 20)
    code = np.where(exponent > 0, normal, subnormal)
    code = np.where(bits < 0x400, 0, code)
    assert np.array_equal(convert(bits, "intel-vcvtbiasph2hf8", bias), np.minimum(code, 0x7F))
    assert np.array_equal(convert(bits, "intel-vcvtbiasph2hf8s", bias), np.minimum(code, 0x7E))


def test_srnd_to_half_agrees_with_nvidia_where_the_result_is_normal() -> None:
    x = (RNG.standard_normal(50_000) * 2.0 ** RNG.integers(-30, 14, 50_000)).astype(np.float32)
    r = RNG.integers(0, 2**13, x.size, dtype=np.uint32)
    words = r.reshape(-1, 2)[:, 0] | r.reshape(-1, 2)[:, 1] << 16
    intel, nvidia = convert(x, "intel-srnd-f16", r), convert(x, "nvidia-cvt-rs-f16x2", words)
    normal = np.abs(x) >= 2.0**-14
    assert np.array_equal(intel[normal], nvidia[normal])
    down = convert(x, "nvidia-cvt-rs-f16x2", np.zeros_like(words))
    assert (
        np.all(intel >= down) and np.all(intel <= nvidia) and np.any(intel[~normal] > down[~normal])
    )


@pytest.mark.parametrize(("kind", "dropped"), [("bf16", 16), ("tf32", 13)])
def test_tenstorrent_compares_with_greater_or_equal(kind: str, dropped: int) -> None:
    x = hard_operands(get_conversion(f"tenstorrent-sfpstochrnd-{kind}"), 20_000)
    words = RNG.integers(0, 2**32, x.size, dtype=np.uint32)
    words[::3] &= np.uint32(0xFF800000)  # r = 0, which moves even exact values
    for suffix, r in (("", words & 0x7FFFFF), ("-nearest", 0x400000), ("-zero", 0x7FFFFF)):
        rest = (x & np.uint32(2**dropped - 1)).astype(np.int64)
        up = (rest << (23 - dropped)) >= r
        want = (x.astype(np.int64) - rest + (up.astype(np.int64) << dropped)) % 2**32
        field = x >> 23 & 0xFF
        want = np.where(field == 0, 0, np.where(field == 255, x & 0xFF800000, want))
        got = convert(x, f"tenstorrent-sfpstochrnd-{kind}{suffix}", None if suffix else words)
        assert np.array_equal(got, want >> dropped)
    assert np.any(up == 0) and convert(np.ones(1, np.float32), "tenstorrent-sfpstochrnd-bf16",
                                       np.zeros(1, np.uint32))[0] == 0x3F81  # fmt: skip


def test_vcvtneps2bf16_equals_ml_dtypes_on_normal_numbers() -> None:
    x = RNG.integers(0, 2**32, 200_000, dtype=np.uint32)
    x = x[((x & 0x7F800000) != 0) & ((x & 0x7F800000) != 0x7F800000)]
    want = x.view(np.float32).astype(ml_dtypes.bfloat16).view(np.uint16)
    assert np.array_equal(convert(x, "intel-vcvtneps2bf16"), want)


IR = """
declare <16 x bfloat> @llvm.x86.avx512bf16.cvtneps2bf16.512(<16 x float>)
define void @narrow(ptr %a, ptr %d, i64 %n) "target-features"="+avx512bf16,+avx512f" {
entry:
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
  %pa = getelementptr float, ptr %a, i64 %i
  %pd = getelementptr i16, ptr %d, i64 %i
  %va = load <16 x float>, ptr %pa, align 4
  %r = call <16 x bfloat> @llvm.x86.avx512bf16.cvtneps2bf16.512(<16 x float> %va)
  store <16 x bfloat> %r, ptr %pd, align 2
  %next = add i64 %i, 16
  %more = icmp ult i64 %next, %n
  br i1 %more, label %loop, label %end
end:
  ret void
}
"""


@pytest.mark.skipif(
    not llvm.get_host_cpu_features().get("avx512bf16", False),
    reason="this processor has no AVX512-BF16",
)
def test_vcvtneps2bf16_equals_the_processor() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(IR), machine)
    engine.finalize_object()
    narrow = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long)(
        engine.get_function_address("narrow")
    )
    x = RNG.integers(0, 2**32, 2_000_000, dtype=np.uint32)
    x[::16] &= np.uint32(0x807FFFFF)
    x[1::16] |= np.uint32(0x7F800000)
    x[: len(SPECIAL32)] = SPECIAL32
    silicon = np.empty(x.size, np.uint16)
    narrow(x.ctypes.data, silicon.ctypes.data, x.size)
    assert np.array_equal(convert(x, "intel-vcvtneps2bf16"), silicon)


# --- special values, as each vendor tells them ------------------------------------------------

INF, NAN = np.inf, np.nan
SPECIALS = [  # +NaN, -NaN, +inf, -inf, +huge, -huge, -0, a negative subnormal operand
    ("nvidia-cvt-rs-f16x2", 0x7FFF, 0x7FFF, 0x7BFF, 0xFBFF, 0x7BFF, 0xFBFF, 0x8000, 0x8000),
    ("nvidia-cvt-rs-bf16x2", 0x7FFF, 0x7FFF, 0x7F7F, 0xFF7F, 0x7E96, 0xFE96, 0x8000, 0x8047),
    ("nvidia-b200-cvt-rs-e4m3x4", 0x7F, 0x7F, 0x7E, 0xFE, 0x7E, 0xFE, 0x80, 0x80),
    ("nvidia-b300-cvt-rs-e5m2x4", 0x7F, 0x7F, 0x7B, 0xFB, 0x7B, 0xFB, 0x80, 0x80),
    ("nvidia-b200-cvt-rs-e3m2x4", 0x1F, 0x1F, 0x1F, 0x3F, 0x1F, 0x3F, 0x20, 0x20),
    ("nvidia-b200-cvt-rs-e2m3x4", 0x1F, 0x1F, 0x1F, 0x3F, 0x1F, 0x3F, 0x20, 0x20),
    ("nvidia-b300-cvt-rs-e2m1x4", 0x7, 0x7, 0x7, 0xF, 0x7, 0xF, 0x8, 0x8),
    ("amd-rdna4-cvt-sr-fp8", 0xFF, 0xFF, 0x7F, 0xFF, 0x7F, 0xFF, 0x80, 0x80),
    ("amd-rdna4-cvt-sr-fp8-ovfl", 0xFF, 0xFF, 0x7F, 0xFF, 0x7E, 0xFE, 0x80, 0x80),
    ("amd-cdna4-cvt-sr-fp8-ovfl", 0xFF, 0xFF, 0x7E, 0xFE, 0x7E, 0xFE, 0x80, 0x80),
    ("amd-rdna4-cvt-sr-bf8", 0xFE, 0xFE, 0x7C, 0xFC, 0x7C, 0xFC, 0x80, 0x80),
    ("amd-cdna4-cvt-sr-bf8-ovfl", 0xFE, 0xFE, 0x7B, 0xFB, 0x7B, 0xFB, 0x80, 0x80),
    ("amd-cdna3-cvt-sr-fp8", 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00, 0x00),
    ("amd-cdna3-cvt-sr-bf8", 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00, 0x00),
    ("intel-srnd-f16", 0x7E00, 0xFE00, 0x7C00, 0xFC00, 0x7C00, 0xFC00, 0x8000, 0x8000),
    ("intel-vcvtneps2bf16", 0x7FC0, 0xFFC0, 0x7F80, 0xFF80, 0x7E96, 0xFE96, 0x8000, 0x8000),
    ("tenstorrent-sfpstochrnd-bf16", 0x7F80, 0xFF80, 0x7F80, 0xFF80, 0x7E96, 0xFE96, 0, 0),
    ("tenstorrent-sfpstochrnd-tf32", 0x3FC00, 0x7FC00, 0x3FC00, 0x7FC00, 0x3F4B3, 0x7F4B3, 0, 0),
]  # fmt: skip


@pytest.mark.parametrize("case", SPECIALS, ids=lambda case: case[0])
def test_special_values(case: tuple[str, int, int, int, int, int, int, int, int]) -> None:
    name, *want = case
    row = get_conversion(name)
    x = np.array([NAN, -NAN, INF, -INF, 1e38, -1e38, -0.0, -6.6e-39], np.float32)
    random = np.full(words_needed(row, 8), 0x7FFFFF if row.compare == ">=" else 0, np.uint32)
    got = convert(x, name, random if random.size else None)
    assert [hex(c) for c in got.tolist()] == [hex(c) for c in want]


# --- the rows and the interface ----------------------------------------------------------------


@pytest.mark.parametrize("name", ROWS)
def test_rows_name_their_source_and_hold_together(name: str) -> None:
    row = get_conversion(name)
    assert row.name == name and row.source and all(len(a) > 15 for a in row.assumptions)
    assert row.basis in ("documented", "measured", "third-party probe", "emulator")
    assert row.discarded_bits > 0
    assert (
        decode(np.array([row.largest_code], np.uint32), row.target)[0] == row.target_format.largest
    )
    if row.addend == "random":
        assert len({(lane.shift, lane.reversed) for lane in row.lanes}) == len(row.lanes)


@pytest.mark.parametrize("source", RANDOM_SOURCES)
def test_words_are_drawn_in_row_major_order(source: str) -> None:
    x = RNG.standard_normal((5, 7)).astype(np.float32)
    for name in ("nvidia-cvt-rs-bf16x2", "nvidia-b300-cvt-rs-e2m1x4", "amd-cdna4-cvt-sr-bf8"):
        words = draw_words(source, words_needed(name, 35), 3, 4)
        got = convert(x, name, source=source, seed=3, stream=4)
        assert got.shape == (5, 7)
        assert np.array_equal(got, convert(x, name, words))
        assert np.array_equal(got.reshape(-1), convert(x.reshape(-1), name, words))


def test_lanes_of_a_chip_feed_elements_in_turn() -> None:
    """Element i takes output i // 32 of lane i mod 32: a tile's own generators."""
    unit, name = Generator.seeded("tenstorrent", 9, lanes=32), "tenstorrent-sfpstochrnd-bf16"
    x = RNG.standard_normal(96).astype(np.float32)
    words, after = unit.draw(3)
    whole = convert(x, name, words.reshape(-1))
    for lane in (0, 5, 31):
        alone = Generator("tenstorrent", (unit.lanes[lane],)).draw(3)[0]
        assert np.array_equal(whole[lane::32], convert(x[lane::32], name, alone))
    assert after.draw(1)[0].shape == (1, 32)


def test_chunks_and_threads_do_not_show() -> None:
    """A long array equals its parts converted alone, whatever the chunk borders."""
    x = RNG.standard_normal(20_003).astype(np.float32)
    for name in ("nvidia-b300-cvt-rs-e4m3x4", "nvidia-cvt-rs-f16x2", "amd-cdna4-cvt-sr-fp8"):
        row = get_conversion(name)
        words = draw_words("philox", words_needed(row, x.size), 1)
        whole, cut = convert(x, row, words), 4 * 1234
        parts = [convert(x[:cut], row, words[: words_needed(row, cut)]),
                 convert(x[cut:], row, words[words_needed(row, cut):])]  # fmt: skip
        assert np.array_equal(whole, np.concatenate(parts))


def test_the_smallest_code_type_holds_the_target() -> None:
    x = np.ones(3, np.float32)
    assert convert(x, "nvidia-b200-cvt-rs-e2m1x4").dtype == np.uint8
    assert convert(x, "nvidia-cvt-rs-bf16x2").dtype == np.uint16
    assert convert(x, "tenstorrent-sfpstochrnd-tf32").dtype == np.uint32
    assert convert(x[:0], "nvidia-cvt-rs-bf16x2").size == 0
    assert convert(np.asarray(np.float32(1)), "intel-vcvtneps2bf16").shape == ()


X = np.ones(6, np.float32)
AMD, SRND = get_conversion("amd-cdna4-cvt-sr-fp8"), get_conversion("intel-srnd-f16")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: convert(X, "nvidia-cvt-rs-bf16"), 'conversion = "nvidia-cvt-rs-bf16" is not one'),
        (lambda: convert(X.astype(float), "intel-srnd-f16"), "dtype float64 is not one of float32"),
        (lambda: convert(X, "intel-srnd-bf8"), "dtype float32 is not one of float16, uint16"),
        (lambda: convert(X, "nvidia-cvt-rs-bf16x2", np.zeros(6, np.uint32)), "are not 3 integers"),
        (lambda: convert(X, AMD, np.zeros(6)), "random words of float64"),
        (lambda: convert(X, AMD, np.full(6, -1)), "not within 0 to 2"),
        (lambda: convert(X, "intel-vcvtneps2bf16", np.zeros(6, int)), "takes no random words"),
        (lambda: convert(X, AMD, source="dice"), 'source = "dice" is not one of'),
        (lambda: convert(X, replace(SRND, random_bits=14)), "are not 1 to 13"),
        (lambda: convert(X, replace(SRND, compare=">=")), 'align = "operand" goes with'),
        (lambda: convert(X, replace(AMD, lanes=(Lane(13),))), "within a 32-bit word"),
        (lambda: get_conversion("x"), 'conversion = "x"'),
        (lambda: replace(SRND, target="int8").target_format, "int8 is not a binary floating-point"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message):
        make()
