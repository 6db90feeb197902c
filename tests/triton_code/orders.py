"""Orders that between them take every way through the kernels."""

from typing import Any

from pydantic import TypeAdapter

from tapeout.formats import get_format
from tapeout.formats.format import FloatFormat, IntegerFormat
from tapeout.simulator import DotUnit
from tapeout.simulator.order import AnyOrder, Order

_ORDERS: TypeAdapter[Order] = TypeAdapter(AnyOrder)


def chain(accumulator: str, **row: Any) -> dict[str, Any]:
    """A chain's row; random_bits make it stochastic."""
    if "random_bits" in row:
        row["rounding"] = "stochastic"
    return {"order": "chain", "accumulator": accumulator, **row}


def fused(
    block: int, fraction_bits: int, accumulator: str = "float32", **row: Any
) -> dict[str, Any]:
    """A fused row."""
    if "random_bits" in row:
        row["rounding"] = "stochastic"
    return {"order": "fused", "block": block, "fraction_bits": fraction_bits,
            "min_exponent": -133, "accumulator": accumulator, **row}  # fmt: skip


#: (operands' format, the order's row).
ORDERS: list[tuple[str, dict[str, Any]]] = [
    ("e4m3", chain("bfloat16")),
    ("bfloat16", chain("bfloat16", fused=False)),
    ("e4m3", chain("bfloat16", random_bits=16)),
    ("bfloat16", chain("bfloat16", random_bits=24)),
    ("e4m3", chain("bfloat16", lanes=3, random_bits=8)),
    ("e5m2", chain("float16", rounding="up")),
    ("float16", chain("float16", fused=False, rounding="down")),
    ("float16", chain("e5m7", rounding="to_odd")),
    ("e5m2", chain("e4m4", rounding="nearest_away")),
    ("bfloat16", chain("float32", rounding="toward_zero", fused=False)),
    ("bfloat16", chain("float32", flush=True, lanes=2)),
    ("float32", chain("float32")),
    ("float32", chain("float32", fused=False)),
    ("float64", chain("float64")),
    ("e4m3", fused(4, 13)),
    ("bfloat16", fused(4, 25, rounding="nearest_even")),
    ("e4m3", fused(4, 24, "bfloat16", random_bits=12)),
    ("e4m3", fused(4, 25, scale={"format": "e8m0", "block": 4})),
    ("e2m1", fused(8, 20, scale={"format": "e4m3", "block": 4})),
    ("e2m1", fused(8, 35, group=4, scale={"format": "e4m3", "block": 4})),
    ("bfloat16", {"order": "two_stage", "block": 4, "fraction_bits": 24, "guard_bits": 32,
                  "sum_bits": 31, "accumulator": "float32"}),
    ("e4m3fnuz", {"order": "two_stage", "block": 8, "lanes": 2, "fraction_bits": 24,
                  "guard_bits": 32, "sum_bits": 31, "drop_c": 25, "accumulator": "float32"}),
    ("float16", {"order": "exact", "block": 4, "accumulator": "float16", "rounding": "up"}),
    ("bfloat16", {"order": "exact", "accumulator": "float32"}),
    ("float16", {"order": "tree", "group": 4, "flush": True, "flushed_inputs": "positive",
                 "accumulator": "float32"}),
    ("bfloat16", {"order": "tree", "group": 2, "rounding": "to_odd", "overflow": "infinity",
                  "flush": True, "tininess": "before", "accumulator": "float32"}),
    ("bfloat16", {"order": "tree", "group": 4, "leaf": 2, "accumulator": "bfloat16",
                  "rounding": "down"}),
    ("int8", {"order": "integer"}),
    ("int8", {"order": "integer", "accumulator": "int16"}),
    ("int8", {"order": "integer", "accumulator": "int16", "overflow": "saturate", "block": 4}),
    ("uint8", {"order": "integer", "partial": "int16", "group": 2}),
]  # fmt: skip


def unit_of(operands: str, row: dict[str, Any], **around: Any) -> DotUnit:
    """A unit of that order."""
    order, fmt = _ORDERS.validate_python(row), get_format(operands)
    assert isinstance(fmt, FloatFormat | IntegerFormat)
    return DotUnit(fmt, fmt, order.result, order, **around)
