"""Values of a scenario changed from the command line: `--set train.steps=100`."""

import re
import tomllib
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, cast

from ..formats.errors import InputError, hint

#: Text that may stand without quotes: `--set train.schedule=constant`.
BARE = re.compile(r"[A-Za-z][A-Za-z0-9_./:-]*")


def apply_settings(table: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """A copy of a scenario's table with every `path=value` of `settings` in it, in order.

    path: keys with dots between; a row of a list by its `name`, or by its number from 1. Tables
    that are not written yet are added; whether their keys exist is for the schema to say.
    value: as in TOML; a plain word is a string.

    Raises:
        InputError: not of this form, or no such row.
    """
    result = deepcopy(table)
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise InputError(f"--set {setting}: is not of the form key=value, as train.steps=100")
        keys, value = _keys(path.strip(), setting), _value(text.strip(), setting)
        _put(result, keys, value, setting)
    return result


def _keys(path: str, setting: str) -> list[str]:
    try:
        node: Any = tomllib.loads(f"{path} = 0")
    except tomllib.TOMLDecodeError:
        raise InputError(
            f'--set {setting}: "{path}" is not a key of the file: write keys with dots between, '
            "and quote those that have dots themselves"
        ) from None
    keys = []
    while isinstance(node, dict):
        ((key, node),) = node.items()
        keys.append(key)
    return keys


def _value(text: str, setting: str) -> Any:
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        table = {}
    if set(table) == {"value"}:
        return table["value"]
    if BARE.fullmatch(text):
        return text
    raise InputError(
        f"--set {setting}: {text!r} is not a TOML value: "
        "write 100, 0.01, true, [0, 1], word or '\"text with blanks\"'"
    )


def _put(table: dict[str, Any], keys: list[str], value: Any, setting: str) -> None:
    node: Any = table
    for depth, key in enumerate(keys):
        place, last = ".".join(keys[:depth]), depth == len(keys) - 1
        at = cast(Any, key)
        if isinstance(node, list):
            at = _row(node, key, place, setting)
        elif not isinstance(node, dict):
            raise InputError(f"--set {setting}: {place} is {node!r}, which holds no {key}")
        elif not last and key not in node:
            node[key] = {}
        if last:
            node[at] = value
        node = node[at]


def _row(rows: list[Any], key: str, place: str, setting: str) -> Any:
    """The place of a row in its list, by name or by number from 1."""
    names = [str(row.get("name", "")) if isinstance(row, dict) else "" for row in rows]
    if key in names:
        return names.index(key)
    if key.isdecimal() and 1 <= int(key) <= len(rows):
        return int(key) - 1
    told = ", ".join(name for name in names if name)
    choices = f"one of {told}, or a number" if told else "a number"
    raise InputError(
        f'--set {setting}: {place} has no "{key}"{hint(key, names)}: '
        f"give {choices} from 1 to {len(rows)}"
    )
