"""Conversions into formats and back against a copy of the same array, and against libraries."""

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import torch
from rich.table import Table

from tapeout.formats import Stochastic, encode, quantize

from .timing import ratio

SHAPE = (4096, 1024)


def conversions(table: Table) -> None:
    """4096 x 1024 float32 to a format and back, or to codes, against a copy of the array."""
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    for name, run in [*ours(x).items(), *theirs(x).items()]:
        times, seconds = ratio(run, x.copy, pairs=3 if name.startswith("gfloat") else None)
        table.add_row(name, "a copy", f"{times:.2f}", f"{x.size / seconds / 1e6:,.0f} M elements/s")


def ours(x: np.ndarray) -> dict[str, Callable[[], Any]]:
    """The conversions of this package."""
    stochastic = Stochastic(8)
    return {
        "quantize e4m3, nearest_even": lambda: quantize(x, "e4m3"),
        "quantize e4m3, stochastic(8)": lambda: quantize(x, "e4m3", rounding=stochastic),
        "quantize e4m3, stochastic(8), infinity": lambda: quantize(
            x, "e4m3", rounding=stochastic, overflow="infinity"
        ),
        "quantize e4m3, up": lambda: quantize(x, "e4m3", rounding="up"),
        "quantize bfloat16, nearest_even": lambda: quantize(x, "bfloat16"),
        "quantize int4, nearest_even": lambda: quantize(x, "int4"),
        "quantize posit8es0": lambda: quantize(x, "posit8es0"),
        "encode e4m3, nearest_even": lambda: encode(x, "e4m3"),
        "encode e4m3, stochastic(8)": lambda: encode(x, "e4m3", rounding=stochastic),
        "encode int8, nearest_even": lambda: encode(x, "int8"),
    }


def theirs(x: np.ndarray) -> dict[str, Callable[[], Any]]:
    """e4m3 and back by other libraries, as far as they are installed."""
    tensor = torch.from_numpy(x)
    runs: dict[str, Callable[[], Any]] = {
        "torch .to(float8_e4m3fn).float()": lambda: tensor.to(torch.float8_e4m3fn).float(),
        "ml_dtypes .astype(...).astype(float32)": lambda: x.astype(ml_dtypes.float8_e4m3fn).astype(
            np.float32
        ),
    }
    if (gfloat := found("gfloat")) is not None:
        e4m3 = importlib.import_module("gfloat.formats").format_info_ocp_e4m3
        runs["gfloat round_ndarray"] = lambda: gfloat.round_ndarray(e4m3, x)
    if (qtorch := found("qtorch.quant")) is not None:  # compiles C++ when first imported
        for mode in ("nearest", "stochastic"):
            runs[f"qtorch float_quantize, {mode}"] = partial(
                qtorch.float_quantize, tensor, 4, 3, rounding=mode
            )
    return runs


def found(module: str) -> Any:
    """The module, or None with a line that says why it is left out."""
    try:
        return importlib.import_module(module)
    except Exception as error:  # qtorch fails in many ways where it cannot build
        print(f"{module} is left out: {type(error).__name__}")
        return None
