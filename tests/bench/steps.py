"""Training steps under emulation against plain torch, optimizer steps against AdamW's."""

from typing import Any

import torch
from rich.table import Table
from torch.nn import functional as F

from tapeout.optimizers import LMD, EGAdamW, EGPlusMinus, LNSMadam, Madam
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


OPTIMIZERS: dict[str, Any] = {
    "LMD": LMD,
    "LMD, log storage": lambda p: LMD(p, storage="log"),
    "LMD, lns15g128 codes": lambda p: LMD(p, storage="lns15g128"),
    "LMD, sample drawn twice": lambda p: LMD(p, keep_sample=False),
    "Madam": Madam,
    "LNS-Madam": LNSMadam,
    "EG±": EGPlusMinus,
    "EG-AdamW": EGAdamW,
}


def optimizer_steps(table: Table) -> None:
    """Steps without emulation, of a model of many small parameters and of one large matrix."""
    model = VisionTransformer(patch=4, seed=0)
    subjects = {
        "ViT, 31 parameters": [p.detach() for p in model.parameters()],
        "one 1024 x 1024": [torch.randn(1024, 1024)],
    }
    for what, tensors in subjects.items():
        reference = torch.optim.AdamW(_with_gradients(tensors), foreach=False)
        for name, make in OPTIMIZERS.items():
            times, seconds = ratio(make(_with_gradients(tensors)).step, reference.step)
            row = (f"{name} step, {what}", "torch AdamW", f"{times:.1f}", f"{1e3 * seconds:.2f} ms")
            table.add_row(*row)


def _with_gradients(tensors: list[torch.Tensor]) -> list[torch.nn.Parameter]:
    made = [torch.nn.Parameter(0.1 * torch.randn(t.shape)) for t in tensors]
    for p in made:
        p.grad = torch.randn(p.shape)
    return made
