"""The package list in pyproject.toml is the tree, and the files are of a size to read."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
TOP = ["commands", "formats", "simulator", "optimizers", "scenarios", "reports"]


def test_packages_are_the_tree() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {"tapeout"} | {
        "tapeout." + ".".join(p.parent.relative_to(ROOT).parts)
        for top in TOP
        for p in (ROOT / top).rglob("__init__.py")
    }
    assert set(listed) == found


def test_no_source_file_is_too_long_to_read() -> None:
    long = {
        str(p.relative_to(ROOT)): lines
        for top in TOP
        for p in (ROOT / top).rglob("*.py")
        if (lines := len(p.read_text().splitlines())) > 400
    }
    assert long == {}
