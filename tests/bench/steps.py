"""Training steps under emulation against the same steps in plain torch."""

from typing import Any

import torch
from rich.table import Table
from torch.nn import functional as F

from tapeout.scenarios.models.vit import VisionTransformer
from tapeout.simulator import emulate, load_chip, load_recipe

from .timing import ratio


def steps(table: Table) -> None:
    """One training step of the quickstart's Vision Transformer against the same step in torch."""
    for chip, recipe in (
        ("ieee-float32", "fp32"),
        ("nvidia-h100", "fp8"),
        ("generic-int4", "int4"),
    ):
        model = VisionTransformer(patch=4, seed=0)
        optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
        x, y = torch.randn(64, 1, 8, 8), torch.arange(64) % 10

        def step(model: Any = model, optimizer: Any = optimizer, x: Any = x, y: Any = y) -> None:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        def emulated(
            chip: str = chip, recipe: str = recipe, model: Any = model, step: Any = step
        ) -> None:
            with emulate(load_chip(chip), load_recipe(recipe), model=model):
                step()

        times, seconds = ratio(emulated, step)
        table.add_row(
            f"training step, {chip}/{recipe}", "plain torch", f"{times:.1f}", f"{seconds:.3f} s"
        )
