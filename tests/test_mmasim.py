"""Dot units against MMA-Sim (arXiv 2511.10909), an independent model of matrix units, as an oracle.

Its functions compute one step on tensors; here a row of a chip computes the same step. NaN
payloads are not compared; the sign of zero is, where MMA-Sim settles it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tapeout.formats import decode, get_format, quantize
from tapeout.formats.format import ArithmeticFormat, FloatFormat, IntegerFormat
from tapeout.simulator import DotUnit, Exact, Fused, Tree, TwoStage

fdpa = pytest.importorskip("mmasim.arithmetic.fdpa", reason="the oracle MMA-Sim is not installed")
ftz = pytest.importorskip("mmasim.arithmetic.ftz_mul_add")

TORCH = {
    "float16": torch.float16, "bfloat16": torch.bfloat16, "float8_e4m3fn": torch.float8_e4m3fn,
    "float8_e5m2": torch.float8_e5m2, "float8_e4m3fnuz": torch.float8_e4m3fnuz,
    "float8_e5m2fnuz": torch.float8_e5m2fnuz, "float8_e8m0fnu": torch.float8_e8m0fnu,
    "tfloat32": torch.float32,
}  # fmt: skip
E4M3 = torch.float8_e4m3fn
COUNT = 2000


def fused(**row: Any) -> Fused:
    return Fused.model_validate({"order": "fused", "accumulator": "float32", **row})


def two_stage(**row: Any) -> TwoStage:
    fixed = {"order": "two_stage", "accumulator": "float32", "fraction_bits": 24, "guard_bits": 32}
    return TwoStage.model_validate({**fixed, "sum_bits": 31, **row})


def tree(group: int) -> Tree:
    return Tree(
        order="tree", group=group, accumulator="float32", flush=True, flushed_inputs="positive"
    )


def exact(block: int) -> Exact:
    return Exact(order="exact", block=block, accumulator="float32")


MX = {"format": "e8m0", "block": 32}
NV = {"format": "e4m3", "block": 16}
Step = Fused | TwoStage | Exact | Tree
#: name: operand formats, order, the oracle's step.
CASES: dict[str, tuple[str, str, Step, Callable[..., torch.Tensor]]] = {
    **{
        f"T {name} L{block} F{bits}": (
            name, name, fused(block=block, fraction_bits=bits, min_exponent=floor),
            lambda a, b, c, F=bits, z=floor: fdpa.t_fdpa(a, b, c, F, "RZ-FP32", z),
        )
        for name, block, bits, floor in [
            ("float16", 4, 23, -131), ("float16", 8, 24, -132), ("bfloat16", 8, 24, -132),
            ("bfloat16", 16, 25, -133), ("float8_e4m3fn", 32, 25, -133), ("tfloat32", 8, 25, -133),
        ]
    },
    "T fp8 to e8m13": (
        "float8_e5m2", "float8_e4m3fn",
        fused(block=32, fraction_bits=13, min_exponent=-133, accumulator="e8m13"),
        lambda a, b, c: fdpa.t_fdpa(a, b, c, 13, "RZ-E8M13", -133),
    ),
    "T fp16 to fp16": (
        "float16", "float16",
        fused(block=16, fraction_bits=25, min_exponent=-21, accumulator="float16",
              rounding="nearest_even"),
        lambda a, b, c: fdpa.t_fdpa(a, b, c.half(), 25, "RNE-FP16", -21),
    ),
    "ST mxfp8": (
        "float8_e5m2", "float8_e4m3fn",
        fused(block=32, fraction_bits=25, min_exponent=-133, scale=MX),
        lambda a, b, c, p, q: fdpa.st_fdpa(
            a, b, c, p.to(torch.float8_e8m0fnu), q.to(torch.float8_e8m0fnu), 25, "RZ-FP32", -133
        ),
    ),
    "GST mxf4": (
        "float4_e2m1fn", "float4_e2m1fn",
        fused(block=64, group=16, fraction_bits=35, min_exponent=-139, scale=MX),
        lambda a, b, c, p, q: fdpa.gst_fdpa(
            a, b, c, p.to(torch.float8_e8m0fnu), q.to(torch.float8_e8m0fnu), 16, 35, "RZ-FP32",
            -139,
        ),
    ),
    "GST nvf4": (
        "float4_e2m1fn", "float4_e2m1fn",
        fused(block=64, group=16, fraction_bits=35, min_exponent=-139, scale=NV),
        lambda a, b, c, p, q: fdpa.gst_fdpa(
            a, b, c, p.abs().to(E4M3), q.abs().to(E4M3), 16, 35, "RZ-FP32", -139
        ),
    ),
    **{
        f"TR {name}": (
            name, name, two_stage(block=block),
            lambda a, b, c: fdpa.tr_fdpa(a, b, c, 24, 31, "RNE-FP32"),
        )
        for name, block in [("float16", 8), ("bfloat16", 8), ("tfloat32", 4)]
    },
    "GTR fp8": (
        "float8_e4m3fnuz", "float8_e5m2fnuz", two_stage(block=16, lanes=2, drop_c=25),
        lambda a, b, c: fdpa.gtr_fdpa(a, b, c, 24, 31, "RNE-FP32"),
    ),
    "E fp16": ("float16", "float16", exact(4), fdpa.e_fdpa),
    "E bf16": ("bfloat16", "bfloat16", exact(2), fdpa.e_fdpa),
    "FTZ fp16": ("float16", "float16", tree(4), ftz.MMA_FTZ_MUL_ADD(4).dpa),
    "FTZ bf16 1k": ("bfloat16", "bfloat16", tree(4), ftz.MMA_FTZ_MUL_ADD(4).dpa),
    "FTZ bf16": ("bfloat16", "bfloat16", tree(2), ftz.MMA_FTZ_MUL_ADD(2).dpa),
}  # fmt: skip


def arithmetic(name: str) -> ArithmeticFormat:
    fmt = get_format(name)
    assert isinstance(fmt, FloatFormat | IntegerFormat)
    return fmt


def draw(fmt: ArithmeticFormat, shape: tuple[int, ...], spread: str, seed: int) -> np.ndarray:
    """Values of one size, of sizes 2^-12 to 2^12, or any code; specials only in "special"."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    if spread == "medium":
        x *= 2.0 ** rng.integers(-12, 13, shape)
    if spread in ("full", "special"):
        if fmt.bits <= 16:
            x = decode(rng.integers(0, 2**fmt.bits, shape, dtype=np.uint16), fmt).astype(float)
        else:
            x *= 2.0 ** rng.integers(-148, 127, shape)
    if spread == "special" and fmt.grid.has_nan:
        x = np.where(rng.random(shape) < 0.02, rng.choice([np.inf, -np.inf, np.nan], shape), x)
    else:
        x = np.where(np.isfinite(x), x, 0.0)
    x = np.where(rng.random(shape) < 0.05, 0.0, x)
    return quantize(
        x.astype(np.float32), fmt, overflow="infinity" if fmt.grid.has_nan else "saturate"
    )


def scales(unit: DotUnit, count: int, depth: int, seed: int, special: bool) -> list[np.ndarray]:
    if unit.scale is None:
        return []
    rng, fmt = np.random.default_rng(seed), unit.scale.fmt
    shape = (2, count, depth // unit.scale.block)
    if fmt.fraction_bits:
        values = decode(rng.integers(0, 255 if special else 127, shape, dtype=np.uint8), fmt)
    else:
        values = 2.0 ** rng.integers(-60, 60, shape).astype(np.float32)
    values = np.where(rng.random(shape) < 0.02, np.nan, values) if special else values
    return list(values.astype(np.float32))


def compare(name: str, spread: str, count: int, seed: int) -> tuple[int, int]:
    """(differing outputs, of them zeros of different sign) of one step."""
    left, right, order, oracle = CASES[name]
    unit = DotUnit(arithmetic(left), arithmetic(right), order.result, order)
    depth = order.group if isinstance(order, Tree) else order.block or 0
    a = draw(unit.a, (count, depth), spread, seed)
    b = draw(unit.b, (count, depth), spread, seed + 1)
    c = draw(order.result, (count,), spread, seed + 2)
    if spread == "cancelling":
        b[:, depth // 2 :] = b[:, : depth // 2]
        a[:, depth // 2 :] = np.where(np.isnan(a), 0, -a)[:, : depth // 2]
    if isinstance(order, TwoStage) and order.drop_c is not None:
        c = np.where(np.isfinite(c), c, np.float32(0.0))  # MMA-Sim drops an infinite C too
    factors = scales(unit, count, depth, seed + 3, spread == "special")
    given: dict[str, Any] = dict(zip(("a_scale", "b_scale"), factors, strict=False))
    got = unit.dot(a, b, c, **given)
    with np.errstate(invalid="ignore"):
        ta = torch.from_numpy(a).to(TORCH.get(left, torch.float16))
        tb = torch.from_numpy(b).to(TORCH.get(right, torch.float16))
    more = [torch.from_numpy(f) for f in factors]
    want = oracle(ta, tb, torch.from_numpy(c), *more).float().numpy()
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    sign = same & (got == 0) & (np.signbit(got) != np.signbit(want))
    return int((~same).sum()), int(sign.sum())


@pytest.mark.parametrize("spread", ["narrow", "medium", "full", "cancelling", "special"])
@pytest.mark.parametrize("name", CASES)
def test_step_equals_the_oracle(name: str, spread: str) -> None:
    differing, signs = compare(name, spread, COUNT, 1)
    assert differing == 0
    assert signs == 0 or name.startswith(("E ", "TR", "GTR"))
