"""Matrix products on the units of chips against torch.mm in float32."""

from functools import partial
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from rich.table import Table

from tapeout.formats import FloatFormat, get_format, quantize
from tapeout.simulator import DotUnit, load_chip
from tapeout.simulator.order import AnyOrder, Order

from .timing import ratio

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

#: Orders by themselves: operand format, the row.
ORDERS: list[tuple[str, dict[str, object]]] = [
    ("e4m3", {"order": "fused", "block": 32, "fraction_bits": 25, "min_exponent": -133,
              "scale": {"format": "e8m0", "block": 32}}),
    ("e2m1", {"order": "fused", "block": 64, "group": 16, "fraction_bits": 35,
              "min_exponent": -139, "scale": {"format": "e4m3", "block": 16}}),
    ("bfloat16", {"order": "two_stage", "block": 8, "fraction_bits": 24, "guard_bits": 32,
                  "sum_bits": 31}),
    ("e4m3fnuz", {"order": "two_stage", "block": 16, "lanes": 2, "fraction_bits": 24,
                  "guard_bits": 32, "sum_bits": 31, "drop_c": 25}),
    ("float16", {"order": "exact", "block": 4}),
    ("bfloat16", {"order": "exact", "block": 2}),
    ("float16", {"order": "tree", "group": 4, "flush": True, "flushed_inputs": "positive"}),
    ("bfloat16", {"order": "tree", "group": 2, "rounding": "to_odd", "overflow": "infinity",
                  "flush": True, "tininess": "before"}),
    ("bfloat16", {"order": "tree", "group": 2, "leaf": 2}),
]  # fmt: skip


def units() -> list[tuple[str, DotUnit]]:
    """What is timed, and its name."""
    named = []
    for chip, fmt, output, instruction in UNITS:
        unit = load_chip(chip).matrix_unit(fmt, fmt, output, instruction)
        named.append((f"{chip} {fmt} {instruction or ''}".strip(), unit))
    rows: TypeAdapter[Order] = TypeAdapter(AnyOrder)
    for name, row in ORDERS:
        order, operand = rows.validate_python({"accumulator": "float32", **row}), get_format(name)
        assert isinstance(operand, FloatFormat)
        unit = DotUnit(operand, operand, order.result, order)
        named.append((f"{name}, {order.describe()}", unit))
    return named


def products(table: Table) -> None:
    """512 x 512 x 512 against torch.mm in float32."""
    rng = np.random.default_rng(0)
    for name, unit in units():
        a, b = (
            quantize(rng.standard_normal((512, 512)).astype(np.float32), unit.a) for _ in range(2)
        )
        ta, tb = torch.from_numpy(a), torch.from_numpy(b)
        scales: dict[str, Any] = {}
        if unit.scale is not None:
            parts = 512 // unit.scale.block
            scales = {"a_scale": np.ones((512, parts), np.float32)}
        product = partial(unit.matmul, a, b, check=False, **scales)
        times, seconds = ratio(product, partial(torch.mm, ta, tb))
        table.add_row(name, "torch.mm", f"{times:.1f}", f"{512**3 / seconds / 1e6:,.0f} M MAC/s")
