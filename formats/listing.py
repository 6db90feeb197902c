"""What there is to say of a format, as rows of facts: for pages, figures and machines.

Everything rests on what all formats have, a name, a width in bits and a value for each code, so
that a family that is not known here has its page too; a format of blocks is shown by its parts.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from . import catalog
from .conversion import decode, encode
from .device.codes import decode_on_device
from .errors import InputError
from .format import Format

#: All codes of a format are listed up to this width on request, up to 8 bits always.
LISTED_BITS, SHOWN_BITS = 16, 8
SIZES = ("precision", "largest", "lowest", "min_normal", "min_subnormal")
PARTS = ("element", "scale", "tensor_scale")
_HIDDEN = {"published", *PARTS}


@dataclass(frozen=True)
class CodeRow:
    """One code: its bits, fields set apart, and its value; `label` says what is special."""

    code: int
    bits: str
    value: float
    label: str = ""


def list_names() -> list[str]:
    """The names of the catalog, then those of the block formats."""
    listed: Any = getattr(catalog, "list_block_formats", list)
    return [*catalog.list_formats(), *listed()]


def family(fmt: Any) -> str:
    """float, integer, codebook, ...: the class's name without its `Format`."""
    return type(fmt).__name__.removesuffix("Format").removesuffix("Element").lower()


def is_blocked(fmt: Any) -> bool:
    """Whether the format scales blocks of another format."""
    return hasattr(fmt, "element") and hasattr(fmt, "scale")


def parts_of(fmt: Any) -> dict[str, Any]:
    """The formats that a block format consists of, by role."""
    found = {part: getattr(fmt, part, None) for part in PARTS} if is_blocked(fmt) else {}
    return {part: row for part, row in found.items() if row is not None}


def aliases_of(name: str) -> list[str]:
    """The other names of a catalog row."""
    tables = [getattr(catalog, key, {}) for key in ("ALIASES", "BLOCK_ALIASES")]
    return [alias for table in tables for alias, row in table.items() if row == name]


def facts_of(fmt: Any) -> dict[str, Any]:
    """The facts by name, JSON values all: fields that are set, sizes, counts of codes."""
    facts: dict[str, Any] = {"name": fmt.name, "family": family(fmt), "bits": fmt.bits}
    if aliases := aliases_of(fmt.name):
        facts["aliases"] = aliases
    for part, row in parts_of(fmt).items():
        facts[part] = row.name
    facts |= _block_facts(fmt) if is_blocked(fmt) else {}
    for field in fields(fmt) if is_dataclass(fmt) else ():
        value = getattr(fmt, field.name)
        if value is not None and field.name not in {"name", "bits", "source", *_HIDDEN}:
            facts[field.name] = _plain(value)
    facts |= _counts(fmt)
    sizes = {key: getattr(fmt, key, None) for key in ("exponent_bias", *SIZES)}
    facts |= {key: value for key, value in sizes.items() if value is not None}
    grid = getattr(fmt, "grid", None)
    if "lowest" not in facts and grid is not None:
        facts["lowest"] = float(grid.lowest)
    if "min_subnormal" in facts:
        facts.pop("smallest", None)
    facts["source"] = str(getattr(fmt, "source", ""))
    return facts


def summary_of(fmt: Any) -> dict[str, Any]:
    """The facts that a list of formats shows; None where the format has no such fact."""
    facts = facts_of(fmt)
    smallest = facts.get("min_subnormal", facts.get("smallest"))
    row = {key: facts.get(key) for key in ("name", "family", "bits", "largest", "min_normal")}
    return row | {
        "min_subnormal": smallest,
        "precision": facts.get("precision"),
        "codes": facts.get("codes"),
        "source": facts["source"],
    }


def values_of(fmt: Any) -> NDArray[np.float64] | None:
    """Every value by code for up to 16 bits; None for wider ones, and where codes do not stand
    alone."""
    if is_blocked(fmt) or fmt.bits > LISTED_BITS:
        return None
    return code_values(fmt, tuple(range(2**fmt.bits)))


def code_rows(fmt: Any, every: bool = False) -> list[CodeRow]:
    """All codes for up to 8 bits, or up to 16 if `every`; else those at the landmarks.

    Raises:
        InputError: `every` of a format of more than 16 bits.
    """
    if every and fmt.bits > LISTED_BITS:
        raise InputError(
            f"formats: {fmt.name} has {fmt.bits} bits; --all prints formats of up to "
            f"{LISTED_BITS} bits"
        )
    if is_blocked(fmt):
        return []
    if fmt.bits > (LISTED_BITS if every else SHOWN_BITS):
        return list(landmarks(fmt))
    values = values_of(fmt)
    if values is None:
        return []
    return [CodeRow(code, bits_text(fmt, code), float(v)) for code, v in enumerate(values)]


def landmarks(fmt: Any) -> Iterator[CodeRow]:
    """The codes that a reader looks for, where the format has them, by ascending magnitude."""
    facts = facts_of(fmt)
    normal = facts.get("min_normal")
    smallest = facts.get("min_subnormal", facts.get("smallest"))
    subnormal = normal is not None and smallest is not None and smallest < normal
    wanted: list[tuple[str, float | None]] = [("zero", 0.0), ("negative zero", -0.0)]
    wanted.append(("smallest subnormal" if subnormal else "smallest", smallest))
    if subnormal and normal is not None:
        wanted.append(("largest subnormal", _below(fmt, normal)))
    if normal != smallest:
        wanted.append(("smallest normal", normal))
    wanted += [("one", 1.0), ("largest", facts.get("largest")), ("lowest", facts.get("lowest"))]
    wanted += [("infinity", math.inf), ("negative infinity", -math.inf), ("NaN", math.nan)]
    seen: set[int] = set()
    for label, value in wanted:
        code = None if value is None else _code_of(fmt, value)
        if value is not None and code is not None and code not in seen:
            seen.add(code)
            yield CodeRow(code, bits_text(fmt, code), value, label)


def bits_text(fmt: Any, code: int) -> str:
    """A code in binary: sign, exponent and fraction of a float apart, the point of fixed point."""
    text = f"{code:0{fmt.bits}b}"
    exponent = getattr(fmt, "exponent_bits", None)
    if exponent is not None:
        sign = fmt.bits - exponent - fmt.fraction_bits
        cut = (text[:sign], text[sign : sign + exponent], text[sign + exponent :])
        return " ".join(part for part in cut if part)
    point = getattr(fmt, "fraction_bits", 0)
    return f"{text[: fmt.bits - point]}.{text[fmt.bits - point :]}" if point else text


def _block_facts(fmt: Any) -> dict[str, Any]:
    """The equation of the scales; what a value takes with its share of a scale in whole bytes."""
    facts: dict[str, Any] = {}
    if equation := getattr(getattr(fmt, "scale_rule", None), "equation", ""):
        facts["equation"] = equation
    block = getattr(fmt, "block", ())
    if block and all(n is not None for n in block):
        facts["bits_per_value"] = fmt.bits + -(-fmt.scale.bits // 8) * 8 / math.prod(block)
    return facts


def _counts(fmt: Any) -> dict[str, Any]:
    """How many codes there are, and what they stand for."""
    if is_blocked(fmt):
        return {}
    counts: dict[str, Any] = {"codes": 2**fmt.bits}
    values = values_of(fmt)
    if values is None:
        first = code_values(fmt, (1,))
        return counts if first is None else counts | {"smallest": float(first[0])}
    finite = values[np.isfinite(values)]
    positive = finite[finite > 0]
    counts |= {"largest": float(finite.max()), "lowest": float(finite.min())}
    if positive.size:
        counts["smallest"] = float(positive.min())
    return counts | {
        "finite_values": len(np.unique(finite)),
        "zero_codes": int((finite == 0).sum()),
        "infinity_codes": int(np.isinf(values).sum()),
        "nan_codes": int(np.isnan(values).sum()),
    }


def code_values(fmt: Any, codes: tuple[int, ...]) -> NDArray[np.float64] | None:
    """The values of codes; None for a format that neither decode nor a grid knows."""
    if isinstance(fmt, Format):
        return row_values(fmt, codes)
    if hasattr(fmt, "grid"):
        kind = torch.uint8 if fmt.bits <= 8 else torch.uint16 if fmt.bits <= 16 else torch.uint32
        tensor = torch.tensor(codes, dtype=torch.int64).to(kind)
        return decode_on_device(tensor, fmt).double().numpy()
    return None


@lru_cache(maxsize=32)
def row_values(fmt: Format, codes: tuple[int, ...]) -> NDArray[np.float64]:
    kind: Any = np.uint16 if fmt.bits <= 16 else np.uint32 if fmt.bits <= 32 else np.uint64
    with np.errstate(over="ignore"):  # fields beyond float64 belong to infinity and NaN
        return np.asarray(decode(np.array(codes, kind), fmt), np.float64)


def _code_of(fmt: Any, value: float) -> int | None:
    """The code of exactly this value, None if the format has none."""
    if not isinstance(fmt, Format):
        return None
    policy = "infinity" if math.isinf(value) else "saturate"
    try:
        code = int(encode(np.array([value]), fmt, overflow=policy)[0])
    except InputError:
        return None  # no code for infinity or NaN
    (back,) = row_values(fmt, (code,))
    same = back == value and math.copysign(1, back) == math.copysign(1, value)
    return code if same or (math.isnan(value) and math.isnan(back)) else None


def _below(fmt: Any, value: float) -> float | None:
    """The neighbour below a positive value."""
    code = _code_of(fmt, value)
    if not code:
        return None
    return float(row_values(fmt, (code - 1,))[0])


def _plain(value: Any) -> Any:
    """A field as JSON has it."""
    if isinstance(value, Enum):
        return str(value)
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if is_dataclass(value):
        return str(getattr(value, "name", value))
    return value if isinstance(value, bool | int | float | str) else str(value)
