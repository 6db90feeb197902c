"""Unmodified programs under emulation against the same step in plain torch."""

import statistics
from collections.abc import Callable
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from tapeout.simulator import emulate, load_chip, load_recipe
from tapeout.tests.programs.models import gpt2
from tapeout.tests.programs.resnet import ResNet

from .timing import PAIRS, ratio, seconds

#: Two layers of width 128, 8 sequences of 128 tokens; bytes and a few more, then GPT-2's own.
VOCABULARIES = {512: PAIRS, 50257: 1}
CALLS = 500
#: What the share of counting is told for.
SAMPLE_EVERY = 10
X, Y, M = torch.randn(4), torch.randn(4), torch.randn(2, 2)
SMALL: dict[str, Callable[[], Any]] = {
    "x + y": lambda: X + Y,
    "x * 2": lambda: X * 2.0,
    "exp(x)": lambda: torch.exp(X),
    "x > y": lambda: X > Y,
    "x.view(2, 2)": lambda: X.view(2, 2),
    "m.t()": lambda: M.t(),
    "x.clone()": lambda: X.clone(),
}


def programs(table: Table) -> None:
    """GPT-2, the residual network, and the mode's own cost for each operation."""
    for vocabulary, rounds in VOCABULARIES.items():
        language = gpt2(width=128, layers=2, heads=4, vocabulary=vocabulary)
        tokens = torch.randint(0, vocabulary, (8, 128))

        def read(model: nn.Module = language, tokens: Tensor = tokens) -> Tensor:
            return model(input_ids=tokens, labels=tokens).loss  # type: ignore[no-any-return]

        _step(table, f"GPT-2 2 x 128, vocabulary {vocabulary}", language, read, rounds)
    network = ResNet((2, 2), width=16, classes=10)
    images, labels = torch.randn(16, 3, 32, 32), torch.arange(16) % 10
    _step(
        table, "ResNet 2 x 2 blocks", network, lambda: F.cross_entropy(network(images), labels), 5
    )
    _overhead(table)


def _step(
    table: Table, name: str, model: nn.Module, loss: Callable[[], Tensor], rounds: int
) -> None:
    """Forward, backward and AdamW under H100 fp8: counted, not counted, and in plain float32."""
    optimizer = torch.optim.AdamW(model.parameters())
    chip, recipe = load_chip("nvidia-h100"), load_recipe("fp8")

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def measure() -> tuple[float, float, float]:
        with emulate(chip, recipe, model=model, sample_every=2):
            counted, bare = seconds(step), seconds(step)
        return counted, bare, seconds(step)

    measure()
    times = [measure() for _ in range(rounds)]
    against = statistics.median(bare / plain for _, bare, plain in times)
    took = statistics.median(bare for _, bare, _ in times)
    share = statistics.median(counted / bare for counted, bare, _ in times) - 1
    table.add_row(f"{name}, nvidia-h100/fp8", "plain torch", f"{against:.1f}", f"{took:.3f} s")
    table.add_row(
        f"... counted every {SAMPLE_EVERY} steps",
        "not counted",
        f"{1 + share / SAMPLE_EVERY:.2f}",
        f"{took * (1 + share / SAMPLE_EVERY):.3f} s",
    )


def _overhead(table: Table) -> None:
    """What the mode adds to an operation on four numbers, nothing rounded."""
    chip, recipe = load_chip("ieee-float32"), load_recipe("fp32")
    for name, operation in SMALL.items():

        def plain(operation: Callable[[], Any] = operation) -> None:
            for _ in range(CALLS):
                operation()

        def emulated(plain: Callable[[], None] = plain) -> None:
            with emulate(chip, recipe):
                plain()

        times, took = ratio(emulated, plain)
        added = took * (1 - 1 / times) / CALLS * 1e6
        table.add_row(f"{name} on 4 numbers", "plain torch", f"{times:.1f}", f"+{added:.1f} us")
