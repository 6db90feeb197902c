"""Golden vectors: dot products as text that a testbench reads as it is.

    // tapeout vectors 1
    // chip: nvidia-h100
    ...
    // sha256: <of all lines that do not begin with //>
    38 b8 ... 00 | as many words as `columns` says, one dot product a line

Each word is a code in hexadecimal, as wide as its format: `$readmemh` of Verilog and `fscanf`
with `%x` read the body, and `//` begins a comment. A file that other silicon or RTL has filled
keeps the header; only the last word of each line and the sha256 are its own:

    grep -v '^//' FILE | sha256sum
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...formats import InputError
from ...formats.format import ArithmeticFormat
from ..units import arithmetic_format
from .cases import Cases
from .codes import Codes, digits
from .scales import NAMES, ScaleRow, scale_of
from .selection import Chosen

MAGIC = "// tapeout vectors 1"
ZERO_POLICY = "any NaN equals any NaN unless --strict-nan; +0 and -0 differ"
#: Keys of the header in their order; a further key `origin` may say who filled the file.
KEYS = (
    "chip", "instruction", "a", "b", "output", "scale", "scale_block", "k", "order", "version",
    "seed", "cases", "columns", "compare", "sha256",
)  # fmt: skip


@dataclass(frozen=True)
class Vectors:
    """A file of golden vectors, read back."""

    header: dict[str, str]
    cases: Cases
    results: Codes
    first_line: int


def order_row(chosen: Chosen) -> str:
    """The values of a matrix unit that say how it sums, as JSON on one line."""
    apart = {"evidence", "instructions", "a", "b", "output", "default"}
    row = chosen.row.model_dump(mode="json", exclude=apart, exclude_none=True)
    return json.dumps({key: value for key, value in row.items() if value not in ((), [], {})})


def golden_text(chosen: Chosen, cases: Cases, results: Codes, seed: int, version: str) -> str:
    """The file of these cases; the same arguments give the same bytes."""
    unit = chosen.unit
    row = scale_of(unit)
    body = "".join(f"{line}\n" for line in _lines(cases, results, row))
    k, groups = cases.k, row.groups(cases.k) if row else 0
    scales = [f"{name}[0..{groups - 1}]" for name in NAMES] if row else []
    values: dict[str, Any] = {
        "chip": chosen.chip, "instruction": chosen.instruction, "a": chosen.a, "b": chosen.b,
        "output": chosen.row.output, "scale": row.fmt.name if row else "none",
        "scale_block": row.block if row else 0, "k": k, "order": order_row(chosen),
        "version": version, "seed": seed, "cases": len(cases),
        "columns": " ".join([f"a[0..{k - 1}] b[0..{k - 1}]", *scales, "c d"]),
        "compare": ZERO_POLICY, "sha256": hashlib.sha256(body.encode()).hexdigest(),
    }  # fmt: skip
    head = "".join(f"// {key}: {values[key]}\n" for key in KEYS)
    return f"{MAGIC}\n{head}{body}"


def _lines(cases: Cases, results: Codes, row: ScaleRow | None) -> list[str]:
    a, b, c = cases.formats
    columns = [(cases.a, a), (cases.b, b)]
    columns += [(codes, row.fmt) for codes in cases.scales.values()] if row else []
    columns += [(cases.c[:, None], c), (results[:, None], c)]
    parts = []
    for codes, fmt in columns:
        form = f"%0{digits(fmt)}x"
        parts.append([" ".join(form % code for code in line) for line in codes.tolist()])
    return [" ".join(words) for words in zip(*parts, strict=True)]


def read_vectors(path: Path) -> Vectors:
    """A file of `golden_text`.

    Raises:
        InputError: no such file, another kind of file, or a corrupted one: the line and why.
    """
    try:
        lines = path.read_bytes().decode("ascii").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as golden vectors: {error}") from None
    if lines[0].rstrip() != MAGIC:
        raise InputError(f'{path}, line 1: is not "{MAGIC}"; this is no file of golden vectors')
    header, start = _header(path, lines)
    body = [line.rstrip("\r") for line in lines[start:]]
    if body[-1] != "":
        raise InputError(f"{path}, line {len(lines)}: ends within a line; the file is truncated")
    body.pop()
    count = _number(path, header, "cases")
    if len(body) != count:
        raise InputError(
            f"{path}, line {start + len(body)}: {len(body)} dot products where the header says "
            f"cases: {count}; the file is truncated or joined"
        )
    cases, results = _parsed(path, header, body, start + 1)
    digest = hashlib.sha256("".join(f"{line}\n" for line in body).encode()).hexdigest()
    if digest != header["sha256"]:
        raise InputError(
            f"{path}, line {1 + list(header).index('sha256') + 1}: sha256 is not that of the "
            f"lines below, {digest}; the file is corrupted, or was edited without a new sha256"
        )
    return Vectors(header, cases, results, start + 1)


def _header(path: Path, lines: list[str]) -> tuple[dict[str, str], int]:
    """The keys and values of the comment lines, and the index of the first line after them."""
    header: dict[str, str] = {}
    number = 1
    while number < len(lines) and lines[number].startswith("//"):
        key, colon, value = lines[number][2:].strip().partition(": ")
        if not colon or key in header or key not in (*KEYS, "origin"):
            raise InputError(
                f'{path}, line {number + 1}: "{lines[number]}" is not one of // key: value with '
                f"the keys {', '.join(KEYS)}, origin, each once"
            )
        header[key] = value
        number += 1
    missing = [key for key in KEYS if key not in header]
    if missing:
        raise InputError(f"{path}, line {number}: the header lacks {', '.join(missing)}")
    return header, number


def _number(path: Path, header: dict[str, str], key: str) -> int:
    line = 2 + list(header).index(key)
    if not header[key].isdecimal():
        raise InputError(f'{path}, line {line}: {key}: "{header[key]}" is not a whole number')
    return int(header[key])


def _parsed(path: Path, header: dict[str, str], body: list[str], first: int) -> tuple[Cases, Codes]:
    """The words of the body as codes, each checked against its format's width."""
    a, b, c = (arithmetic_format(header[key], f"{path}, {key}") for key in ("a", "b", "output"))
    k, block = _number(path, header, "k"), _number(path, header, "scale_block")
    columns = [(a, k), (b, k)]
    if header["scale"] != "none":
        fmt = arithmetic_format(header["scale"], f"{path}, scale")
        columns += [(fmt, ScaleRow(fmt, max(block, 1)).groups(k))] * len(NAMES)
    columns += [(c, 1), (c, 1)]
    formats = [fmt for fmt, count in columns for _ in range(count)]
    words = [line.split(" ") for line in body]
    for number, line in enumerate(words, first):
        _check_words(f"{path}, line {number}", line, formats)
    codes = np.array([[int(word, 16) for word in line] for line in words], np.uint64)
    codes = codes.reshape(len(body), len(formats))
    ends = np.cumsum([count for _, count in columns])[:-1]
    x, y, *scales, addend, result = (np.ascontiguousarray(v) for v in np.split(codes, ends, 1))
    named: dict[str, Codes] = dict(zip(NAMES, scales, strict=True)) if scales else {}
    return Cases((a, b, c), x, y, addend[:, 0], named), result[:, 0]


def _check_words(where: str, words: list[str], formats: list[ArithmeticFormat]) -> None:
    if len(words) != len(formats):
        raise InputError(f"{where}: {len(words)} words where the header says {len(formats)}")
    for place, (word, fmt) in enumerate(zip(words, formats, strict=True), 1):
        plain = len(word) == digits(fmt) and all(x in "0123456789abcdefABCDEF" for x in word)
        if not plain or int(word, 16) >> fmt.bits:
            raise InputError(
                f'{where}: word {place}, "{word}", is not a code of {fmt.name}: {digits(fmt)} '
                f"hexadecimal digits, {fmt.bits} bits"
            )
