"""docs/optimizers.md: its tables are made from the rows, the prose around them by hand."""

import re
from pathlib import Path

from tapeout.formats.errors import InputError

from .results import Results
from .tables import all_tables, markdown

PAGE = Path(__file__).parents[3] / "docs" / "optimizers.md"


def renewed(text: str, results: Results) -> str:
    """`text` with each table between its `<!-- table: NAME -->` and `<!-- end -->` made anew.

    Raises:
        InputError: a table has no such place.
    """
    for name, table in all_tables(results):
        place = re.compile(rf"(<!-- table: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
        found = place.search(text)
        if not found:
            raise InputError(f'{PAGE.name} has no "<!-- table: {name} -->" with an "<!-- end -->"')
        body = f"\n{markdown(table)}\n\n"
        begin, end = found[1], found[2]
        text = f"{text[: found.start()]}{begin}{body}{end}{text[found.end() :]}"
    return text
