"""The pages of formats: what the list, the facts, the tables and the figures say is so."""

import io
import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from rich.console import Console

from tapeout.__main__ import main
from tapeout.formats import FloatFormat, InputError, decode, get_format
from tapeout.formats.listing import (
    bits_text,
    code_rows,
    facts_of,
    family,
    is_blocked,
    list_names,
    parts_of,
)
from tapeout.formats.spacing import merged, spacing_rows, table_of
from tapeout.reports.format_figure import write_figure
from tapeout.reports.format_page import fact_text, power_text, print_format, print_list


class Ended(NamedTuple):
    """What a command left: exit code, output, error stream."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]
NAMES = list_names()
CUSTOM = ["e4m3fnuz", "e5m7", "e11m40", "int6", "uint5", "uint12"]


@pytest.fixture
def tapeout(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `tapeout formats ...` in this process, 80 columns wide."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["tapeout", "formats", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        captured = capsys.readouterr()
        return Ended(code if isinstance(code, int) else 1, captured.out, captured.err)

    return run


def page(fmt: Any, every: bool = False, width: int = 80) -> str:
    console = Console(width=width, markup=False, highlight=False, file=io.StringIO())
    print_format(fmt, every, console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_e4m3_reads_as_its_specification_prints_it(tapeout: Command) -> None:
    """Table 2 of OFP8: largest 448 = S.1111.110, least normal 2^-6, least 2^-9, NaN S.1111.111."""
    out = tapeout("e4m3").out
    for line in (
        "float8_e4m3fn: float, 8 bits",
        "  also called        e4m3, e4m3fn",
        "  exponent bias      7",
        "  largest            448",
        "  smallest normal    2^-6 = 0.015625",
        "  smallest positive  2^-9 = 0.001953125",
        "  codes              256: 252 nonzero, 2 zero, 0 infinite, 2 NaN",
    ):
        assert line in out.splitlines()
    for cell in ("7E  0 1111 110           448", "FE  1 1111 110          -448",
                 "01  0 0000 001   0.001953125", "08  0 0001 000      0.015625",
                 "7F  0 1111 111           NaN", "80  1 0000 000            -0"):  # fmt: skip
        assert cell in out, cell
    assert "2^-9  2^0   ████" in out and "2^8  2^-3  ████" in out


@pytest.mark.parametrize("name", [n for n in [*NAMES, *CUSTOM] if not is_blocked(get_format(n))])
def test_facts_and_codes_are_those_of_decoding(name: str) -> None:
    fmt: Any = get_format(name)
    facts, rows = facts_of(fmt), code_rows(fmt)
    for row in rows:
        assert int(row.bits.replace(" ", "").replace(".", ""), 2) == row.code
        value = decode(row.code, fmt)
        assert value == row.value or (math.isnan(value) and math.isnan(row.value))
        assert math.copysign(1, value) == math.copysign(1, row.value) or math.isnan(value)
    if fmt.bits > 16:
        assert {"zero", "largest"} <= {row.label for row in rows} and "finite_values" not in facts
        return
    values = np.asarray(decode(np.arange(2**fmt.bits, dtype=np.uint16), fmt), np.float64)
    finite = values[np.isfinite(values)]
    assert len(rows) == 2**fmt.bits or fmt.bits > 8
    assert facts["codes"] == 2**fmt.bits and facts["finite_values"] == len(set(finite.tolist()))
    assert facts["nan_codes"] == np.isnan(values).sum()
    assert facts["infinity_codes"] == np.isinf(values).sum()
    smallest = facts.get("min_subnormal", facts.get("smallest"))
    if (finite > 0).any():
        assert smallest == pytest.approx(finite[finite > 0].min(), rel=1e-7)


@pytest.mark.parametrize("name", ["e4m3", "e2m1", "int8", "bfloat16", "linear2_4bit", "uint5"])
def test_spacing_is_the_gap_over_the_value(name: str) -> None:
    fmt = get_format(name)
    values = np.asarray(decode(np.arange(2**fmt.bits, dtype=np.uint16), fmt), np.float64)
    positive = sorted({v for v in values.tolist() if 0 < v < math.inf})
    want: dict[int, list[float]] = {}
    for low, high in pairwise(positive):
        want.setdefault(math.frexp(low)[1] - 1, []).append((high - low) / low)
    got = {row.first: (row.widest, row.finest) for row in spacing_rows(fmt)}
    assert got == {e: (max(shares), min(shares)) for e, shares in want.items()}


@pytest.mark.parametrize(
    ("name", "subnormal", "fraction", "binades"),
    [("float32", -149, 23, (-149, 127)), ("float64", -1074, 52, (-1074, 1023)),
     ("int32", 0, 31, (0, 30))],
)  # fmt: skip
def test_spacing_of_wide_formats_follows_from_their_fields(
    name: str, subnormal: int, fraction: int, binades: tuple[int, int]
) -> None:
    rows = spacing_rows(get_format(name))
    assert (rows[0].first, rows[-1].first) == binades
    for row in rows:
        assert row.widest == 2.0 ** max(subnormal - row.first, -fraction)
    assert sum(row.last - row.first + 1 for row in merged(rows)) == len(rows)
    assert len(merged(rows)) <= 54


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", [*NAMES, *CUSTOM])
def test_every_page_fits_its_terminal(name: str, width: int) -> None:
    text = page(get_format(name), width=width)
    long = [line for line in text.splitlines() if len(line) > width]
    assert not long, long
    assert "source" in text


def test_list_names_every_format_and_fits(tapeout: Command) -> None:
    listed = tapeout()
    assert listed.code == 0 and all(name in listed.out for name in NAMES)
    rows = json.loads(tapeout("--json").out)
    assert [row["name"] for row in rows] == NAMES
    e4m3 = next(row for row in rows if row["name"] == "float8_e4m3fn")
    assert e4m3 == {
        "name": "float8_e4m3fn", "family": "float", "bits": 8, "largest": 448.0,
        "min_normal": 2.0**-6, "min_subnormal": 2.0**-9, "precision": 4, "codes": 256,
        "source": "OCP 8-bit Floating Point Specification (OFP8) rev. 1.0",
    }  # fmt: skip
    for width in (80, 120):
        shown = io.StringIO()
        print_list([get_format(name) for name in NAMES], Console(width=width, file=shown))
        text = shown.getvalue()
        assert all(name in text for name in NAMES)
        assert max(map(len, text.splitlines())) <= width + 8


@pytest.mark.parametrize("name", [*NAMES, *CUSTOM])
def test_json_holds_the_facts_the_table_and_the_spacing(name: str) -> None:
    fmt: Any = get_format(name)
    document = json.loads(json.dumps(table_of(fmt), allow_nan=False))
    assert document["name"] == fmt.name and document["bits"] == fmt.bits
    if is_blocked(fmt):
        assert set(document["parts"]) == set(parts_of(fmt))
        assert document["parts"]["element"]["table"]
        return
    assert all({"code", "bits", "value"} <= set(row) for row in document["table"])
    assert (len(document["table"]) == 2**fmt.bits) == (fmt.bits <= 8)


def test_all_prints_every_code_of_sixteen_bits_and_refuses_more(tapeout: Command) -> None:
    out = tapeout("float16", "--all").out
    assert re.search(r"7BFF  0 11110 1111111111 +65504\b", out) and "FFFF  1 11111" in out
    rows = json.loads(tapeout("float16", "--all", "--json").out)["table"]
    assert len(rows) == 2**16 and rows[0x7C00]["value"] == "inf" and rows[0xFFFF]["value"] == "nan"
    with pytest.raises(InputError, match="tfloat32 has 19 bits; --all prints formats of up to 16"):
        code_rows(get_format("tfloat32"), every=True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--all",), "--all needs the NAME"),
        (("--figure", "x.svg"), "--figure needs the NAME"),
        (("float32", "--all"), "float32 has 32 bits; --all prints formats of up to 16 bits"),
        (("e4m3", "--figure", "x.pdf"), "must end in .svg or .png"),
        (("e4m3", "--figure", "absent/x.svg"), "cannot be written: No such file"),
        (("e4m4m4",), '"e4m4m4"'),
    ],
)
def test_mistakes_are_one_line_and_print_nothing(
    tapeout: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...], told: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    ended = tapeout(*arguments)
    assert ended.code == 2 and ended.out == "" and not list(tmp_path.iterdir())
    assert ended.err.startswith("error: ") and ended.err.count("\n") == 1 and told in ended.err


@pytest.mark.parametrize("name", ["e4m3", "float64", "bfloat16", "e8m0", "linear2_3bit", "uint5"])
def test_figures_are_written_and_repeat_themselves(name: str, tmp_path: Path) -> None:
    fmt: Any = get_format(name)
    first = write_figure(fmt, tmp_path / "a.svg").read_bytes()
    assert write_figure(fmt, tmp_path / "b.svg").read_bytes() == first
    assert first.startswith(b"<?xml") and fmt.name.encode() in first
    assert b"#000001" not in first  # the page's stand-ins for colours
    assert write_figure(fmt, tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_command_draws_the_figure(tapeout: Command, tmp_path: Path) -> None:
    path = tmp_path / "spacing.svg"
    assert f"figure: {path}" in tapeout("e5m2", "--figure", path).out.replace("\n", "")
    assert path.stat().st_size > 1000


E2M1, E8M0 = get_format("e2m1"), get_format("e8m0")


@dataclass(frozen=True)
class StrangeFormat:
    """A family that nobody has heard of."""

    name: str = "strange"
    bits: int = 5
    depth: float = 0.5
    source: str = "nowhere"


@dataclass(frozen=True)
class StrangeBlocks:
    """Blocks of known parts by an unknown rule."""

    name: str = "strange_blocks"
    bits: int = 4
    element: Any = E2M1
    scale: Any = E8M0
    block: tuple[int | None, ...] = (None, 16)


def test_families_without_knowledge_have_a_page() -> None:
    text = page(StrangeFormat())
    assert "strange: strange, 5 bits" in text and "depth" in text
    assert family(StrangeFormat()) == "strange" and table_of(StrangeFormat())["table"] == []
    text = page(StrangeBlocks())
    assert "element: float4_e2m1fn" in text and "scale: float8_e8m0fnu" in text
    assert "6  0 11 0     4" in text
    with pytest.raises(InputError, match="strange has no two positive values"):
        write_figure(StrangeFormat(), Path("never.svg"))


def test_texts_of_numbers_and_bits() -> None:
    assert [power_text(v) for v in (2.0**-9, 0.5, 1.0, 64.0, 128.0, 3.0)] == [
        "2^-9", "", "", "", "2^7", ""
    ]  # fmt: skip
    assert fact_text(2.0**-126) == "2^-126 = 1.1754943508222875e-38"
    assert (fact_text(True), fact_text(65504.0), fact_text([1, 2])) == ("yes", "65504", "1, 2")
    assert bits_text(FloatFormat("u", 4, 3, signed=False), 0x35) == "0110 101"
    assert bits_text(get_format("int4"), 9) == "1001"
