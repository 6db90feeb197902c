"""What a probe found, as the TOML of a chip, as sentences, and as facts for JSON."""

import json
from dataclasses import asdict
from typing import Any

from ..units import MatrixUnit
from .node import leaves, nested, show_tree
from .profile import NEVER, Probed

#: Trees of more leaves are printed up to this many characters.
LONGEST = 400
_REST = """
[vector_unit]
format = "float32"
accumulator = "float32"
evidence = [{ of = ["*"], basis = "assumed", source = "not probed: IEEE 754 float32" }]

[conversion_unit]
roundings = ["nearest_even"]
evidence = [{ of = ["*"], basis = "assumed", source = "not probed: IEEE 754 conversion" }]
"""


def chip_text(probed: Probed, name: str, date: str) -> str:
    """The TOML of a chip with the probed unit; what was not probed is assumed, and says so.

    `date` is the day of the probe, for the source of the measured values.
    """
    row = probed.row
    assert row is not None
    table: dict[str, Any] = {
        "instructions": list(row.instructions), "a": list(row.a), "b": list(row.b),
        "output": row.output, "default": True,
    }  # fmt: skip
    for key in ("k_order", "promotion", "split_k"):
        value = getattr(row, key)
        if value:
            plain = value if isinstance(value, tuple) else value.model_dump(exclude_none=True)
            table[key] = list(plain) if isinstance(plain, tuple) else plain
    table["dot"] = row.dot.model_dump(exclude_none=True)
    head = {
        "name": name,
        "vendor": "probed",
        "summary": f"{probed.target.name}, as its outputs showed it on {date}",
    }
    lines = [f"{key} = {toml_value(value)}" for key, value in head.items()]
    lines += ["", *(f"# {line}" for line in sentences(probed)), "", "[[matrix_units]]"]
    lines += [f"{key} = {toml_value(value)}" for key, value in table.items()]
    lines += ["evidence = ["]
    lines += [f"  {toml_value(entry)}," for entry in _evidence(probed, row, date)]
    text = "\n".join([*lines, "]", _REST])
    return text.encode("ascii", "backslashreplace").decode("ascii")


def _evidence(probed: Probed, row: MatrixUnit, date: str) -> list[dict[str, Any]]:
    """What was measured, and by which vectors; then what was not decided."""
    shown = revealed_line(probed)
    vectors = "; ".join(f"{f.name} by {f.how}" for f in probed.findings if f.value is not None)
    source = f"tapeout probe of {probed.target.name} on {date}: {shown}; {vectors}"
    around = ["k_order", "promotion", "split_k"]
    out: list[dict[str, Any]] = [{"of": ["dot", *around], "basis": "measured", "source": source}]
    out += [
        {"of": [part], "basis": "assumed", "source": told} for part, told in probed.assumed.items()
    ]
    for key in ("promotion", "split_k"):
        if getattr(row, key) is not None:
            told = f"that it adds in {row.output}, nearest-even: its place is in the tree"
            if not (key == "promotion" and row.promotion and row.promotion.every == NEVER):
                out.append({"of": [f"{key}.accumulator"], "basis": "assumed", "source": told})
    rest = "as given to the probe: the formats; every other value is not probed"
    return [*out, {"of": ["*"], "basis": "assumed", "source": rest}]


def toml_value(value: Any) -> str:
    """A value inline; strings as JSON has them, which TOML reads alike."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {toml_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return json.dumps(value)


def revealed_line(probed: Probed) -> str:
    """How the tree was found."""
    r = probed.revealed
    if not r.mask.absorbs:
        return f"K = {r.depth}, {r.mask}, which swallows nothing: exact as far as the formats reach"
    return (
        f"K = {r.depth}, {r.mask}, by {r.method}; {r.checked} masks compared with the tree, "
        f"{r.differ} otherwise"
    )


def sentences(probed: Probed) -> list[str]:
    """The findings, a line each."""
    tree = show_tree(probed.revealed.tree)
    if len(tree) > LONGEST:
        tree = f"{tree[:LONGEST]} ... ({len(leaves(probed.revealed.tree))} leaves)"
    lines = [f"masks: {revealed_line(probed)}", f"tree: {tree}"]
    if probed.structure:
        lines.append(f"order: {probed.structure.describe()}")
    for found in probed.findings:
        shown = "not decided" if found.value is None else found.value
        lines.append(f"{found.name}: {shown} ({found.how})")
    lines += [f"{part}: {told}" for part, told in probed.assumed.items()]
    if probed.row:
        lines.append(f"row: {probed.row.describe()}")
    for depth, a in probed.agreement.items():
        first = "" if a.first is None else f"; first {a.first[1]!r}, row {a.first[2]!r}"
        zeros = f", {a.zero_signs} zeros of the other sign" if a.zero_signs else ""
        lines.append(
            f"check: K = {depth}, {a.compared} of {probed.kind}: {a.differ} differ{zeros}{first}"
        )
    return lines + ([f"no check: {probed.why}" if probed.row else probed.why] if probed.why else [])


def facts(probed: Probed) -> dict[str, Any]:
    """Everything, for JSON."""
    r = probed.revealed
    return {
        "target": probed.target.name,
        "formats": [probed.target.a.name, probed.target.b.name, probed.target.output.name],
        "k": r.depth,
        "mask": {"m": r.mask.high, "unit": r.mask.low, "absorbs": r.mask.absorbs},
        "method": r.method,
        "masks_checked": r.checked,
        "masks_differ": r.differ,
        "tree": nested(r.tree),
        "order": probed.structure.describe() if probed.structure else None,
        "findings": {f.name: {"value": f.value, "how": f.how} for f in probed.findings},
        "row": probed.row.model_dump(mode="json", exclude_none=True, exclude={"evidence"})
        if probed.row
        else None,
        "assumed": probed.assumed,
        "why": probed.why,
        "checks": [
            {"k": k, "operands": probed.kind}
            | {key: v for key, v in asdict(a).items() if key != "first"}
            for k, a in probed.agreement.items()
        ],
        "reproduced": probed.reproduced,
    }
