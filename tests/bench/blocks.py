"""Conversions into block formats against a copy of the same array, and against torchao."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from rich.table import Table

from tapeout.formats import get_format
from tapeout.formats.blocks.block import BlockFormat
from tapeout.formats.blocks.conversion import quantize_blocks

from .timing import ratio

NAMES = ("mxfp8_e4m3", "mxfp4_e2m1", "nvfp4", "float8_e4m3fn_128x128", "int4_g32", "uint4_g32")


def block_conversions(table: Table) -> None:
    """4096 x 1024 float32, dequantised again, against a copy of it."""
    x = np.random.default_rng(0).standard_normal((4096, 1024)).astype(np.float32)
    for name in NAMES:
        _add(table, f"quantize {name}, nearest_even", _ours(x, name), x)
    _add(table, "quantize mxfp8_e4m3, axis 0", _ours(x, "mxfp8_e4m3", axis=0), x)
    _add(table, "quantize mxfp8_e4m3, up", _ours(x, "mxfp8_e4m3", rounding="up"), x)
    for name, run in _theirs(torch.from_numpy(x)).items():
        _add(table, f"torchao {name}", run, x)


def _ours(x: np.ndarray, name: str, **options: Any) -> Callable[[], Any]:
    fmt = get_format(name)
    assert isinstance(fmt, BlockFormat)
    return lambda: quantize_blocks(x, fmt, **options)


def _theirs(x: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """The same by torchao, eager, where it is installed."""
    if find_spec("torchao") is None:
        return {}
    module = "torchao.prototype.mx_formats"
    tensors, nv = import_module(f"{module}.mx_tensor"), import_module(f"{module}.nvfp4_tensor")

    def mx(kind: Any) -> Any:
        scales, codes = tensors.to_mx(x, kind, 32)
        return tensors.to_dtype(codes, scales, kind, 32, torch.float32)

    def nvfp4() -> Any:
        scale = nv.per_tensor_amax_to_scale(x.abs().max())
        return nv.NVFP4Tensor.to_nvfp4(x, per_tensor_scale=scale).dequantize(torch.float32)

    return {
        "mxfp8_e4m3": lambda: mx(torch.float8_e4m3fn),
        "mxfp4_e2m1": lambda: mx(torch.float4_e2m1fn_x2),
        "nvfp4": nvfp4,
    }


def _add(table: Table, name: str, run: Callable[[], Any], x: np.ndarray) -> None:
    times, seconds = ratio(run, x.copy)
    table.add_row(name, "a copy", f"{times:.1f}", f"{x.size / seconds / 1e6:,.0f} M elements/s")
