"""Training a program plainly or emulated, by an optimizer that nobody wrote for Tapeout."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from lion_pytorch import Lion
from torch import nn

from tapeout.simulator import Chip, Recipe, emulate

from .models import Counts, Program

OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]] = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=3e-3),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "lion": lambda p: Lion(p, lr=1e-3, weight_decay=0.01),
}


class Run(NamedTuple):
    """What a training run leaves."""

    losses: list[float]
    parameters: dict[str, torch.Tensor]
    rows: list[dict[str, Any]]
    coverage: dict[str, dict[str, int]]


def train(
    program: Program,
    optimizer: str,
    steps: int,
    chip: Chip | None = None,
    recipe: Recipe | None = None,
    seed: int = 0,
) -> Run:
    """Train for some steps; without a chip, in plain torch."""
    model = program.build()
    opt = OPTIMIZERS[optimizer](model.parameters())
    losses = []
    if chip is None or recipe is None:
        context: Any = nullcontext()
    else:
        context = emulate(chip, recipe, model=model, seed=seed)
    with context as trace:
        for _ in range(steps):
            opt.zero_grad()
            loss = program.loss(model)
            loss.backward()  # type: ignore[no-untyped-call]
            opt.step()
            losses.append(loss.item())
    parameters = {name: p.detach().clone() for name, p in model.named_parameters()}
    if trace is None:
        return Run(losses, parameters, [], {})
    return Run(losses, parameters, trace.take(), trace.coverage())


def count_products(rows: Iterable[dict[str, Any]]) -> dict[str, Counts]:
    """Matrix products by module and role, as the trace has them."""
    calls: dict[str, dict[str, int]] = {}
    for row in rows:
        if row["op"] == "matmul" and row["operand"] == "output":
            roles = calls.setdefault(row["module"], dict.fromkeys(Counts._fields, 0))
            roles[row["gemm"]] += row["calls"]
    return {module: Counts(**roles) for module, roles in calls.items()}
