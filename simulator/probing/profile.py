"""From findings to a row of a chip: the order families with the widths that were found."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from ...formats.format import FloatFormat
from ..units import MatrixUnit
from .check import Agreement, Questions, ask, compare_unit
from .construction import Revealed, reveal
from .masks import Bench
from .structure import Structure, find_structure
from .target import Target
from .widths import Finding, measure

#: Rounding to a narrower output, as a promotion that no K reaches.
NEVER = 1 << 20
WIDTHS = {7: "bfloat16", 10: "float16", 23: "float32", 52: "float64"}


@dataclass(frozen=True)
class Probed:
    """All that a probe found.

    Attributes:
        structure: the order family with this tree; None if there is none.
        row: the unit that was written, or None; `why` tells the reason.
        assumed: parts of `row.dot` that no vector decided, each with what it stands for.
        agreement: by K, how the row compares with the target on random operands.
        kind: which operands those were.
    """

    target: Target
    revealed: Revealed
    findings: tuple[Finding, ...]
    structure: Structure | None
    row: MatrixUnit | None
    why: str
    assumed: dict[str, str]
    agreement: dict[int, Agreement]
    kind: str

    def finding(self, name: str) -> Finding | None:
        """By name."""
        return next((found for found in self.findings if found.name == name), None)

    @property
    def reproduced(self) -> bool:
        """Whether there is a row, it was compared, and no output differs but in a zero's sign."""
        compared = self.agreement.values()
        return bool(compared) and not any(a.differ for a in compared)


def probe(target: Target, depth: int = 64, cases: int = 4096, seed: int = 0) -> Probed:
    """The order, widths and roundings of `target` in sums of `depth` products, and a row for them.

    Raises:
        InputError: integer formats, K out of range, or formats in which no mask works.
    """
    revealed = reveal(target, depth)
    findings = tuple(measure(revealed, Bench(target, depth)))
    found = Probed(target, revealed, findings, None, None, "", {}, {}, "")
    if revealed.differ:
        why = f"no tree explains {revealed.differ} of {revealed.checked} masks: the order varies"
        return replace(found, why=why)
    structure = find_structure(revealed.tree, depth, target.takes_c)
    if structure is None:
        return replace(found, why="no order family has this tree")
    found = replace(found, structure=structure)
    values = {f.name: f.value for f in findings}
    if reason := _outside(values, structure):
        return replace(found, why=reason)
    rows, refused = [], ""
    for parts in _rows(target, structure, values):
        try:
            rows.append(_unit(target, *parts))
        except ValidationError as error:
            refused = refused or str(error.errors()[0]["msg"])
    if not rows:
        return replace(found, why=f"no family matches: the row is refused: {refused}")
    return _fitted(found, rows, cases, seed)


def _outside(values: dict[str, Any], structure: Structure) -> str:
    """Why no family has these roundings; nothing if one may."""
    for name in ("rounding", "term_rounding"):
        if name in values and values[name] == "unknown":
            return f"no family matches: {name} is none of the known modes"
    if structure.order["order"] == "fused" and values.get("term_rounding") not in (
        None, "toward_zero",
    ):  # fmt: skip
        return f"no family matches: terms are aligned {values['term_rounding']}, not toward_zero"
    if values.get("rounding") == "stochastic" and structure.order["order"] in ("tree", "exact"):
        return f"no family matches: a stochastic {structure.order['order']}"
    return ""


def accumulator_name(target: Target, bits: int | None) -> str:
    """The format with that many fraction bits: the output's own, a known one, or an e8mY."""
    out = target.output
    assert isinstance(out, FloatFormat)
    if bits in (None, out.fraction_bits):
        return out.name
    return WIDTHS.get(bits or 0, f"e8m{bits}")


def _rows(
    target: Target, structure: Structure, values: dict[str, Any]
) -> Iterator[tuple[Structure, dict[str, Any], dict[str, Any] | None]]:
    """Every row that the findings leave open, likely ones first: structure, dot, promotion."""
    flush = bool(values.get("outputs_flushed")) and values.get("inputs_flushed") is not False
    inner = values.get("inner_bits", values.get("accumulator_bits"))
    dot: dict[str, Any] = structure.order | {"accumulator": accumulator_name(target, inner)}
    rounding = values.get("rounding") or (
        "toward_zero" if dot["order"] == "fused" else "nearest_even"
    )
    dot["rounding"] = rounding
    if rounding == "stochastic":
        dot["random_bits"] = values.get("random_bits") or 16
    promotion: dict[str, Any] | None = None
    bits = values.get("accumulator_bits")
    if structure.promote_every:
        promotion = {"every": structure.promote_every}
    elif inner is not None and bits is not None and inner > bits:
        promotion, dot["rounding"] = {"every": NEVER}, "nearest_even"
    if promotion is not None:
        narrow = target.output.name != "float32"  # whose additions have no flush to state
        promotion |= {"accumulator": target.output.name, "flush": flush and not narrow}
        if promotion["every"] == NEVER and rounding != "stochastic":
            promotion["rounding"] = rounding
    for row in _open(target, dot, values, flush):
        yield structure, row, promotion


def _open(
    target: Target, dot: dict[str, Any], values: dict[str, Any], flush: bool
) -> Iterator[dict[str, Any]]:
    """The parts of a family that no vector decides, to be fitted."""
    out = target.output
    assert isinstance(out, FloatFormat)
    match dot["order"]:
        case "chain":
            known = values.get("product_fused")  # undecided: products that round only at the ends
            for fused in (True, False) if known is None else (known,):
                yield dot | {"fused": fused, "flush": flush}
        case "tree" if flush:
            for tininess in ("after", "before"):
                for zero in ("signed", "positive"):
                    yield dot | {"flush": True, "tininess": tininess, "flushed_inputs": zero}
                    yield dot | {"flush": True, "tininess": tininess, "flushed_inputs": zero,
                                 "overflow": "infinity"}  # fmt: skip
        case "tree":
            yield dot
            yield dot | {"overflow": "infinity"}
        case "fused":
            dot = dot | {"fraction_bits": values.get("fraction_bits") or 25}
            low = out.min_exponent
            for least in (low - 7, *range(low - 16, low - 7), *range(low - 6, low + 2)):
                yield dot | {"min_exponent": least}
            if target.takes_c and dot["rounding"] != "stochastic":
                yield from _two_stage(dot)
        case _:
            yield dot


def _two_stage(dot: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Fused products to which C is added in a second alignment, floored: the widths in use."""
    row = dot | {"order": "two_stage", "guard_bits": dot["fraction_bits"] + 8}
    for lanes in (1, 2):
        for kept in (dot["fraction_bits"] + 7, None):
            for drop in (None, dot["fraction_bits"] + 1):
                extra = {"sum_bits": kept, "drop_c": drop}
                yield row | {"lanes": lanes} | {k: v for k, v in extra.items() if v is not None}


def _unit(
    target: Target, structure: Structure, dot: dict[str, Any], promotion: dict[str, Any] | None
) -> MatrixUnit:
    split = structure.split
    table: dict[str, Any] = {
        "instructions": ["probed"], "a": [target.a.name], "b": [target.b.name],
        "output": target.output.name, "dot": dot, "default": True,
        "evidence": [{"of": ["*"], "basis": "assumed", "source": "being fitted"}],
    }  # fmt: skip
    if promotion:
        table["promotion"] = promotion
    if structure.k_order:
        table["k_order"] = structure.k_order
    if split:
        table["split_k"] = split.model_dump() | {"accumulator": target.output.name}
    return MatrixUnit.model_validate(table)


def _fitted(found: Probed, rows: list[MatrixUnit], cases: int, seed: int) -> Probed:
    """The row with the fewest differences, compared at K, about K / 2 and 3 with new operands."""
    target, depth = found.target, found.revealed.depth
    units = [row.unit(target.a.name, target.b.name, "probed") for row in rows]
    random = rows[0].dot.order != "integer" and getattr(rows[0].dot, "random_bits", None)
    if random:
        why = "stochastic outputs are not comparable one by one"
        return replace(found, row=rows[0], why=why, assumed=_assumed(found, rows, [rows[0]]))
    asked = ask(target, units[0], cases, depth, seed)
    scores = [_score(compare_unit(unit, asked)) for unit in units]
    best = [row for row, score in zip(rows, scores, strict=True) if score == min(scores)]
    unit = units[scores.index(min(scores))]
    later: list[Questions] = [
        ask(target, unit, cases, k, seed + 1) for k in dict.fromkeys((depth, depth // 2 + 1, 3))
    ]
    agreement = {q.depth: compare_unit(unit, q) for q in later}
    return replace(
        found, row=best[0], assumed=_assumed(found, rows, best), agreement=agreement,
        kind=later[0].kind,
    )  # fmt: skip


def _score(agreement: Agreement) -> tuple[int, int]:
    return agreement.differ, agreement.zero_signs


def _assumed(found: Probed, rows: list[MatrixUnit], best: list[MatrixUnit]) -> dict[str, str]:
    """Parts of the order that neither a vector nor the fit decided."""
    out: dict[str, str] = {}
    keys = {key for row in rows for key in row.dot.model_fields_set} - {"order", "accumulator"}
    for key in sorted(keys):
        fitted = {getattr(row.dot, key, None) for row in best}
        if len(fitted) > 1:
            values = ", ".join(sorted(str(v) for v in fitted))
            out[f"dot.{key}"] = f"not decided: {values} give the same outputs"
    undecided = {f.name: f.how for f in found.findings if f.value is None}
    names = {"rounding": "rounding", "fraction_bits": "fraction_bits", "random_bits": "random_bits",
             "accumulator_bits": "accumulator"}  # fmt: skip
    for name, key in names.items():
        if name in undecided and hasattr(best[0].dot, key):
            out.setdefault(f"dot.{key}", f"not decided: {undecided[name]}")
    block = getattr(best[0].dot, "block", None)
    if block is not None and block >= found.revealed.depth:
        out["dot.block"] = f"at least {found.revealed.depth}, the longest sum that was probed"
    return out
