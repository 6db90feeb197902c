"""tapeout verify and tapeout vectors: exit codes, what they print, and the pure parts of a check.

No GPU is needed: a unit stands in the place of a library's matrix product.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from tapeout.__main__ import main
from tapeout.simulator import Chain, DotUnit, load_chip
from tapeout.simulator.chip import CHIPS
from tapeout.simulator.verification import (
    Check,
    Comparison,
    Policy,
    compare,
    cuda,
    exit_code,
    find_unit,
    make_cases,
    x86,
)
from tapeout.simulator.verification.batch import Batch, make_batch, multiply
from tapeout.simulator.verification.codes import Codes, to_codes
from tapeout.simulator.verification.library import Product, check_product, same_tree
from tapeout.simulator.verification.x86_instructions import INSTRUCTIONS


class Ended(NamedTuple):
    """What a command left: exit code, output, error stream."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def tapeout(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command line in this process, where every exception would surface."""

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["tapeout", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err)

    return run


def golden(tapeout: Command, folder: Path, chip: str = "nvidia-a100", unit: str = "2") -> Path:
    path = folder / "golden.vectors"
    assert tapeout("vectors", chip, unit, "--cases", 3000, "--out", path).code == 0
    return path


def test_golden_vectors_of_a_chip_verify_it(tapeout: Command, tmp_path: Path) -> None:
    path = golden(tapeout, tmp_path)
    ended = tapeout("verify", "nvidia-a100", "--vectors", path)
    assert ended.code == 0 and "3,000 outputs compared, 0 differ" in ended.out
    assert not list(tmp_path.glob("*.part"))


def test_wrong_profile_exits_with_1_and_shows_the_bits(tapeout: Command, tmp_path: Path) -> None:
    path = golden(tapeout, tmp_path)
    text = (CHIPS / "nvidia-a100.toml").read_text()
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(text.replace("fraction_bits = 24", "fraction_bits = 23"))
    ended = tapeout("verify", wrong, "--vectors", path)
    assert ended.code == 1 and "first difference of mma.sync" in ended.out
    assert "written by another profile" in ended.out
    told = json.loads(tapeout("verify", wrong, "--vectors", path, "--json").out)
    first = told["checks"][0]["first"]
    assert told["exit"] == 1 and told["differ"] == told["checks"][0]["differ"] > 0
    assert len(first["a"]) == len(first["b"]) == 16 and first["expected"] != first["got"]
    assert all(len(code) == 4 for code in first["a"]) and len(first["c"]) == 8


def test_json_has_a_fixed_shape(tapeout: Command, tmp_path: Path) -> None:
    told = json.loads(tapeout("verify", "nvidia-a100", "--vectors", golden(tapeout, tmp_path),
                              "--json").out)  # fmt: skip
    assert set(told) == {"chip", "seed", "exit", "compared", "differ", "checks"}
    assert set(told["checks"][0]) == {
        "unit", "number", "a", "b", "output", "k", "against", "status", "compared", "differ",
        "zero_signs", "first", "missing", "note",
    }  # fmt: skip
    assert told["checks"][0]["status"] == "equal" and told["checks"][0]["first"] is None


def test_missing_unit_exits_with_3(tapeout: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(x86, "processor", lambda: ("Toy CPU", frozenset()))
    ended = tapeout("verify", "intel-sapphire-rapids", "--unit", "tdpbf16ps")
    assert ended.code == 3 and "Toy CPU has no AMX-BF16" in ended.out
    nothing = tapeout("verify", "generic-int4", "--json")
    assert nothing.code == 3
    assert {c["status"] for c in json.loads(nothing.out)["checks"]} == {"unknown"}


def test_live_processor_through_the_command(tapeout: Command) -> None:
    row = next(r for r in INSTRUCTIONS if r.name == "vfmadd")
    if reason := x86.missing(row):
        pytest.skip(reason)
    ended = tapeout("verify", "intel-sapphire-rapids", "--unit", "vfmadd", "--cases", 5000)
    assert ended.code == 0 and " 0 differ" in ended.out and "EQUAL" in ended.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("verify", "nvidia-h10"), '(did you mean "nvidia-h100"?)'),
        (("verify", "nvidia-h100", "--vectors", "absent"), "absent: no such file or folder"),
        (("verify", "nvidia-h100", "--unit", "wgma"), '(did you mean "wgmma"?)'),
        (("verify", "intel-sapphire-rapids", "--cases", "0"), "cases = 0 must be at least 1"),
        (("vectors", "nvidia-h100", "mma.sync", "--out", "x"), "is ambiguous"),
        (("vectors", "nvidia-h100", "4", "--k", "0", "--out", "x"), "k = 0 must be at least 1"),
        (("vectors", "nvidia-h100", "4", "--seed", "-1", "--out", "x"), "seed = -1"),
        (("vectors", "nvidia-h100", "4", "--out", "no/such/x"), "cannot be written"),
    ],
)
def test_bad_input_is_one_line_and_exits_with_2(
    tapeout: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...],
    told: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    ended = tapeout(*arguments)
    assert ended.code == 2 and ended.out == "" and told in ended.err
    assert ended.err.startswith("error: ") and ended.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_file_of_another_chip_or_unit_is_refused(tapeout: Command, tmp_path: Path) -> None:
    path = golden(tapeout, tmp_path)
    other = tapeout("verify", "nvidia-v100", "--vectors", path)
    assert other.code == 2 and "chip: nvidia-a100 is not nvidia-v100" in other.err
    unit = tapeout("verify", "nvidia-a100", "--vectors", path, "--unit", "1")
    assert unit.code == 2 and "not the unit that was asked for" in unit.err
    path.write_text(path.read_text().replace("// instruction: mma.sync", "// instruction: wgmma"))
    absent = tapeout("verify", "nvidia-a100", "--vectors", path)
    assert absent.code == 2 and "has no unit wgmma:float16,float16,float32" in absent.err


def test_own_recordings_are_read_by_their_own_table(tapeout: Command, tmp_path: Path) -> None:
    def save(these: dict[str, Any]) -> None:
        np.savez(tmp_path / "mine.npz", **these)

    unit = load_chip("nvidia-v100").matrix_unit("float16", "float16", "float32")
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-8, 9, (50, 4)).astype(np.float32) / 8 for _ in range(2))
    c = rng.integers(-8, 9, 50).astype(np.float32)
    arrays = {"a": a.view(np.uint32), "b": b, "c": c, "d": unit.dot(a, b, c)}
    save(arrays)
    (tmp_path / "recordings.toml").write_text(
        '[[recordings]]\nfile = "mine.npz"\nchips = ["nvidia-v100"]\na = "float16"\nb = "fp16"\n'
        'source = "here"\noutputs = [{ array = "d", output = "float32" }]\n'
    )
    assert tapeout("verify", "nvidia-v100", "--vectors", tmp_path).code == 0
    save(arrays | {"d": -arrays["d"]})
    ended = tapeout("verify", "nvidia-v100", "--vectors", tmp_path / "mine.npz")
    assert ended.code == 1 and "DIFFERENT" in ended.out
    save(arrays | {"a": a + 1e-6})
    assert "not a value of float16" in tapeout("verify", "nvidia-v100", "--vectors", tmp_path).err
    (tmp_path / "mine.npz").write_bytes(b"PK\x03\x04 broken")
    assert "cannot be read as .npz" in tapeout("verify", "nvidia-v100", "--vectors", tmp_path).err


def test_policies_of_nan_and_zero() -> None:
    unit = find_unit(load_chip("nvidia-v100"), "1").unit
    expected = np.array([0x7FC00000, 0x00000000, 0x3F800000], np.uint64)
    got = np.array([0x7FFFFFFF, 0x80000000, 0x3F800000], np.uint64)
    assert compare(expected, got, unit.output) == Comparison(3, 1, 1, 1)
    assert compare(expected, got, unit.output, Policy(strict_nan=True)).differ == 2
    assert compare(expected, got, unit.output, Policy(signed_zero=False)).differ == 0
    both = Comparison(3, 0, 0, None) + Comparison(3, 1, 0, 2)
    assert (both.compared, both.first) == (6, 5)


def test_exit_code_of_mixtures() -> None:
    chosen = find_unit(load_chip("nvidia-v100"), "1")
    equal = Check(chosen, "x", 4, Comparison(1, 0, 0, None))
    different = Check(chosen, "x", 4, Comparison(1, 1, 0, 0))
    missing, unknown = Check(chosen, "x", 0, missing="no"), Check(chosen, "x", 0, missing="no",
                                                                  unknown=True)  # fmt: skip
    assert exit_code([equal]) == exit_code([equal, unknown]) == 0
    assert exit_code([equal, missing]) == exit_code([unknown]) == exit_code([]) == 3
    assert exit_code([missing, different, equal]) == 1


def stand_in(unit: DotUnit) -> Product:
    """A library's product that computes as `unit`."""
    return Product("stand-in", lambda batch: multiply(unit, batch))


def test_library_product_is_compared_where_its_order_is_the_units() -> None:
    chosen = find_unit(load_chip("nvidia-h100"), "e4m3,e4m3,float32")
    checks = list(check_product(chosen, stand_in(chosen.unit), 40_000, 0, Policy()))
    assert [check.k for check in checks] == [32, 64, 256]
    assert {check.status for check in checks} == {"equal"}
    order = chosen.unit.order.model_copy(update={"fraction_bits": 14})
    wrong = replace(chosen.unit, order=order)
    checks = list(check_product(chosen, stand_in(wrong), 40_000, 0, Policy()))
    assert checks[0].status == "different" and checks[0].first is not None


def test_library_that_sums_otherwise_is_told_not_compared() -> None:
    chosen = find_unit(load_chip("nvidia-h100"), "e4m3,e4m3,float32")
    split = replace(chosen.unit, k_order=tuple(range(0, 64, 2)) + tuple(range(1, 64, 2)))
    assert not same_tree(chosen.unit, stand_in(split).multiply, 64)
    checks = list(check_product(chosen, stand_in(split), 20_000, 0, Policy()))
    assert [check.status for check in checks[1:]] == ["missing", "missing"]


def test_promotion_interval_of_a_library_is_found() -> None:
    chosen = find_unit(load_chip("nvidia-h100"), "e4m3,e4m3,float32")
    step = Chain(order="chain", accumulator="float32")
    promoted = replace(chosen.unit, promote_every=128, promotion=step)
    product = replace(stand_in(promoted), promotes=True)
    checks = list(check_product(chosen, product, 20_000, 0, Policy()))
    assert checks[-1].status == "equal" and "every 128 products" in checks[-1].note


@pytest.mark.parametrize("fmt", ["float16", "bfloat16", "e4m3", "e5m2", "tfloat32", "int8"])
def test_codes_reach_torch_as_the_same_numbers(fmt: str) -> None:
    chip = load_chip("nvidia-h100")
    text = "wgmma:int8,int8" if fmt == "int8" else f"{fmt},{fmt},float32"
    chosen = find_unit(chip, text)
    batch = make_batch(make_cases(chosen.unit, 32, 0, 16))
    zero = replace(batch, c=np.zeros_like(batch.c))

    def exactly(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        one = Batch(batch.formats, codes(a)[None], codes(b)[None], zero.c[:1])
        d = multiply(chosen.unit, one)[0]
        kind = torch.int32 if fmt == "int8" else torch.float32
        return torch.from_numpy(d.astype(np.uint32).view(np.int32)).view(kind)

    def codes(x: torch.Tensor) -> Codes:
        return to_codes(x.to(torch.float64).numpy(), chosen.unit.a)

    call = cuda.Call("stand-in", (), (), chosen.row.output, exactly)
    got = cuda.run_on(call, batch, "cpu")
    assert compare(multiply(chosen.unit, zero), got, chosen.unit.output).differ == 0


def test_calls_go_to_the_units_that_libraries_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    h100 = load_chip("nvidia-h100")
    names = [c.name for c in cuda.calls_of(h100, find_unit(h100, "wgmma:e4m3,e5m2,float32"))]
    assert names == ["torch._scaled_mm, use_fast_accum", "torch._scaled_mm, no fast accum"]
    assert cuda.calls_of(h100, find_unit(h100, "mma.sync:e4m3,e4m3,float32")) == []
    assert cuda.calls_of(h100, find_unit(h100, "wgmma:e5m2,e5m2,float32")) == []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "compute capability 9.0" in str(cuda.missing(h100))
    assert "no compute capability is known" in str(cuda.missing(load_chip("ieee-float32")))


@pytest.mark.gpu
@pytest.mark.parametrize("name", sorted(cuda.CAPABILITIES))
def test_chip_equals_the_gpu_of_this_machine(tapeout: Command, name: str) -> None:
    reason = cuda.missing(load_chip(name)) if (CHIPS / f"{name}.toml").is_file() else "no profile"
    if reason:
        pytest.skip(reason)
    ended = tapeout("verify", name, "--json")
    assert json.loads(ended.out)["differ"] == 0 and ended.code in (0, 3)


def test_help_states_exit_codes_policies_and_examples(tapeout: Command) -> None:
    told = tapeout("verify", "--help").out
    assert "3  no difference, but this machine lacks" in told and "--strict-nan" in told
    assert "+0 and -0 differ" in told and "  tapeout verify " in told and "--json" in told
    assert "  tapeout vectors " in tapeout("vectors", "--help").out
