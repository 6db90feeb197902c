"""`make bench`: speed as ratios, the two sides of each measured in turns in one process.

Machines are noisy and differ: read the median of the ratios, not a time. `floor` is what the
operation needs at least: a copy for a conversion, torch.mm in float32 for a product.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F

from tapeout.formats import Stochastic, encode, quantize
from tapeout.formats.jit import set_threads
from tapeout.scenarios.models.vit import VisionTransformer
from tapeout.simulator import emulate, load_chip, load_recipe

PAIRS = 9
UNITS = [
    ("nvidia-h100", "e4m3", "float32", "wgmma"),
    ("nvidia-h100", "e4m3", "float32", "mma.sync"),
    ("nvidia-h100", "bfloat16", "float32", None),
    ("nvidia-a100", "bfloat16", "float32", None),
    ("intel-sapphire-rapids", "bfloat16", "float32", "tdpbf16ps"),
    ("intel-sapphire-rapids", "int8", "int32", None),
    ("generic-fp8-sr", "e4m3", "bfloat16", None),
    ("generic-int4", "int4", "int32", None),
    ("ieee-float32", "float32", "float32", None),
]


def ratio(ours: Callable[[], Any], floor: Callable[[], Any]) -> tuple[float, float]:
    """Median of time(ours) / time(floor) over pairs in turn, and the median time of ours."""
    ours()
    floor()
    pairs = [(_seconds(ours), _seconds(floor)) for _ in range(PAIRS)]
    return statistics.median(a / b for a, b in pairs), statistics.median(a for a, _ in pairs)


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def conversions(table: Table) -> None:
    """4096 x 1024 float32 against a copy of it."""
    x = np.random.default_rng(0).standard_normal((4096, 1024)).astype(np.float32)
    cases = {
        "quantize e4m3, nearest_even": lambda: quantize(x, "e4m3"),
        "quantize e4m3, stochastic(8)": lambda: quantize(x, "e4m3", rounding=Stochastic(8)),
        "quantize e4m3, up": lambda: quantize(x, "e4m3", rounding="up"),
        "quantize int4, nearest_even": lambda: quantize(x, "int4"),
        "encode e4m3, nearest_even": lambda: encode(x, "e4m3"),
        "torch .to(float8_e4m3fn).float()": lambda: (
            torch.from_numpy(x).to(torch.float8_e4m3fn).float()
        ),
    }
    for name, run in cases.items():
        times, seconds = ratio(run, x.copy)
        table.add_row(name, "a copy", f"{times:.1f}", f"{x.size / seconds / 1e6:,.0f} M elements/s")


def products(table: Table) -> None:
    """512 x 512 x 512 against torch.mm in float32."""
    rng = np.random.default_rng(0)
    for chip, fmt, output, instruction in UNITS:
        unit = load_chip(chip).matrix_unit(fmt, fmt, output, instruction)
        a, b = (
            quantize(rng.standard_normal((512, 512)).astype(np.float32), unit.a) for _ in range(2)
        )
        ta, tb = torch.from_numpy(a), torch.from_numpy(b)
        product = partial(unit.matmul, a, b, check=False)
        times, seconds = ratio(product, partial(torch.mm, ta, tb))
        name = f"{chip} {fmt} {instruction or ''}".strip()
        table.add_row(name, "torch.mm", f"{times:.1f}", f"{512**3 / seconds / 1e6:,.0f} M MAC/s")


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


def main() -> None:
    """Print one table for one thread and one for two."""
    for threads in (1, 2):
        torch.set_num_threads(threads)
        set_threads(threads)
        table = Table(title=f"{threads} thread(s), median of {PAIRS} pairs", title_justify="left")
        for column in ("what", "against", "times", "speed"):
            table.add_column(column, justify="right" if column in ("times", "speed") else "left")
        conversions(table)
        products(table)
        steps(table)
        Console().print(table)


if __name__ == "__main__":
    main()
