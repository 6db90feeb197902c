"""A chip with some of its values changed: what if this accumulator were narrower?"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..formats.errors import InputError, choice
from .recipe_rows import merged

if TYPE_CHECKING:
    from .chip import Chip

UNITS = ("matrix_units", "vector_unit", "conversion_unit")
#: What may change in a matrix unit: how it computes, not what it takes and gives.
CHANGEABLE = ("dot", "promotion", "k_order", "split_k", "default")


def overridden(chip: "Chip", override: Mapping[str, Any]) -> dict[str, Any]:
    """The chip's table with the values of `override` in place of its own.

    `vector_unit` and `conversion_unit` are merged key by key. `matrix_units` is a table of units
    as `tapeout verify` selects them ("wgmma", "e4m3,e4m3,float32", "mma.sync:e4m3,e5m2"), each
    with some of CHANGEABLE. A `dot` of the unit's own order is merged key by key, one of another
    order replaces it; `promotion`, `k_order` or `split_k` = false takes it away. Every changed
    value becomes an assumed one, so that reports tell it.

    Raises:
        InputError: a unit that the chip does not have, or a key that is none of its values.
    """
    place = f"{chip.place} with chip_override"
    table = merged(chip.table, {})
    for name, change in override.items():
        unit = choice(name, UNITS, "key", place)
        if not isinstance(change, Mapping):
            raise InputError(f"{place}: {unit} = {change!r} is not a table")
        if unit == "matrix_units":
            _change_matrix_units(chip, table, change, place)
        else:
            table[unit] = _changed(table[unit], change, place)
    return table


def _change_matrix_units(
    chip: "Chip", table: dict[str, Any], change: Mapping[str, Any], place: str
) -> None:
    from .verification.selection import find_units

    for selector, values in change.items():
        if not isinstance(values, Mapping):
            raise InputError(f"{place}: matrix unit {selector} = {values!r} is not a table")
        for key in values:
            choice(key, CHANGEABLE, "key", f"{place}, matrix unit {selector}")
        for number in {unit.number for unit in find_units(chip, selector)}:
            rows = table["matrix_units"]
            rows[number - 1] = _changed(rows[number - 1], values, place)


def _changed(unit: dict[str, Any], change: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The unit's row with `change` in it and its evidence told anew."""
    if "evidence" in change:
        raise InputError(f"{place}: evidence cannot be overridden: copy the chip's file instead")
    row, names = dict(unit), list[str]()
    for key, value in change.items():
        if value is False and key in ("promotion", "k_order", "split_k"):
            row.pop(key, None)
        elif key == "dot" and isinstance(value, Mapping) and _same_order(unit, value):
            row[key] = merged(unit[key], value)
            if row[key].get("rounding") != "stochastic":
                row[key].pop("random_bits", None)
            names += [f"dot.{part}" for part in value if part != "order"]
            continue
        elif key in ("promotion", "split_k") and isinstance(value, Mapping):
            row[key] = merged(unit.get(key, {}), value)
        else:
            row[key] = value
            if key == "random_bits":  # one number for every format
                row.pop("random_bits_of", None)
        names += [key] if key != "default" else []
    row["evidence"] = _told(unit.get("evidence", ()), names)
    return row


def _same_order(unit: Mapping[str, Any], dot: Mapping[str, Any]) -> bool:
    own = unit["dot"]["order"]
    return bool(dot.get("order", own) == own)


def _told(evidence: Any, names: list[str]) -> list[dict[str, Any]]:
    """The entries without what `names` covers now, and one entry for those."""
    if not names:
        return list(evidence)
    kept = []
    for entry in evidence:
        of = [n for n in entry.get("of", ["*"]) if not any(_within(n, name) for name in names)]
        if of:
            kept.append({**entry, "of": of})
    source = "a chip_override of the scenario, not the chip's own value"
    return [*kept, {"of": names, "basis": "assumed", "source": source}]


def _within(name: str, changed: str) -> bool:
    return name == changed or name.startswith(f"{changed}.")
