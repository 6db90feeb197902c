"""How far apart the values of a format are, binade by binade, and all facts in one document."""

import math
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from .conversion import decode, encode
from .format import Format
from .listing import code_rows, facts_of, is_blocked, parts_of, values_of


@dataclass(frozen=True)
class SpacingRow:
    """gap / value over the values v, 2^first <= v < 2^(last + 1), gap up to the next value.

    widest, finest: the largest and the smallest of the gaps' shares.
    """

    first: int
    last: int
    widest: float
    finest: float


def spacing_rows(fmt: Any) -> list[SpacingRow]:
    """The relative spacing of the positive values, a row a binade."""
    if is_blocked(fmt):
        return []
    values = values_of(fmt)
    if values is None:
        return _sampled_spacing(fmt)
    positive = np.unique(values[np.isfinite(values) & (values > 0)])
    low, share = positive[:-1], np.diff(positive) / positive[:-1]
    binade = np.frexp(low)[1] - 1
    return [
        SpacingRow(int(e), int(e), float(inside.max()), float(inside.min()))
        for e in np.unique(binade)
        for inside in [share[binade == e]]
    ]


def merged(rows: list[SpacingRow]) -> list[SpacingRow]:
    """Rows of equal widest spacing in neighbouring binades as one."""
    out = []
    for _, run in groupby(enumerate(rows), key=lambda at: (at[1].widest, at[1].first - at[0])):
        part = [row for _, row in run]
        finest = min(row.finest for row in part)
        out.append(SpacingRow(part[0].first, part[-1].last, part[0].widest, finest))
    return out


def table_of(fmt: Any, every: bool = False) -> dict[str, Any]:
    """Everything for a machine: facts, codes, spacing, parts; NaN and infinities as words."""
    codes = [
        {"code": row.code, "bits": row.bits, "value": _number(row.value)}
        | ({"label": row.label} if row.label else {})
        for row in code_rows(fmt, every)
    ]
    spacing = [
        {"binade": row.first, "widest": row.widest, "finest": row.finest}
        for row in spacing_rows(fmt)
    ]
    whole = {part: table_of(row) for part, row in parts_of(fmt).items()}
    return (
        facts_of(fmt) | {"table": codes, "spacing": spacing} | ({"parts": whole} if whole else {})
    )


def _sampled_spacing(fmt: Any) -> list[SpacingRow]:
    """The spacing of a wide format, whose positive codes ascend: at the start of each binade.

    Within a binade the gap is one, so that its share falls to nearly half.
    """
    facts = facts_of(fmt)
    smallest = facts.get("min_subnormal", facts.get("smallest"))
    if smallest is None or not isinstance(fmt, Format):
        return []
    first = math.frexp(smallest)[1] - 1
    last = math.frexp(facts["largest"])[1] - 1
    starts = np.ldexp(1.0, np.arange(first, last + 1))
    codes = encode(starts, fmt)
    values, nexts = decode(codes, fmt).astype(float), decode(codes + 1, fmt).astype(float)
    rows = []
    for e, value, above in zip(range(first, last + 1), values, nexts, strict=True):
        if np.isfinite(above) and above > value:
            share = float((above - value) / value)
            # The last value of the binade lies one gap below the next power of two.
            rows.append(SpacingRow(e, e, share, share / (2 - share) if share < 1 else share))
    return rows


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
