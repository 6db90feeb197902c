"""`python -m tapeout.tests.bench.gpu`: speed on a CUDA GPU against the floors of an H200.

Prints conversions against a copy of the same tensor, products in 10^12 multiply-adds a second (T
MAC/s) beside the goal and the floor of their kernel's docstring, and tokens a second of a GPT-2
124M training step beside the same step in plain bfloat16. Subjects can be named: conversions,
products, training. `--tiny` runs all of it at sizes that Triton's interpreter bears, on tensors in
memory, to see that it runs: its times say nothing.

No GPU has run this yet; there is no figure to quote.
"""

import copy
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from rich.console import Console
from rich.table import Table

from tapeout.formats import Stochastic, encode, quantize
from tapeout.formats.device.place import host_tensors_too
from tapeout.simulator import emulate, load_chip, load_recipe
from tapeout.tests.programs.models import gpt2

from ..triton_code.orders import unit_of

#: Of an H200: bytes a second, streaming multiprocessors, clocks a second.
BANDWIDTH, SMS, CLOCK = 4.8e12, 132, 1.98e9


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    device: str
    elements: int
    side: int
    width: int
    layers: int
    heads: int
    vocabulary: int
    batch: int
    tokens: int
    repetitions: int


FULL = Sizes("cuda", 1 << 28, 4096, 768, 12, 12, 50257, 8, 1024, 5)
TINY = Sizes("cpu", 256, 8, 8, 1, 2, 8, 1, 4, 1)

CONVERSIONS: dict[str, Callable[[torch.Tensor], Any]] = {
    "quantize e4m3, nearest_even": lambda x: quantize(x, "e4m3"),
    "quantize e4m3, stochastic(8)": lambda x: quantize(x, "e4m3", rounding=Stochastic(8)),
    "quantize bfloat16": lambda x: quantize(x, "bfloat16"),
    "encode e4m3": lambda x: encode(x, "e4m3"),
    "quantize mxfp8": lambda x: quantize(x, "mxfp8"),
    "quantize nvfp4": lambda x: quantize(x, "nvfp4"),
}
_FUSED = {"order": "fused", "fraction_bits": 13, "min_exponent": -133, "accumulator": "float32"}
#: name: (operands, order, goal and floor in T MAC/s).
PRODUCTS: dict[str, tuple[str, dict[str, Any], float | None, float]] = {
    "fused e4m3, 13 bits, 32 products": ("e4m3", _FUSED | {"block": 32}, 0.5, 1.9),
    "fused bfloat16, 25 bits, 16 products": (
        "bfloat16", _FUSED | {"fraction_bits": 25, "block": 16}, None, 1.2,
    ),
    "chain e4m3 in bfloat16": ("e4m3", {"order": "chain", "accumulator": "bfloat16"}, 1.0, 2.3),
    "chain bfloat16 in bfloat16": (
        "bfloat16", {"order": "chain", "accumulator": "bfloat16"}, 1.0, 2.3,
    ),
    "chain e4m3 in bfloat16, stochastic(16)": (
        "e4m3", {"order": "chain", "accumulator": "bfloat16", "rounding": "stochastic",
                 "random_bits": 16}, None, 0.4,
    ),
    "exact bfloat16, 4 products": (
        "bfloat16", {"order": "exact", "block": 4, "accumulator": "float32"}, None, 1.2,
    ),
}  # fmt: skip
RECIPES = ("bf16", "fp8")


def seconds(run: Callable[[], Any], sizes: Sizes) -> float:
    """The median of a few runs after one, the device's work done."""
    run()
    took = []
    for _ in range(sizes.repetitions):
        _wait(sizes)
        start = time.perf_counter()
        run()
        _wait(sizes)
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def _wait(sizes: Sizes) -> None:
    if sizes.device == "cuda":
        torch.cuda.synchronize()


@contextmanager
def kernels(sizes: Sizes) -> Iterator[None]:
    """The kernels of a GPU, or Triton's interpreter."""
    with host_tensors_too() if sizes.device == "cpu" else nullcontext():
        yield


def conversions(sizes: Sizes) -> Table:
    """float32 to a format and back against a copy; the goal of e4m3 is 60 % of its bandwidth."""
    table = _table("conversions", "what", "elements/s", "share of a copy", "goal", "floor")
    x = torch.randn(sizes.elements, device=sizes.device).reshape(-1, 256)
    copying = seconds(x.clone, sizes)
    for name, run in CONVERSIONS.items():
        with kernels(sizes):
            took = seconds(lambda: run(x), sizes)  # noqa: B023, called at once
        goal = "60 %" if name.startswith("quantize e4m3, near") else ""
        floor = f"{BANDWIDTH / 8 / 1e9:.0f} G/s"
        table.add_row(
            name, f"{x.numel() / took / 1e9:.1f} G/s", f"{copying / took:.0%}", goal, floor
        )
    return table


def products(sizes: Sizes) -> Table:
    """Products of a side of 4096."""
    table = _table("products", "what", "T MAC/s", "goal", "floor", "share of the floor")
    for name, (operands, order, goal, floor) in PRODUCTS.items():
        unit = unit_of(operands, order)
        with kernels(sizes):
            a, b = (
                quantize(torch.randn(sizes.side, sizes.side, device=sizes.device), operands)
                for _ in range(2)
            )
            took = seconds(lambda: unit.matmul(a, b, check=False), sizes)  # noqa: B023
        speed = sizes.side**3 / took / 1e12
        wanted = "" if goal is None else f"{goal}"
        table.add_row(name, f"{speed:.3g}", wanted, f"{floor}", f"{speed / floor:.0%}")
    return table


def training(sizes: Sizes) -> Table:
    """A GPT-2 step, forward, backward and AdamW, on nvidia-h100 and in plain bfloat16."""
    table = _table("training", "what", "tokens/s", "times the plain step")
    model = gpt2(sizes.width, sizes.layers, sizes.heads, sizes.vocabulary).to(sizes.device)
    if sizes.tokens > model.config.n_positions:  # type: ignore[union-attr, operator]
        model = _longer(sizes)
    tokens = torch.randint(0, sizes.vocabulary, (sizes.batch, sizes.tokens), device=sizes.device)
    plain = seconds(_step(model, tokens, autocast=True), sizes)
    count = tokens.numel()
    table.add_row("plain bfloat16 (autocast)", f"{count / plain:,.0f}", "1")
    for recipe in RECIPES:
        net = copy.deepcopy(model)
        with kernels(sizes), emulate(
            load_chip("nvidia-h100"), load_recipe(recipe), model=net, sample_every=10**6
        ) as trace:  # fmt: skip
            step = _step(net, tokens, autocast=False)
            step()  # the one that the trace counts
            took = seconds(step, sizes)
        assert not trace.coverage()["host"]
        table.add_row(f"nvidia-h100, {recipe}", f"{count / took:,.0f}", f"{took / plain:.1f}")
    return table


def _longer(sizes: Sizes) -> torch.nn.Module:
    """GPT-2 with room for the tokens."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=sizes.vocabulary, n_positions=sizes.tokens, n_embd=sizes.width,
        n_layer=sizes.layers, n_head=sizes.heads, use_cache=False,
        embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0,
    )  # fmt: skip
    # .to of transformers is decorated in a way that hides its arguments.
    return cast(torch.nn.Module, GPT2LMHeadModel(config)).to(sizes.device)


def _step(model: torch.nn.Module, tokens: torch.Tensor, autocast: bool) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=autocast):
            loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()

    return step


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for n, column in enumerate(columns):
        table.add_column(column, justify="right" if n else "left")
    return table


SUBJECTS = {"conversions": conversions, "products": products, "training": training}


def main() -> None:
    """Print the tables of the subjects named, or of all."""
    arguments = sys.argv[1:]
    sizes = TINY if "--tiny" in arguments else FULL
    if sizes is FULL and not torch.cuda.is_available():
        sys.exit("no CUDA device in this machine; --tiny runs in Triton's interpreter")
    chosen = [name for name in arguments if name != "--tiny"] or list(SUBJECTS)
    console = Console(width=110)
    if sizes is FULL:
        console.print(torch.cuda.get_device_name())
    for name in chosen:
        console.print(SUBJECTS[name](sizes))


if __name__ == "__main__":
    main()
