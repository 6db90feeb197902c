"""The library's chips against what is published of them, against each other, and under recipes.

The table of published profiles is not part of this repository; without it its tests skip.
"""

import json
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tapeout.formats import FloatFormat, InputError, IntegerFormat, decode, get_format, quantize
from tapeout.formats.format import ArithmeticFormat
from tapeout.simulator import DotUnit, emulate, list_chips, load_chip, load_recipe
from tapeout.simulator.chip import list_aliases
from tapeout.simulator.units import MatrixUnit

TABLE = Path(__file__).parent.parent.parent / "shared" / "reference" / "hardware.json"
PROFILES: list[dict[str, Any]] = (
    json.loads(TABLE.read_text())["profiles"] if TABLE.is_file() else [{}]
)
CHIPS = {
    "Volta": "nvidia-v100",
    "Turing": "nvidia-t4",
    "Ampere": "nvidia-a100",
    "Ada Lovelace": "nvidia-l40s",
    "Hopper": "nvidia-h100",
    "Blackwell": "nvidia-b200",
    "RTX Blackwell": "nvidia-rtx-blackwell",
    "CDNA1": "amd-mi100",
    "CDNA2": "amd-mi250x",
    "CDNA3": "amd-mi300x",
    "CDNA4": "amd-mi350",
}
FORMATS = {
    "f16": "float16",
    "bf16": "bfloat16",
    "tf32": "tfloat32",
    "xf32": "tfloat32",
    "f32": "float32",
    "f64": "float64",
    "s8": "int8",
    "u8": "uint8",
    "s32": "int32",
    "e4m3": "float8_e4m3fn",
    "e5m2": "float8_e5m2",
    "e3m2": "float6_e3m2fn",
    "e2m3": "float6_e2m3fn",
    "e2m1": "float4_e2m1fn",
    "e4m3fnuz": "float8_e4m3fnuz",
    "e5m2fnuz": "float8_e5m2fnuz",
}
#: By a word of the published instruction, ours; the first that fits.
INSTRUCTIONS = [
    ("tcgen05 block_scale kind::mxf8f6f4", ["tcgen05 mxf8f6f4"]),
    ("tcgen05 block_scale", ["tcgen05 mxf4", "tcgen05 mxf4nvf4", "tcgen05 mxf4nvf4 ue8m0"]),
    ("mma block_scale kind::mxf8f6f4", ["mma.sync mxf8f6f4"]),
    ("mma block_scale", ["mma.sync mxf4", "mma.sync mxf4nvf4", "mma.sync mxf4nvf4 ue8m0"]),
    ("/ wgmma", ["wgmma", "mma.sync"]),
    ("/ tcgen05", ["tcgen05", "mma.sync"]),
    ("wgmma", ["wgmma"]),
    ("tcgen05", ["tcgen05"]),
    ("(Volta shape)", ["mma.sync m8n8k4"]),
    ("mfma bf16 (non-1k)", ["v_mfma bf16"]),
    ("scaled mfma", ["v_mfma_scale"]),
    ("mfma", ["v_mfma"]),
    ("mma", ["mma.sync"]),
]
#: Products that the fp8 instruction of the float16 unit takes first: k mod 4 in {0, 1}.
THROUGH_HALF = [k for part in (0, 1) for k in range(32) if k % 4 // 2 == part]
needs_table = pytest.mark.skipif(
    not TABLE.is_file(), reason="the table of published profiles is not on this machine"
)


def accumulator(profile: dict[str, Any]) -> str:
    words = {"RZ-E8M13": "e8m13", "FP16": "float16", "FP32": "float32"}
    named = [fmt for word, fmt in words.items() if word in profile["out_rounding"]]
    return named[0] if named else FORMATS[profile["output"]]


def expected_dots(profile: dict[str, Any]) -> list[dict[str, Any]]:
    """What `dot` says of a published profile; several where scales come in several kinds."""
    acc, block = accumulator(profile), profile.get("L")
    rounding = "toward_zero" if "RZ" in profile["out_rounding"] else "nearest_even"
    rounded = {"accumulator": acc, "rounding": rounding}
    fused = {"order": "fused", "block": block, "fraction_bits": profile.get("F"), **rounded}
    fused["min_exponent"] = profile.get("e_zero")
    match profile["algorithm"]:
        case "T_FDPA" | "FP8_VIA_HMMA":
            return [fused | {"scale": None, "group": None}]
        case "ST_FDPA":
            return [fused | {"scale": {"format": "float8_e8m0fnu", "block": 32}, "group": None}]
        case "GST_FDPA":
            kinds = [("float8_e8m0fnu", 32), ("float8_e4m3fn", 16), ("float8_e8m0fnu", 16)]
            return [
                fused | {"scale": {"format": fmt, "block": size}, "group": profile["G"]}
                for fmt, size in kinds
            ]
        case "FMA_CHAIN":
            return [{"order": "chain", "fused": True, "lanes": 1, "flush": False, **rounded}]
        case "INT_EXACT":
            return [{"order": "integer", "accumulator": acc, "overflow": "wrap"}]
        case "E_FDPA":
            return [{"order": "exact", "block": block, **rounded}]
        case "FTZ_PAIRWISE":
            tree = {"order": "tree", "group": block, "leaf": 1, "flush": True}
            return [tree | {"flushed_inputs": "positive", **rounded}]
    late = {"order": "two_stage", "block": block, "fraction_bits": profile["F"], **rounded}
    late |= {"guard_bits": profile["F2"] + 1, "sum_bits": profile["F2"]}
    assert profile["algorithm"] in ("TR_FDPA", "GTR_FDPA")
    grouped = profile["algorithm"] == "GTR_FDPA"
    return [late | {"lanes": 1 + grouped, "drop_c": 25 if grouped else None}]


def expected_basis(profile: dict[str, Any]) -> str:
    """The table's mark as ours: equal to recorded outputs, by the vendor's word, or a model's."""
    if profile["verified"].startswith("HW-CHECKED"):
        return "measured"
    return "documented" if profile["verified"].startswith("PTX text") else "assumed"


def rows_of(profile: dict[str, Any]) -> list[MatrixUnit]:
    """The chip's rows for a profile: one an operand format and instruction."""
    chip = load_chip(CHIPS[profile["arch"]])
    ours = next(names for word, names in INSTRUCTIONS if word in profile["instruction"])
    output = FORMATS[profile["output"]]
    return [
        chip.matrix_row(FORMATS[a], FORMATS[b], output, instruction)
        for instruction in ours
        for a in profile["inputs"]
        for b in profile["inputs"]
        if profile["algorithm"] not in ("TR_FDPA", "E_FDPA", "FTZ_PAIRWISE") or a == b
    ]


def test_every_published_profile_is_there() -> None:
    if not TABLE.is_file():
        pytest.skip("the table of published profiles is not on this machine")
    assert len(PROFILES) == 65
    assert {profile["arch"] for profile in PROFILES} == set(CHIPS)


@needs_table
@pytest.mark.parametrize("number", range(1, len(PROFILES) + 1))
def test_row_equals_the_published_profile(number: int) -> None:
    profile = PROFILES[number - 1]
    if profile["algorithm"] is None:  # CDNA4: formats are public, sums are not
        everything = load_chip(CHIPS[profile["arch"]]).matrix_units
        unknown = [row for row in everything if row.output == "float32" and "float32" not in row.a]
        assert unknown and all(row.evidence_of("dot").basis == "assumed" for row in unknown)
        return
    rows = rows_of(profile)
    dots = expected_dots(profile)
    found = []
    for row in rows:
        dot = row.dot.model_dump()
        assert any({key: dot[key] for key in want} == want for want in dots), dot
        found.append(next(n for n, w in enumerate(dots) if {k: dot[k] for k in w} == w))
        assert row.evidence_of("dot").basis == expected_basis(profile)
        assert_around(row, profile)
    assert set(found) == set(range(len(dots)))


def assert_around(row: MatrixUnit, profile: dict[str, Any]) -> None:
    """What surrounds the order, and what the recordings do not cover."""
    if profile["algorithm"] == "FP8_VIA_HMMA":
        assert list(row.k_order) == THROUGH_HALF and row.promotion is not None
        promoted = (row.promotion.every, row.promotion.accumulator, row.promotion.rounding)
        assert promoted == (32, FORMATS[profile["output"]], "nearest_even")
    else:
        assert not row.k_order and row.promotion is None
    assert row.split_k is None
    told = profile["verified"]
    if "equality is MMA-Sim" in told:
        assert row.evidence_of("instructions").basis == "assumed"
    if "C!=0 is MMA-Sim" in told:
        assert row.evidence_of("dot.chain").basis == "assumed"


#: a, b and C of one dot product of float16 with float32 sums, and what each chip makes of it:
#: 2^23 - 2^23 - 1/2 - 1/4 - 1/8. Worked out by hand from the published rules: at 23 fraction bits
#: below 2^23 only whole numbers survive, at 24 halves, at 25 quarters; rounded pairs lose all.
CANCELLING = ([-8192.0, -0.5, -0.25, -0.125], [1024.0, 1.0, 1.0, 1.0], 2.0**23)
CANCELLED = {
    "nvidia-v100": 0.0,
    "nvidia-t4": -0.5,
    "nvidia-a100": -0.5,
    "nvidia-l40s": -0.5,
    "nvidia-h100": -0.75,
    "nvidia-b200": -0.75,
    "nvidia-rtx-blackwell": -0.75,
    "amd-mi100": -0.875,
    "amd-mi250x": 0.0,
    "amd-mi300x": -0.5,
    "groq-lpu": -0.875,
    "graphcore-ipu": -0.875,
}


@pytest.mark.parametrize("name", CANCELLED)
def test_one_product_tells_the_vendors_apart(name: str) -> None:
    a, b, c = CANCELLING
    unit = load_chip(name).matrix_unit("float16", "float16", "float32")
    assert unit.dot(np.array(a), np.array(b), np.array(c)).item() == CANCELLED[name]
    assert unit.reference.dot(np.array(a), np.array(b), np.array(c)).item() == CANCELLED[name]


def half_dot(name: str, a: list[float], b: list[float], c: float) -> float:
    unit = load_chip(name).matrix_unit("float16", "float16", "float32")
    return float(unit.dot(np.array(a), np.array(b), np.array(c)).item())


#: Extra bits in the alignment, and products in one sum ("at least"), as Li et al. measured them
#: (FTTN, arXiv 2403.00232): V100 none and 4, A100 one and 8, H100 two or more and 16 or more.
FTTN = {"nvidia-v100": (0, 4), "nvidia-a100": (1, 8), "nvidia-h100": (2, 16)}


@pytest.mark.parametrize("name", FTTN)
def test_probes_of_fttn(name: str) -> None:
    """Their probes in our words; what they concluded of real chips is what the units show."""
    bits, width = FTTN[name]
    below_one = 1 - 2.0**-24
    assert half_dot(name, [1.0], [1.0], -below_one) == (2.0**-24 if bits else 2.0**-23)
    if bits:  # 1.25 - (2^-3 + 2^-25), whose last bit one extra bit cannot hold
        kept = half_dot(name, [1.0], [1.25], -(2.0**-3 + 2.0**-25))
        assert kept == (1.125 if bits == 1 else 1.125 - 2.0**-23)
    # 1 - 1 + 2^-26: what meets the ones in one sum is cut, what comes in a later sum is kept.
    for distance in (2, 4, 8):
        a = np.zeros(16)
        a[:2], a[distance] = (1.0, -1.0), 2.0**-13
        got = half_dot(name, list(a), [1.0] * 2 + [2.0**-13] * 14, 0.0)
        assert got == (0.0 if distance < width else 2.0**-26)


RECIPES = ("fp32", "bf16", "fp8", "int4")
RUNS = {
    "amd-mi100": "fp32 bf16",
    "amd-mi250x": "fp32 bf16",
    "amd-mi300x": "fp32 bf16",
    "amd-mi350": "fp32 bf16 fp8",
    "arm-neoverse": "fp32 bf16",
    "aws-trainium": "fp32 bf16",
    "generic-fp8-sr": "fp32 bf16 fp8",
    "generic-int4": "fp32 bf16 int4",
    "google-tpu-v4i": "fp32 bf16",
    "graphcore-ipu": "fp32",
    "groq-lpu": "fp32",
    "ieee-float32": "fp32",
    "ieee-float64": "",
    "intel-diamond-rapids": "fp32 bf16 fp8",
    "intel-gaudi2": "fp32 bf16",
    "intel-gaudi3": "fp32 bf16 fp8",
    "intel-granite-rapids": "fp32 bf16",
    "intel-sapphire-rapids": "fp32 bf16",
    "intel-xmx": "fp32 bf16 int4",
    "nvidia-a100": "fp32 bf16",
    "nvidia-b200": "fp32 bf16 fp8",
    "nvidia-h100": "fp32 bf16 fp8",
    "nvidia-l40s": "fp32 bf16 fp8",
    "nvidia-rtx-blackwell": "fp32 bf16 fp8",
    "nvidia-t4": "fp32",
    "nvidia-v100": "fp32",
    "tenstorrent-wormhole": "fp32",
    "tesla-dojo": "fp32 bf16",
}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", list_chips())
def test_recipe_runs_on_the_chip_or_is_refused_in_one_sentence(name: str, recipe: str) -> None:
    """Without substitutes: what the chip has a unit and a rounding for."""
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 5), torch.randn(4, 6)
    operand = {"rounding_in": "unit"}
    rows = load_recipe(recipe, {"substitute": False, "gradient": operand})
    if recipe in RUNS[name].split():
        with emulate(load_chip(name), rows, model=layer, seed=1):
            h = layer(x)
            (h @ h.mT).square().mean().backward()
        assert layer.weight.grad is not None and bool(layer.weight.grad.isfinite().all())
        return
    with pytest.raises(InputError) as refusal:
        with emulate(load_chip(name), rows, model=layer, seed=1):
            layer(x)
    message = str(refusal.value)
    assert "\n" not in message and ("no matrix unit for" in message or "rounding" in message)


def test_wormhole_runs_bf16_with_the_rounding_it_has() -> None:
    """Its packer ties away from zero: the refusal of nearest_even names the modes to choose."""
    chip = load_chip("tenstorrent-wormhole")
    with pytest.raises(InputError, match="nearest_away, toward_zero, stochastic"):
        with emulate(chip, load_recipe("bf16")):
            pass
    over = {"rounding": "nearest_away", "attention": {"rounding": "nearest_away"}}
    layer = nn.Linear(6, 5)
    with emulate(chip, load_recipe("bf16", over), model=layer):
        assert bool(layer(torch.ones(2, 6)).isfinite().all())


def arithmetic(name: str) -> ArithmeticFormat:
    fmt = get_format(name)
    assert isinstance(fmt, FloatFormat | IntegerFormat)
    return fmt


def test_every_row_is_found_by_its_own_formats_output_and_instruction() -> None:
    for name in list_chips():
        chip = load_chip(name)
        for row in chip.matrix_units:
            for instruction in row.instructions:
                for a, b in zip_longest(row.a, row.b, fillvalue=row.b[0]):
                    found = chip.matrix_row(a, b, row.output, instruction)
                    assert found is row, f"{name}: {instruction} {a} x {b}"


def operands(fmt: ArithmeticFormat, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Any codes of narrow formats, wide spreads of the others; some of it not finite."""
    rng = np.random.default_rng(seed)
    if isinstance(fmt, IntegerFormat):
        return rng.integers(int(fmt.lowest), int(fmt.largest) + 1, shape).astype(np.float64)
    if fmt.bits <= 16 and seed % 2:
        return np.asarray(decode(rng.integers(0, 2**fmt.bits, shape, dtype=np.uint16), fmt), float)
    x = rng.standard_normal(shape) * 2.0 ** rng.integers(-12, 4, shape)
    return quantize(x, fmt, overflow="infinity" if fmt.grid.has_infinity else "saturate")


def mixes() -> dict[str, list[DotUnit]]:
    """By chip, units that no earlier chip has: each operand of a row once on either side."""
    seen: set[tuple[object, ...]] = set()
    found: dict[str, list[DotUnit]] = {}
    for name in list_chips():
        for row in load_chip(name).matrix_units:
            turned = [*row.b[1:], row.b[0]]  # mixes, where the sides have several formats
            pairs = [*zip(row.a, row.b, strict=False), *zip(row.a, turned, strict=False)]
            for a, b in dict.fromkeys(pairs):
                unit = row.unit(a, b, f"{name}, {row.instruction}")
                around = (unit.promotion, unit.promote_every, unit.k_order, unit.split)
                if (key := (a, b, unit.order, *around)) not in seen:
                    seen.add(key)
                    found.setdefault(name, []).append(unit)
    return found


MIXES = mixes()


@pytest.mark.parametrize("name", MIXES)
def test_kernel_equals_reference_on_every_row(name: str) -> None:
    for number, unit in enumerate(MIXES[name]):
        assert_twins(unit, 1 + number % 2)


def assert_twins(unit: DotUnit, seed: int) -> None:
    block = unit.order.model_dump().get("block") or 8
    m, k, n = 2, 5 + max(block, unit.promote_every or 0), 3  # into a second block, or promotion
    a, b = operands(unit.a, (m, k), seed), operands(unit.b, (k, n), seed + 2)
    scales: dict[str, Any] = {}
    if unit.scale is not None:
        parts = -(-k // unit.scale.block)
        codes = np.random.default_rng(seed).integers(118, 136, (m + n, parts))
        table = 2.0 ** (codes - 127.0) if unit.scale.fmt.fraction_bits == 0 else codes / 32.0
        table = np.abs(quantize(table, unit.scale.fmt))
        scales = {"a_scale": table[:m], "b_scale": np.ascontiguousarray(table[m:].T)}
    c = operands(unit.addend, (m, n), seed + 4)
    got = np.asarray(unit.matmul(a, b, c, seed=3, **scales), np.float64)
    want = np.asarray(unit.reference.matmul(a, b, c, seed=3, **scales), np.float64)
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    assert same.all(), f"{unit.name}: {unit.a.name} x {unit.b.name}: {got} is not {want}"


def test_aliases_load_under_their_own_name() -> None:
    aliases = list_aliases()
    assert aliases["nvidia-h200"] == "nvidia-h100" and not set(aliases) & set(list_chips())
    for alias, name in aliases.items():
        chip = load_chip(alias)
        assert chip.name == alias and chip.table["name"] == alias
        assert chip.matrix_units == load_chip(name).matrix_units
    with pytest.raises(InputError, match='did you mean "nvidia-h200"'):
        load_chip("nvidia-h20")


def test_assumptions_are_whole_sentences_and_partly_public_chips_have_them() -> None:
    for name in list_chips():
        chip = load_chip(name)
        for _, unit in chip.units():
            assumed = [entry for entry in unit.evidence if entry.basis == "assumed"]
            assert all(len(entry.source) > 20 for entry in assumed)
            assert unit.basis == "assumed" or unit.assumptions() == []
    for name in ("google-tpu-v4i", "aws-trainium", "groq-lpu", "graphcore-ipu", "amd-mi350",
                 "intel-gaudi2", "intel-gaudi3", "intel-xmx", "tenstorrent-wormhole",
                 "tesla-dojo"):  # fmt: skip
        chip = load_chip(name)
        assert chip.count_evidence()["measured"] == 0
        sums = [u for u in chip.matrix_units if u.dot.order != "integer"]
        assert all(u.basis == "assumed" for u in sums)


@pytest.mark.parametrize(
    ("name", "fmt", "bits"),
    [
        ("nvidia-b200", "float8_e4m3fn", 8),
        ("nvidia-b200", "float16", 13),
        ("nvidia-gb200", "bfloat16", 16),
        ("amd-mi350", "float8_e4m3fn", 20),
        ("amd-mi350", "float8_e5m2", 21),
        ("amd-mi300x", "float8_e5m2fnuz", 21),
        ("intel-xmx", "float16", 13),
        ("tenstorrent-wormhole", "bfloat16", 16),
    ],
)
def test_random_bits_go_by_the_target_format(name: str, fmt: str, bits: int) -> None:
    assert load_chip(name).conversion_unit.stochastic(fmt).bits == bits


def test_recipes_take_the_random_bits_of_their_format() -> None:
    over = {"rounding": "stochastic"}
    for recipe, bits in (("bf16", 16), ("fp8", 8)):
        rounding = load_recipe(recipe, over).rounding("gradient", load_chip("nvidia-b200"))
        assert getattr(rounding, "bits", None) == bits
