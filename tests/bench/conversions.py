"""Conversions into formats against a copy of the same array."""

import numpy as np
import torch
from rich.table import Table

from tapeout.formats import Stochastic, encode, quantize

from .timing import ratio


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
