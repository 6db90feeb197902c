"""Reading the TOML files of users and of the library, and refusing them precisely."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from ..formats.errors import InputError, hint


class Row(BaseModel):
    """A frozen table of a TOML file; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


R = TypeVar("R", bound=BaseModel)


def read_toml(path: Path) -> dict[str, Any]:
    """The table in `path`.

    Raises:
        InputError: the file is missing, unreadable or not TOML; says where and why.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: is not valid TOML: {error}") from None


def checked(
    model: type[R], data: object, place: str, context: Mapping[str, Any] | None = None
) -> R:
    """`data` as a `model`, or one sentence about everything that is wrong with it.

    `context` is for validators that need to know more than the table says.

    Raises:
        InputError: each fault as `<place>, <key>: <value> <reason>`, joined by "; ".
    """
    try:
        return model.model_validate(data, context=context)
    except ValidationError as error:
        faults = [_sentence(dict(fault), model) for fault in error.errors()]
        raise InputError("; ".join(f"{place}, {fault}" for fault in faults)) from None


def _sentence(fault: dict[str, Any], model: type[BaseModel]) -> str:
    """One pydantic fault in the words of the file: `matrix_units 3 order: ...`."""
    path = fault["loc"]
    where = " ".join(str(p + 1) if isinstance(p, int) else str(p) for p in path) or "the table"
    kind, value = fault["type"], fault.get("input")
    if kind == "extra_forbidden":
        known = _keys_at(model, path[:-1])
        listed = f"; known keys: {', '.join(known)}" if known else ""
        return f'{where}: unknown key "{path[-1]}"{hint(path[-1], known)}{listed}'
    if kind == "missing":
        return f"{where}: is missing"
    if kind == "literal_error":
        allowed = str(fault["ctx"]["expected"]).replace("'", "").replace(" or ", ", ")
        return f'{where} = "{value}" is not one of {allowed}{hint(value, allowed.split(", "))}'
    if kind == "union_tag_invalid":
        tag, names = fault["ctx"]["tag"], fault["ctx"]["expected_tags"].replace("'", "")
        key = fault["ctx"]["discriminator"].strip("'")
        return f'{where} {key} = "{tag}" is not one of {names}{hint(tag, names.split(", "))}'
    if kind == "value_error":
        return f"{where}: {fault['ctx']['error']}"
    return f"{where} = {value!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def _keys_at(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """The keys of the table that `path` leads to, so that a typo can be matched to one.

    Where a table is one of several kinds, the path names the kind after it.
    """
    models = [model]
    for part in path:
        if len(models) > 1:
            models = [m for m in models if _is_kind(m, part)]
        elif isinstance(part, str):
            field = models[0].model_fields.get(part)
            models = _models_in(field.annotation) if field else []
        if not models:
            return []
    if len(models) > 1:
        return []
    return [field.alias or name for name, field in models[0].model_fields.items()]


def _is_kind(model: type[BaseModel], kind: Any) -> bool:
    """Whether a key of the table may only be `kind`, as `order` of an accumulation order."""
    return any(get_args(field.annotation) == (kind,) for field in model.model_fields.values())


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The row types named in a type such as `list[MatrixUnit] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in getattr(annotation, "__args__", ()) for m in _models_in(arg)]
