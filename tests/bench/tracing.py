"""A training step that the trace counts against one that it does not."""

from typing import Any

import torch
from rich.table import Table
from torch.nn import functional as F

from tapeout.scenarios.models.gpt import Gpt, GptSpec
from tapeout.simulator import emulate, load_chip, load_recipe

from .timing import ratio

#: Counted steps may take this share more of all steps.
LIMIT = 0.15


def tracing(table: Table) -> None:
    """GPT-2 with 2 layers, 128 wide, 8 x 128 tokens, AdamW, H100 fp8; and how often to count.

    In one emulation that counts every second step, so that both kinds alternate.
    """
    torch.manual_seed(0)
    model = Gpt(GptSpec(width=128, length=128))
    optimizer = torch.optim.AdamW(model.parameters())
    tokens = torch.randint(0, 128, (8, 129))

    def step() -> Any:
        optimizer.zero_grad()
        scores = model(tokens[:, :-1]).flatten(0, 1)
        F.cross_entropy(scores, tokens[:, 1:].flatten()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    with emulate(
        load_chip("nvidia-h100"), load_recipe("fp8"), model=model, sample_every=2
    ) as trace:
        times, seconds = ratio(step, step)
        trace.take()
    often = max(1, -(-(times - 1) // LIMIT))
    table.add_row(
        f"training step of GPT-2 counted ({100 * LIMIT:.0f} % at every {often:.0f} steps)",
        "not counted", f"{times:.2f}", f"{seconds:.3f} s",
    )  # fmt: skip
