"""Golden vectors: there and back, refused when damaged, and sharp enough for a wrong profile."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tapeout.formats import InputError
from tapeout.formats.format import FloatFormat, IntegerFormat
from tapeout.simulator import (
    Chain,
    DotUnit,
    Fused,
    Integer,
    Tree,
    TwoStage,
    list_chips,
    load_chip,
)
from tapeout.simulator.verification import (
    Policy,
    compare,
    find_unit,
    find_units,
    golden_text,
    list_units,
    make_cases,
    read_vectors,
    simulate,
    simulate_exactly,
)
from tapeout.simulator.verification.space import exponent_range

SHARP = 5000
#: One unit of each row of each chip: (chip, number, a, b).
ROWS = [
    (u.chip, f"{u.number}:{u.a},{u.b}")
    for name in list_chips()
    for u in {c.number: c for c in reversed(list_units(load_chip(name)))}.values()
]
FAMILIES = list({load_chip(chip).matrix_units[int(text.split(":")[0]) - 1].order: (chip, text)
                 for chip, text in reversed(ROWS)}.values())  # fmt: skip


def write(tmp_path: Path, chip: str, text: str, cases: int = 60, seed: int = 3) -> Path:
    chosen = find_unit(load_chip(chip), text)
    drawn = make_cases(chosen.unit, cases, seed)
    path = tmp_path / "golden.vectors"
    results = simulate(chosen.unit, drawn, seed)
    path.write_text(golden_text(chosen, drawn, results, seed, "1"))
    return path


@pytest.mark.parametrize(("chip", "text"), ROWS)
def test_every_unit_there_and_back(tmp_path: Path, chip: str, text: str) -> None:
    path = write(tmp_path, chip, text)
    vectors = read_vectors(path)
    chosen = find_unit(load_chip(chip), text)
    drawn = make_cases(chosen.unit, 60, 3)
    for x, y in (
        (vectors.cases.a, drawn.a),
        (vectors.cases.b, drawn.b),
        (vectors.cases.c, drawn.c),
    ):
        assert np.array_equal(x, y)
    again = simulate(chosen.unit, vectors.cases, int(vectors.header["seed"]))
    assert compare(vectors.results, again, chosen.unit.output, Policy(strict_nan=True)).differ == 0
    assert write(tmp_path, chip, text).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("chip", "text"), FAMILIES)
def test_results_are_those_of_the_exact_reference(chip: str, text: str) -> None:
    unit = find_unit(load_chip(chip), text).unit
    cases = make_cases(unit, 300, 1)
    result = compare(simulate_exactly(unit, cases, 1), simulate(unit, cases, 1), unit.output)
    assert (result.compared, result.differ) == (300, 0)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda s: s.replace("tapeout vectors", "testfloat"), "line 1: is not"),
        (lambda s: s[:-20], "line 76: ends within a line"),
        (lambda s: "".join(s.splitlines(True)[:-3]), "57 dot products where the header says"),
        (lambda s: s.replace("// k: 16\n", ""), "the header lacks k"),
        (lambda s: s.replace("// k: 16", "// k: 15"), "words where the header says 32"),
        (lambda s: s.replace("// k: 16", "// k: many"), 'k: "many" is not a whole number'),
        (lambda s: s.replace("// seed", "// sede"), "is not one of // key: value"),
        (lambda s: flip(s), "sha256 is not that of the lines below"),
        (lambda s: s[:-2] + "g\n", "is not a code of float32"),
        (lambda s: s[:-2] + "\n", "is not a code of float32"),
        (lambda s: s + "\u00e9", "cannot be read as golden vectors"),
    ],
)  # fmt: skip
def test_damaged_file_is_refused_with_line_and_reason(tmp_path: Path, damage, told: str) -> None:  # type: ignore[no-untyped-def]
    path = write(tmp_path, "nvidia-a100", "2")
    path.write_text(damage(path.read_text()), encoding="utf-8")
    with pytest.raises(InputError) as refusal:
        read_vectors(path)
    assert told in str(refusal.value) and str(path) in str(refusal.value)


def flip(text: str) -> str:
    """One digit of the last result changed."""
    return text[:-2] + ("0" if text[-2] != "0" else "1") + "\n"


def test_body_is_plain_hexadecimal_with_the_stated_hash(tmp_path: Path) -> None:
    lines = write(tmp_path, "nvidia-a100", "1").read_text().splitlines()
    body = [line for line in lines if not line.startswith("//")]
    digest = hashlib.sha256("".join(f"{line}\n" for line in body).encode()).hexdigest()
    assert f"// sha256: {digest}" in lines and len(body) == 60
    assert all(len(line.split()) == 2 * 16 + 2 for line in body)  # tf32 in 5 digits
    assert all(len(w) == 5 for w in body[0].split()[:32]) and len(body[0].split()[-1]) == 8


@pytest.mark.parametrize(
    ("text", "told"),
    [("mma.sync", "is ambiguous"), ("wgma", "did you mean"), ("e4m3", "is not one of"),
     ("e4m3,e9", "e9"), ("wgmma:e4m3", "a,b or a,b,output"), ("77", "is not one of")],
)  # fmt: skip
def test_unknown_or_ambiguous_unit_lists_the_choices(text: str, told: str) -> None:
    with pytest.raises(InputError) as refusal:
        find_unit(load_chip("nvidia-h100"), text)
    assert told in str(refusal.value)


def test_unit_by_formats_instruction_or_number() -> None:
    h100 = load_chip("nvidia-h100")
    assert find_unit(h100, "e4m3,e4m3,float32").instruction == "wgmma"
    assert find_unit(h100, "mma.sync:e4m3,e5m2,float16").row.output == "float16"
    assert find_unit(h100, "5:e4m3,e5m2").b == "float8_e5m2"
    assert len(find_units(h100, "wgmma")) == 16


def test_cases_are_there_for_every_kind_of_corner() -> None:
    unit = find_unit(load_chip("nvidia-h100"), "4").unit
    cases = make_cases(unit, SHARP)
    results = simulate(unit, cases).astype(np.uint32).view(np.float32)
    a = (cases.a.astype(np.uint32) << 16).view(np.float32)
    assert np.isnan(results).sum() > 20 and np.isinf(results).sum() > 20
    assert (results == 0).sum() > 100
    assert ((a != 0) & (abs(a) < 2.0**-126)).sum() > 100 and np.isinf(a).sum() > 20
    assert ((results != 0) & (abs(results) < 2.0**-126)).sum() > 100
    assert np.array_equal(make_cases(unit, SHARP).a, cases.a)
    assert not np.array_equal(make_cases(unit, SHARP, 1).a, cases.a)


def changed(unit: DotUnit, **fields: object) -> DotUnit:
    order = type(unit.order).model_validate(unit.order.model_dump() | fields)
    return replace(unit, order=order)


def mutants(unit: DotUnit) -> dict[str, DotUnit]:
    """The unit with one parameter changed, where that changes its function."""
    order, found = unit.order, {}
    if isinstance(order, Fused):
        for step in (-1, 1):
            found[f"F {step:+d}"] = changed(unit, fraction_bits=order.fraction_bits + step)
            limit = order.min_exponent + step
            if reaches(unit, order, limit):
                found[f"least exponent {step:+d}"] = changed(unit, min_exponent=limit)
        found["block half"] = changed(unit, block=max(order.block // 2, 4))
        found["block double"] = changed(unit, block=order.block * 2)
        other = "nearest_even" if order.rounding == "toward_zero" else "toward_zero"
        found["rounding"] = changed(unit, rounding=other)
        k = order.block
        if order.scale is None:
            found["order of blocks"] = replace(unit, k_order=(*range(k, 2 * k), *range(k)))
    if isinstance(order, Chain) and not order.random_bits:
        others = {"toward_zero", "up", "down", "to_odd", "nearest_away", "nearest_even"}
        if order.accumulator != "float64":
            for rounding in sorted(others - {order.rounding}):
                found[rounding] = changed(unit, rounding=rounding)
            if not products_are_exact(unit):
                found["unfused"] = changed(unit, fused=False)
        found["lanes"] = changed(unit, lanes=1 if order.lanes > 1 else 2)
        if order.accumulator == "float32" and (unit.promotion is None or least_bit(unit) < -126):
            found["flush"] = changed(unit, flush=not order.flush)
        found["k order"] = replace(unit, k_order=() if unit.k_order else (2, 3, 0, 1))
    if isinstance(order, Integer):
        other = "wrap" if order.overflow == "saturate" else "saturate"
        if unit.a.bits == 8 or order.overflow == "saturate":
            found["overflow"] = changed(unit, overflow=other)
    if isinstance(order, Tree):
        found["rounding"] = changed(unit, rounding="toward_zero")
        found["group"] = changed(unit, group=2 * order.group)
        found["flush"] = changed(unit, flush=not order.flush)
    if isinstance(order, TwoStage):
        for step in (-1, 1):
            found[f"F {step:+d}"] = changed(unit, fraction_bits=order.fraction_bits + step)
        found["block double"] = changed(unit, block=2 * order.block)
        found["rounding"] = changed(unit, rounding="toward_zero")
    if unit.promotion is not None and unit.promote_every is not None and unit.split is None:
        found["no promotion"] = replace(unit, promote_every=None, promotion=None)
        found["promotion later"] = replace(unit, promote_every=2 * unit.promote_every)
    return {name: mutant for name, mutant in found.items() if mutant != unit}


def least_bit(unit: DotUnit) -> int:
    """The exponent of the bit that divides every product."""
    return sum(f.grid.min_exponent - f.grid.subnormal_fraction_bits for f in (unit.a, unit.b))


def products_are_exact(unit: DotUnit) -> bool:
    """Whether no product needs rounding, so that rounding it changes nothing."""
    room = unit.order.result.grid
    largest = unit.a.grid.largest * unit.b.grid.largest
    return (
        unit.a.precision + unit.b.precision <= room.fraction_bits + 1
        and least_bit(unit) >= room.min_exponent - room.subnormal_fraction_bits
        and largest <= room.largest
    )


def reaches(unit: DotUnit, order: Fused, limit: int) -> bool:
    """Whether some product is below both least exponents, and has bits below what they keep."""
    highest = max(order.min_exponent, limit)
    assert isinstance(unit.a, FloatFormat) and isinstance(unit.b, FloatFormat)
    least = unit.a.min_exponent + unit.b.min_exponent
    last = exponent_range(unit.a)[0] + exponent_range(unit.b)[0]
    return least < highest and highest - order.fraction_bits > last


#: Between them all families; the other chips are told apart nightly.
OFTEN = {
    "nvidia-h100", "nvidia-b200", "amd-mi100", "amd-mi250x", "amd-mi300x", "intel-sapphire-rapids",
    "arm-neoverse", "generic-fp8-sr", "generic-int4",
}  # fmt: skip


@pytest.mark.parametrize(
    ("chip", "text"),
    [row if row[0] in OFTEN else pytest.param(*row, marks=pytest.mark.slow) for row in ROWS],
)
def test_vectors_tell_every_mutant_of_a_unit(chip: str, text: str) -> None:
    unit = find_unit(load_chip(chip), text).unit
    cases = make_cases(unit, SHARP)
    right = simulate(unit, cases)
    found = {
        name: compare(right, simulate(mutant, cases), unit.output).differ
        for name, mutant in mutants(unit).items()
    }
    assert [name for name, differ in found.items() if not differ] == []


def test_integer_mutants_of_saturating_blocks_are_told() -> None:
    int8, uint8 = IntegerFormat("int8", 8), IntegerFormat("uint8", 8, signed=False)
    order = Integer(order="integer", overflow="saturate", block=4)
    unit = DotUnit(uint8, int8, IntegerFormat("int32", 32), order)
    cases = make_cases(unit, SHARP)
    right = simulate(unit, cases)
    for wrong in ({"block": 8}, {"block": None}, {"overflow": "wrap"}):
        assert compare(right, simulate(changed(unit, **wrong), cases), unit.output).differ > 0
