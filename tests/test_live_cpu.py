"""The processor under the tests as an oracle: each x86 instruction it has, against its unit."""

import numpy as np
import pytest

from tapeout.formats.format import IntegerFormat
from tapeout.simulator import Chain, DotUnit, Integer, list_chips, load_chip
from tapeout.simulator.units import arithmetic_format
from tapeout.simulator.verification import Policy, compare, make_cases, x86
from tapeout.simulator.verification.batch import Batch, make_batch, multiply
from tapeout.simulator.verification.x86_instructions import (
    INSTRUCTIONS,
    Instruction,
    machine_code,
)

MILLION = 2**20
IDS = [f"{row.form} {row.name} {row.a} {row.b}" for row in INSTRUCTIONS]
TILES = [row for row in INSTRUCTIONS if row.tile]


def unit_of(row: Instruction) -> DotUnit:
    """The unit of a library chip, or, where no chip has it, what the manual says."""
    for name in list_chips():
        for unit in load_chip(name).matrix_units:
            if row.name in unit.instructions and row.a in unit.a and row.b in unit.b:
                return unit.unit(row.a, row.b, name)
    a, b, output = (arithmetic_format(name) for name in (row.a, row.b, row.output))
    if isinstance(a, IntegerFormat):
        overflow = "saturate" if row.name.endswith("ds") else "wrap"
        order = {"order": "integer", "overflow": overflow, "block": 4}
        return DotUnit(a, b, output, Integer.model_validate(order))
    step = {"order": "chain", "accumulator": row.output}
    if row.name != "tdpfp16ps":
        return DotUnit(a, b, output, Chain.model_validate(step))
    tile = Chain.model_validate(step | {"lanes": 2, "flush": True})
    promotion = Chain.model_validate(step | {"flush": True})
    return DotUnit(a, b, output, tile, 32, promotion)


def differing(row: Instruction, outputs: int, seed: int) -> tuple[int, int]:
    """Outputs compared with the silicon, and those that differ, the sign of zero included."""
    unit, compared, differ = unit_of(row), 0, 0
    lengths = x86.lengths(row)
    for k in lengths:
        for turn in range(-(-outputs // (len(lengths) * MILLION // 4))):
            size = min(MILLION // 4, outputs // len(lengths) + 256) // 16
            batch = make_batch(make_cases(unit, size, seed + turn, k))
            found = compare(x86.outputs(row, batch), multiply(unit, batch), unit.output, Policy())
            compared, differ = compared + found.compared, differ + found.differ
    return compared, differ


@pytest.mark.parametrize("row", INSTRUCTIONS, ids=IDS)
def test_unit_equals_the_processor(row: Instruction) -> None:
    if reason := x86.missing(row):
        pytest.skip(reason)
    outputs = MILLION if row.tile or row.a == "bfloat16" else MILLION // 16
    compared, differ = differing(row, outputs, 16)
    assert compared >= outputs and differ == 0


@pytest.mark.slow
@pytest.mark.parametrize("row", INSTRUCTIONS, ids=IDS)
def test_unit_equals_the_processor_in_millions(row: Instruction) -> None:
    if reason := x86.missing(row):
        pytest.skip(reason)
    outputs = 3 * MILLION if "VNNI" in row.form else 2 * MILLION
    compared, differ = differing(row, outputs, 1600)
    assert compared >= outputs and differ == 0


@pytest.mark.parametrize("row", [r for r in INSTRUCTIONS if r.name in ("vdpbf16ps", "vpdpbusds")])
def test_wrong_unit_differs_from_the_processor(row: Instruction) -> None:
    if reason := x86.missing(row):
        pytest.skip(reason)
    unit = unit_of(row)
    changed = {"flush": False} if row.a == "bfloat16" else {"overflow": "wrap"}
    order = type(unit.order).model_validate(unit.order.model_dump() | changed)
    wrong = DotUnit(unit.a, unit.b, unit.output, order, k_order=unit.k_order)
    batch = make_batch(make_cases(unit, 1024, 0, 4))
    assert compare(x86.outputs(row, batch), multiply(wrong, batch), unit.output).differ > 0


# SDM, opcodes of TDPxx tmm0, tmm1, tmm2: VEX.128.pp.0F38.W0, ~tmm2 in vvvv, ModRM C1.
ENCODING = {
    "tdpbf16ps": "c4e26a5cc1", "tdpfp16ps": "c4e26b5cc1", "tdpbssd": "c4e26b5ec1",
    "tdpbsud": "c4e26a5ec1", "tdpbusd": "c4e2695ec1", "tdpbuud": "c4e2685ec1",
}  # fmt: skip


@pytest.mark.parametrize("row", TILES, ids=[r.name for r in TILES])
def test_tile_code_is_the_instructions_of_the_manual(row: Instruction) -> None:
    assembly, code = machine_code(row)
    told = [line.split()[0] for line in assembly.splitlines() if line.startswith("\t")]
    tiled = [word for word in told if word.startswith(("tile", "tdp", "ldtile"))]
    assert tiled == ["ldtilecfg", *["tileloadd"] * 3, row.name, "tilestored", "tilerelease"]
    assert f"{row.name}\t%tmm2, %tmm1, %tmm0" in assembly
    assert ENCODING[row.name] in code.hex()


@pytest.mark.parametrize("row", INSTRUCTIONS, ids=IDS)
def test_code_of_every_instruction_is_emitted_on_any_machine(row: Instruction) -> None:
    assembly, code = machine_code(row)
    assert len(code) > 100 and row.name.split()[0] in assembly


def tile_by_the_manual(row: Instruction, batch: Batch) -> np.ndarray:
    """D by the pseudo-code of TDPBSSD (SDM), out of the very bytes that the instruction reads."""
    a, b, c, steps = x86.tile_layout(row, batch)
    config = x86.tile_configuration(row, min(batch.k, row.products)).tobytes()
    bytes_of = [int.from_bytes(config[16 + 2 * t : 18 + 2 * t], "little") for t in range(3)]
    rows_of = list(config[48:51])
    assert config[0] == 1 and not any(config[1:16] + config[22:48] + config[51:])
    assert (rows_of[0], bytes_of[0]) == (rows_of[1], bytes_of[2]) == (16, 64)
    assert bytes_of[1] == 4 * rows_of[2]
    kinds = [np.int8 if name == "int8" else np.uint8 for name in (row.a, row.b)]
    d = c.astype(np.int64)
    for t in range(len(d)):
        for s in range(steps):
            rows_a, rows_b = (
                np.frombuffer(x[t, s].tobytes(), kind).reshape(16, 64).astype(np.int64)
                for x, kind in ((a, kinds[0]), (b, kinds[1]))
            )
            for k in range(bytes_of[1] // 4):
                for i in range(4):
                    d[t] += np.outer(rows_a[:, 4 * k + i], rows_b[k].reshape(16, 4)[:, i])
    return d.astype(np.uint64) & np.uint64(2**32 - 1)


@pytest.mark.parametrize("k", [4, 32, 64, 128])
@pytest.mark.parametrize("name", ["tdpbssd", "tdpbsud", "tdpbusd", "tdpbuud"])
def test_bytes_of_a_tile_are_laid_out_as_the_manual_reads_them(name: str, k: int) -> None:
    row = next(r for r in INSTRUCTIONS if r.name == name)
    unit = unit_of(row)
    batch = make_batch(make_cases(unit, 48, k, k))
    assert np.array_equal(tile_by_the_manual(row, batch), multiply(unit, batch))


def test_worker_that_dies_is_a_reason_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    row = INSTRUCTIONS[0]
    batch = make_batch(make_cases(unit_of(row), 16, 0, 2))
    dies = "define void @run(ptr %a, ptr %b, ptr %c, ptr %d, ptr %t, i64 %g, i64 %s) {\n"
    dies += '  call void asm sideeffect "ud2", ""()\n  ret void\n}'
    monkeypatch.setattr(x86, "intermediate_code", lambda _: dies)
    with pytest.raises(RuntimeError, match="ended by signal 4"):
        x86.outputs(row, batch)
    monkeypatch.setattr(x86, "intermediate_code", lambda _: "nonsense")
    with pytest.raises(RuntimeError, match="vdpbf16ps"):
        x86.outputs(row, batch)


def test_machine_without_the_instruction_says_which_flag_it_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(x86, "processor", lambda: ("Toy CPU", frozenset({"avx512f"})))
    assert "Toy CPU has no AVX512-BF16 (avx512_bf16" in str(x86.missing(INSTRUCTIONS[0]))
    assert "amx_tile, amx_bf16" in str(x86.missing(TILES[0]))
