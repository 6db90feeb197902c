"""Scenario files to start from: `tapeout init` writes them."""

import json
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..formats.errors import InputError, choice
from ..simulator.tables import checked
from .columns import Column
from .schema import json_schema
from .storage import make_folder, write_bytes

TEMPLATES = Path(__file__).parent / "templates"
SUFFIX = ".jinja"
#: The schema that the files' first line points editors to.
SCHEMA = "scenario.schema.json"


def list_templates() -> list[str]:
    """The names of the templates."""
    return sorted(path.name for path in TEMPLATES.iterdir() if path.name != "shared")


def write_template(
    name: str, folder: Path, chip: str = "nvidia-h100", recipe: str = "fp8"
) -> list[Path]:
    """Write the files of a template into `folder`, with `chip` and `recipe` as the candidate.

    Raises:
        InputError: no such template, chip or recipe, or one of the files is there already: then
            nothing is written.
    """
    choice(name, list_templates(), "template")
    table = {"name": "candidate", "chip": chip, "recipe": recipe}
    checked(Column, table, "init", {"folder": folder.resolve()})
    files = render_template(name, chip, recipe)
    standing = [str(folder / file) for file in files if (folder / file).exists()]
    if standing:
        raise InputError(
            f"{', '.join(standing)}: already there, and nothing is overwritten: choose another "
            "folder, or delete it"
        )
    make_folder(folder)
    files[SCHEMA] = json.dumps(json_schema("scenario"), indent=1) + "\n"
    for file, text in files.items():
        write_bytes(folder / file, text.encode())
    return [folder / file for file in files]


def render_template(name: str, chip: str, recipe: str) -> dict[str, str]:
    """The text of each file of a template by its name."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True,
        trim_blocks=False, autoescape=False,
    )  # fmt: skip
    return {
        path.name.removesuffix(SUFFIX): environment.get_template(f"{name}/{path.name}").render(
            chip=chip, recipe=recipe
        )
        for path in sorted((TEMPLATES / name).glob(f"*{SUFFIX}"))
    }
