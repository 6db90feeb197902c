"""A step of Shampoo with packed preconditioners against one with float32 preconditioners."""

from functools import partial
from typing import Any

import torch
from rich.table import Table
from torch import nn

from tapeout.optimizers import Shampoo

from .timing import ratio

PACKED = ("cq_ef",)
ORDER, EVERY_STATISTICS, EVERY_ROOTS = 1024, 100, 500


def shampoo(table: Table) -> None:
    """Amortised over T₁/T₂ = 100/500: the plain step, and the shares of the two others.

    Each kind of step is timed against the same kind of the other side, and the three weighted by
    how often they occur: (plain + (statistics − plain)/100 + (roots − statistics)/500).
    """
    sides = {storage: _Stepper(storage) for storage in ("float32", *PACKED)}
    for storage in PACKED:
        ours, theirs = 0.0, 0.0
        for kind, weight in (
            ("plain", 1 - 1 / EVERY_STATISTICS),
            ("statistics", 1 / EVERY_STATISTICS - 1 / EVERY_ROOTS),
            ("roots", 1 / EVERY_ROOTS),
        ):
            pairs = 9 if kind == "plain" else 3
            times, seconds = ratio(
                partial(sides[storage].step, kind), partial(sides["float32"].step, kind), pairs
            )
            ours += weight * seconds
            theirs += weight * seconds / times
        table.add_row(
            f"Shampoo step, {storage}, order {ORDER}, amortised 100/500",
            "Shampoo step, float32", f"{ours / theirs:.2f}", f"{ours * 1e3:.1f} ms",
        )  # fmt: skip


class _Stepper:
    """One weight of (ORDER, ORDER), stepped just where the wanted work falls due."""

    def __init__(self, storage: str) -> None:
        self.p = nn.Parameter(torch.randn(ORDER, ORDER))
        self.p.grad = torch.randn(ORDER, ORDER)
        self.optimizer = Shampoo(
            [self.p], storage=storage,
            statistics_every=EVERY_STATISTICS, roots_every=EVERY_ROOTS,
        )  # fmt: skip
        self.optimizer.step()

    def step(self, kind: str) -> Any:
        before = {"plain": 0, "statistics": EVERY_STATISTICS - 1, "roots": EVERY_ROOTS - 1}
        self.optimizer.state[self.p]["step"] = before[kind]
        return self.optimizer.step()
