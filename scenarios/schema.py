"""The JSON schema of the TOML files, for editors and for programs that write such files."""

from typing import Any

from pydantic import BaseModel

from ..formats.errors import choice
from ..simulator.chip import ChipTable
from ..simulator.recipe import RecipeTable
from .hyperparameters import TABLES
from .scenario import Scenario

FILES: dict[str, type[BaseModel]] = {
    "scenario": Scenario,
    "chip": ChipTable,
    "recipe": RecipeTable,
}
DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: What a table without a `kind` is.
USUAL = {"VitSpec", "DigitsSpec"}


def json_schema(name: str) -> dict[str, Any]:
    """The schema of one of FILES; `#:schema PATH` in a TOML file's first line points editors to it.

    Raises:
        InputError: no such file.
    """
    model = FILES[choice(name, FILES, "schema")]
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    if model is Scenario:
        schema["required"] = [key for key in schema["required"] if key != "columns"]
        for table in TABLES.values():
            _complete_optimizer(definitions[table.__name__], table)
        for definition in definitions.values():
            _ask_for_kind(definition)
        for key in ("model", "data"):
            # A table may leave out its kind, and then "discriminator" has nothing to look at.
            union = schema["properties"][key]
            union.pop("discriminator", None)
            union["anyOf"] = union.pop("oneOf")
    if model is RecipeTable:
        # What a product does in its own way completes the role's row, which names the format.
        change = dict(definitions["Operand"])
        del change["required"]
        definitions["OperandChange"] = change
        for row in definitions["Gemm"]["properties"].values():
            for part in row.get("anyOf", ()):
                if part.get("$ref") == "#/$defs/Operand":
                    part["$ref"] = "#/$defs/OperandChange"
    return {"$schema": DIALECT, "title": f"Tapeout {name}", **_without(schema, "title")}


def _complete_optimizer(definition: dict[str, Any], table: Any) -> None:
    """Only the name is required; what is left out has the default of the class."""
    from inspect import signature

    options = signature(table.kind).parameters
    definition["required"] = ["name"]
    for name, row in definition["properties"].items():
        if name in options and name != "name":
            row["default"] = options[name].default


def _ask_for_kind(definition: dict[str, Any]) -> None:
    """`kind` tells the tables apart: all but the usual ones must have it."""
    kind = definition.get("properties", {}).get("kind", {})
    if "const" in kind and definition.get("title") not in USUAL:
        definition["required"] = ["kind", *definition.get("required", [])]


def _without(schema: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != key}
