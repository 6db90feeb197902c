"""`make bench`: speed as ratios, the two sides of each measured in turns in one process.

Machines are noisy and differ: read the median of the ratios, not a time. The other side is what
the operation needs at least: a copy for a conversion, torch.mm in float32 for a product.
`python -m tapeout.tests.bench conversions blocks` times some of the subjects alone.
"""

import sys

import torch
from rich.console import Console
from rich.table import Table

from tapeout.formats.jit import set_threads

from .blocks import block_conversions
from .chains import chains
from .conversions import conversions
from .products import products
from .programs import programs
from .shampoo import shampoo
from .steps import optimizer_steps, steps
from .timing import PAIRS
from .tracing import tracing

SUBJECTS = {
    "conversions": conversions,
    "blocks": block_conversions,
    "products": products,
    "chains": chains,
    "steps": steps,
    "programs": programs,
    "optimizers": optimizer_steps,
    "tracing": tracing,
    "shampoo": shampoo,
}


def main() -> None:
    """Print one table for one thread and one for two; arguments choose among the subjects."""
    chosen = sys.argv[1:] or list(SUBJECTS)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        set_threads(threads)
        table = Table(title=f"{threads} thread(s), median of {PAIRS} pairs", title_justify="left")
        for column in ("what", "against", "times", "speed"):
            table.add_column(column, justify="right" if column in ("times", "speed") else "left")
        for subject in chosen:
            SUBJECTS[subject](table)
        Console().print(table)


if __name__ == "__main__":
    main()
