"""Chains of rounded steps against torch.mm in float32, and against the same chain in torch."""

from functools import partial
from typing import Any

import numpy as np
import torch
from rich.table import Table

from tapeout.formats import get_format, quantize
from tapeout.formats.format import FloatFormat
from tapeout.simulator import Chain, DotUnit

from .timing import ratio

SIZE = 512
SR = {"rounding": "stochastic"}
ZERO = {"rounding": "toward_zero"}
#: (operands, the order's fields)
CHAINS: list[tuple[str, dict[str, Any]]] = [
    ("e4m3", {"accumulator": "bfloat16"}),
    ("bfloat16", {"accumulator": "bfloat16"}),
    ("bfloat16", {"accumulator": "bfloat16", "fused": False}),
    ("e4m3", {"accumulator": "bfloat16", "random_bits": 8, **SR}),
    ("e4m3", {"accumulator": "bfloat16", "random_bits": 16, **SR}),
    ("e4m3", {"accumulator": "bfloat16", "random_bits": 24, **SR}),
    ("bfloat16", {"accumulator": "bfloat16", **ZERO}),
    ("e4m3", {"accumulator": "float16"}),
    ("e5m2", {"accumulator": "float16", "rounding": "up"}),
    ("float16", {"accumulator": "float16", "fused": False}),
    ("float16", {"accumulator": "e5m7", "rounding": "to_odd"}),
    ("e5m2", {"accumulator": "e4m4", "rounding": "nearest_away"}),
    ("bfloat16", {"accumulator": "float32", "rounding": "down"}),
    ("bfloat16", {"accumulator": "float32", "fused": False, **ZERO}),
    ("bfloat16", {"accumulator": "float32", "lanes": 2, "flush": True}),
    ("bfloat16", {"accumulator": "float32", "flush": True, **ZERO}),
    ("float32", {"accumulator": "float32"}),
]


def order_of(fields: dict[str, Any]) -> Chain:
    """The order with those fields."""
    return Chain.model_validate({"order": "chain", **fields})


def chain_unit(operands: str, fields: dict[str, Any]) -> DotUnit:
    """A unit of that chain."""
    order = order_of(fields)
    fmt = get_format(operands)
    assert isinstance(fmt, FloatFormat)
    return DotUnit(fmt, fmt, order.result, order)


def chains(table: Table) -> None:
    """512 x 512 x 512 against torch.mm; an fp16 chain also against torch's own rank-1 updates."""
    rng = np.random.default_rng(0)
    for operands, fields in CHAINS:
        unit = chain_unit(operands, fields)
        a, b = (
            quantize(rng.standard_normal((SIZE, SIZE)).astype(np.float32), unit.a) for _ in range(2)
        )
        ta, tb = torch.from_numpy(a), torch.from_numpy(b)
        product = partial(unit.matmul, a, b, check=False)
        name = f"chain {operands}: " + order_of(fields).describe().removeprefix("chain of ")
        times, seconds = ratio(product, partial(torch.mm, ta, tb))
        speed = f"{SIZE**3 / seconds / 1e6:,.0f} M MAC/s"
        table.add_row(name, "torch.mm", f"{times:.1f}", speed)
        if operands == "e4m3" and fields == {"accumulator": "float16"}:
            times, seconds = ratio(product, partial(half_updates, ta.half(), tb.half()))
            table.add_row(name, "rank-1 updates in torch.half", f"{times:.2f}", speed)


def half_updates(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The chain in float16 as a torch loop: each product of e4m3 is exact, each sum rounded."""
    c = torch.zeros(a.shape[0], b.shape[1], dtype=torch.float16)
    for k in range(a.shape[1]):
        c = c + a[:, k : k + 1] * b[k : k + 1, :]
    return c
