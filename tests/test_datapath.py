"""The drawings: every number of a row is in them, the lines meet, and 80 columns are enough."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tapeout.__main__ import cli
from tapeout.formats import InputError
from tapeout.simulator import list_chips, load_chip
from tapeout.simulator.datasheet import select_units, short_name, short_order, summarize_units
from tapeout.simulator.drawing import draw_datapath
from tapeout.simulator.stages import draw_unit
from tapeout.simulator.units import MatrixUnit

UNITS = [
    (name, number) for name in list_chips() for number in range(len(load_chip(name).matrix_units))
]
NAMED = [load_chip(name).matrix_units[number] for name, number in UNITS]
DOTS: dict[str, dict[str, Any]] = {
    "chain": {"order": "chain", "accumulator": "bfloat16"},
    "fused": {
        "order": "fused", "block": 64, "fraction_bits": 30, "min_exponent": -139, "group": 16,
        "accumulator": "float32", "scale": {"format": "float8_e4m3fn", "block": 16},
    },
    "two_stage": {
        "order": "two_stage", "block": 16, "lanes": 2, "fraction_bits": 24, "guard_bits": 32,
        "sum_bits": 31, "drop_c": 25, "accumulator": "float32",
    },
    "tree": {"order": "tree", "group": 8, "leaf": 2, "accumulator": "float32", "flush": True},
    "exact": {"order": "exact", "block": 4, "accumulator": "float32"},
}  # fmt: skip
#: Another value for each setting; every one of them must be seen in the drawing.
CHANGES: dict[str, dict[str, Any]] = {
    "chain": {"accumulator": "float16", "rounding": "up", "fused": False, "lanes": 2},
    "fused": {
        "block": 32, "fraction_bits": 29, "min_exponent": -133, "group": 8,
        "accumulator": "bfloat16", "rounding": "nearest_even",
        "scale": {"format": "float8_e8m0fnu", "block": 32},
    },
    "two_stage": {
        "block": 8, "lanes": 1, "fraction_bits": 23, "guard_bits": 31, "sum_bits": None,
        "drop_c": None, "rounding": "toward_zero", "accumulator": "bfloat16",
    },
    "tree": {
        "group": 4, "leaf": 1, "accumulator": "bfloat16", "rounding": "to_odd", "flush": False,
        "flushed_inputs": "positive", "overflow": "infinity", "tininess": "before",
    },
    "exact": {"block": 8, "accumulator": "bfloat16", "rounding": "toward_zero"},
}  # fmt: skip
AROUND: list[dict[str, Any]] = [
    {"promotion": {"every": 64, "accumulator": "float32"}},
    {"promotion": {"every": 128, "accumulator": "float32"}},
    {"promotion": {"every": 128, "accumulator": "float32", "rounding": "toward_zero"}},
    {"k_order": [1, 0]},
    {"k_order": "descending"},
    {"k_order": {"name": "interleaved", "stride": 8}},
    {"k_order": {"name": "interleaved", "stride": 4}},
    {"split_k": {"parts": 4, "accumulator": "float32"}},
    {"split_k": {"parts": 8, "accumulator": "float32"}},
    {"split_k": {"parts": 8, "accumulator": "float32", "c": "last"}},
    {"split_k": {"parts": 8, "accumulator": "float32", "pattern": "interleaved"}},
    {"split_k": {"parts": 8, "accumulator": "float32", "combine": "pairwise"}},
    {"split_k": {"parts": 8, "accumulator": "float32", "combine": "permutation", "seed": 3}},
]


def unit_of(dot: dict[str, Any], **around: Any) -> MatrixUnit:
    evidence = [{"of": ["*"], "basis": "assumed", "source": "a row of this test"}]
    row = {"instructions": ["dot"], "a": ["float4_e2m1fn"], "b": ["float4_e2m1fn"]}
    return MatrixUnit.model_validate(
        row | {"output": dot["accumulator"], "dot": dot, "evidence": evidence} | around
    )


def draw(unit: MatrixUnit) -> str:
    return draw_datapath(draw_unit(unit))


@pytest.mark.parametrize("unit", NAMED, ids=[f"{name} {number + 1}" for name, number in UNITS])
def test_drawing_of_every_unit_holds_together(unit: MatrixUnit) -> None:
    text = draw(unit)
    lines = text.split("\n")
    assert max(map(len, lines)) <= 80
    grid = [line.ljust(80) for line in lines]
    for y, line in enumerate(grid):
        for x, sign in enumerate(line):
            if sign == "▼":  # every arrow comes from a line above it
                assert grid[y - 1][x] in "│├┬", (y, x)
            if sign in "┬├" and grid[y][x - 1] != "◄":  # and every output goes on below
                assert grid[y + 1][x] in "│├▼", (y, x)
            if sign == "┘" and grid[y][x - 1] == "─" and x > 54:  # feedback goes up to its box
                assert line.index("├") < x
                up = next(row for row in range(y - 1, 0, -1) if grid[row][x] != "│")
                assert grid[up][x - 1 : x + 1] == "◄┬"
    assert lines[-1].strip() == f"D, {unit.unit(unit.a[0], unit.b[0], 'unit').accumulator.name}"
    assert text.count("◄") == len(draw_unit(unit).entries)


@pytest.mark.parametrize("unit", NAMED, ids=[f"{name} {number + 1}" for name, number in UNITS])
def test_drawing_has_the_numbers_of_the_row(unit: MatrixUnit) -> None:
    text = " ".join(draw(unit).replace("│", " ").split())
    dot = unit.dot.model_dump()
    shown = [dot["accumulator"], *(dot.get(key) for key in ("fraction_bits", "guard_bits"))]
    shown += [dot.get(key) for key in ("min_exponent", "sum_bits", "drop_c", "group")]
    shown += [unit.promotion.every if unit.promotion else None]
    shown += [dot.get("rounding"), "C, "]
    shown += [dot["scale"]["format"], dot["scale"]["block"]] if dot.get("scale") else []
    for value in shown:
        if value is not None:
            assert str(value) in text, value


@pytest.mark.parametrize("family", DOTS)
def test_every_setting_is_seen(family: str) -> None:
    plain = unit_of(DOTS[family])
    seen = {draw(plain)}
    for key, value in CHANGES[family].items():
        seen.add(draw(unit_of(DOTS[family] | {key: value})))
    assert len(seen) == 1 + len(CHANGES[family])


def test_what_surrounds_an_order_is_seen() -> None:
    drawn = {draw(unit_of(DOTS["exact"], **around)) for around in ({}, *AROUND)}
    assert len(drawn) == 1 + len(AROUND)
    whole = draw(unit_of(DOTS["exact"], **AROUND[0], **AROUND[3], **AROUND[7]))
    steps = ("ORDER OF K", "SPLIT K", "MULTIPLY", "PROMOTE", "COMBINE")
    order = [whole.index(step) for step in steps]
    assert order == sorted(order)


def test_c_enters_once_and_inner_sums_start_from_zero() -> None:
    for unit in NAMED:
        starts = [entry.start for entry in draw_unit(unit).entries]
        assert sum(start.startswith("C,") for start in starts) == 1
        if unit.promotion is not None:
            assert any(start.startswith("+0") for start in starts)


def tapeout(*arguments: str, width: int = 80) -> str:
    done = CliRunner(env={"COLUMNS": str(width)}).invoke(cli, ["chips", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("width", [80, 120])
def test_pages_fit_the_terminal_and_tell_everything(width: int) -> None:
    for name in ("nvidia-b200", "amd-mi300x", "intel-diamond-rapids", "tenstorrent-wormhole"):
        page, chip = tapeout(name, width=width), load_chip(name)
        assert max(map(len, page.split("\n"))) <= width
        flat = " ".join(page.split())
        for number, unit in enumerate(chip.matrix_units, 1):
            assert f"[{number}] {unit.instruction}" in flat
            assert all(" ".join(entry.source.split()) in flat for entry in unit.evidence)
        for sentence in chip.conversion_unit.assumptions():
            assert sentence.split(": ", 1)[1] in flat
        assert page.index("MATRIX UNITS") < page.index("ASSUMPTIONS") < page.index("DATAPATHS")


def test_listing_names_makers_formats_and_counts() -> None:
    text, rows = tapeout(), json.loads(tapeout("--json"))
    assert [row["name"] for row in rows] == list_chips()
    for row in rows:
        chip = load_chip(row["name"])
        counts = chip.count_evidence()
        assert row["vendor"] == chip.rows.vendor and row["evidence"] == counts
        assert row["operands"] == chip.operands() and row["aliases"] == list(chip.rows.aliases)
        line = next(line for line in text.split("\n") if line.strip().startswith(chip.name + " "))
        assert chip.rows.architecture in line
        assert f"{counts['measured']} measured, {counts['documented']} documented" in line
    assert max(map(len, text.split("\n"))) <= 80


def test_unit_option_selects_by_number_instruction_or_format() -> None:
    chip = load_chip("nvidia-h100")
    assert select_units(chip, "5") == [5]
    assert select_units(chip, "e4m3") == select_units(chip, "float8_e4m3fn") == [5, 6, 7, 8]
    assert set(select_units(chip, "wgmma")) >= {1, 2, 3, 4, 5, 6}
    page = tapeout("nvidia-h100", "--unit", "8")
    assert "[8] mma.sync" in page and "[5]" not in page and "VECTOR UNIT" not in page
    with pytest.raises(InputError, match=r"unit = \"99\" is not one of 1 to 13.*wgmma"):
        select_units(chip, "99")
    refused = CliRunner().invoke(cli, ["chips", "--unit", "5"])
    assert refused.exit_code == 2 and "NAME" in refused.output


def test_toml_option_prints_a_file_to_start_from(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = tapeout("nvidia-h200", "--toml")
    path.write_text(text.replace("fraction_bits = 13", "fraction_bits = 12"))
    mine, theirs = load_chip(path), load_chip("nvidia-h100")
    assert mine.name == "nvidia-h100" and len(mine.matrix_units) == len(theirs.matrix_units)
    assert "F = 12 bits" in tapeout(str(path), "--unit", "5")
    again = tapeout(str(path), "--toml")
    assert again == path.read_text() and "# " in again


def test_short_words_of_the_table() -> None:
    assert [short_name(name) for name in ("float8_e4m3fn", "bfloat16", "e8m13", "int8")] == [
        "e4m3", "bf16", "e8m13", "int8",
    ]  # fmt: skip
    h100, mi300x = load_chip("nvidia-h100"), load_chip("amd-mi300x")
    assert short_order(h100.matrix_units[4]) == "fused 32, F 13, RZ"
    assert short_order(h100.matrix_units[6]) == "fused 16, F 25, RZ, promoted /32"
    assert short_order(mi300x.matrix_units[3]) == "two_stage 16, F 24, RNE, 2 lanes"
    bases = {line.number: line.basis for line in summarize_units(h100)}
    assert (bases[3], bases[5], bases[6], bases[8]) == (
        "partly measured", "partly measured", "assumed", "measured",
    )  # fmt: skip
