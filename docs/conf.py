"""How Sphinx builds the documentation: `make docs`, where a warning is an error."""

import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from tapeout import __version__

sys.path.insert(0, str(Path(__file__).parent))
from catalogue import write_catalogue
from docstrings import as_sphinx

project = "Tapeout"
author = copyright = "the Tapeout authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
html_theme = "furo"
html_title = f"Tapeout {version}"
exclude_patterns = ["build"]

# Pages are Markdown; links to their headings are checked.
myst_heading_anchors = 3

# Docstrings: `x` is code, as in Markdown; Attributes and Raises stand as Google writes them.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def setup(app: Sphinx) -> None:
    """Pages that are data come before Sphinx looks for pages, docstrings before napoleon's turn."""
    app.connect("builder-inited", lambda _: write_catalogue())
    app.connect("autodoc-process-docstring", _rewrite, priority=100)


def _rewrite(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = as_sphinx(lines)
