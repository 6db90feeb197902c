"""Docstrings are plain text, as an editor or a terminal shows them; here they become Sphinx's.

An indented block is an equation, a table or code: it stays as it stands. The rest is prose, in
which only `x` has a meaning, and the sections that napoleon reads (Args, Attributes, Raises, ...).
"""

import re
from collections.abc import Iterator

SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):$")
CODE = re.compile(r"(`[^`]*`)")
#: What reStructuredText would take for markup.
MARKUP = re.compile(r"[\\*|_]")


def as_sphinx(lines: list[str]) -> list[str]:
    """The lines of a docstring, its displayed blocks literal and its prose without markup."""
    return [line for kind, block in _blocks(lines) for line in _rendered(kind, block)]


def _blocks(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """(what it is, its lines): section, display or prose, cut at blank lines."""
    block: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line)
            continue
        if block:
            yield _kind(block), block
        block = []


def _kind(block: list[str]) -> str:
    if SECTION.match(block[0]):
        return "section"
    return "display" if block[0].startswith((" ", "|")) else "prose"


def _rendered(kind: str, block: list[str]) -> list[str]:
    if kind == "display":
        return ["::", "", *(f"    {line}" for line in block), ""]
    return [*map(_escaped, block), ""]


def _escaped(line: str) -> str:
    parts = CODE.split(line)
    return "".join(part if part.startswith("`") else MARKUP.sub(r"\\\g<0>", part) for part in parts)
