"""Launches that between them ask for every Triton kernel in each of its ways to compute."""

from typing import Any

import torch

from tapeout.formats import Stochastic, decode, encode, get_format, quantize
from tapeout.formats.format import FloatFormat
from tapeout.simulator.phase import Phase
from tapeout.simulator.tracing import Trace
from tapeout.simulator.units import VectorUnit
from tapeout.simulator.vector import VectorWork

from .orders import ORDERS, unit_of


def every_kernel() -> None:
    """Formats, dot units, vector unit."""
    formats()
    for name, row in ORDERS:
        unit = unit_of(name, row)
        a, b = torch.zeros(64, 64), torch.zeros(64, 64)
        scales: dict[str, Any] = {}
        if unit.scale is not None:
            parts = 64 // unit.scale.block
            scales = {"a_scale": torch.ones(64, parts), "b_scale": torch.ones(parts, 64)}
        unit.matmul(a, b, torch.zeros(64, 64), check=False, **scales)
    exact_in_digits()
    operands()
    vector()


def operands() -> None:
    """Operands scaled on their way into a unit."""
    from tapeout.simulator import load_recipe
    from tapeout.simulator.matrix.device import prepare

    row = load_recipe("fp8").operand("activation", "fprop")
    prepare(torch.ones(1, 64, 64), row)


def few_kernels() -> None:
    """A conversion, a chain, IEEE float32, and a quotient."""
    quantize(torch.zeros(4096), "e4m3")
    for name, row in (ORDERS[0], ("float32", {"order": "chain", "accumulator": "float32"})):
        unit_of(name, row).matmul(torch.zeros(64, 64), torch.zeros(64, 64), check=False)
    work = VectorWork(vector_unit("float32", "nearest_even"), Trace(0, Phase(None)))
    work.operate(3, torch.ones(64), torch.ones(64))


def formats() -> None:
    """Conversions, searches and scales, in both widths."""
    x = torch.zeros(4096)
    for rounding in ("nearest_even", "up", Stochastic(8), Stochastic(32, "src")):
        quantize(x, "e4m3", rounding=rounding)
        encode(x, "e4m3", rounding=rounding, overflow="infinity")
    quantize(x.double(), "bfloat16")
    quantize(x, "int8", overflow="wrap")
    encode(x, "int4")
    decode(encode(x, "e4m3"), "e4m3")
    quantize(x, "posit8es0")
    for name in ("mxfp8_e4m3", "nvfp4", "float8_e4m3fn_128x128", "int4_g32"):
        quantize(x.reshape(64, 64), name)
    quantize(x.reshape(64, 64), "mxfp4", rounding="up")


def exact_in_digits() -> None:
    """The second pass of exact sums, which only operands far apart ask for."""
    from tapeout.formats.device.target import DOUBLE, make_target
    from tapeout.formats.rounding import Overflow
    from tapeout.simulator.execution.device.sums import Leaves, Sums
    from tapeout.simulator.execution.device.tiles import start
    from tapeout.simulator.kernels.triton import exact, tree

    a, c, lost = torch.zeros(1, 64, 64), torch.zeros(1, 64, 64), torch.zeros(1, dtype=torch.int32)
    fmt = get_format("float32")
    assert isinstance(fmt, FloatFormat)
    g = make_target(fmt.grid, DOUBLE, 0, 0, Overflow.INFINITY)
    start(exact.matmul, a, a, (c, c, lost), f=Sums(64, -300, 20), g=g)
    start(tree.matmul, a, a, (c, c, lost), f=Leaves(4, 4, -300, 20, 0, 0, 0.0), g=g)


def vector_unit(name: str, rounding: str, **options: Any) -> VectorUnit:
    """A vector unit of that format."""
    evidence = [{"of": ["*"], "basis": "assumed", "source": "a test"}]
    row = {"format": name, "accumulator": name, "rounding": rounding, "evidence": evidence}
    return VectorUnit.model_validate(row | options)


def vector() -> None:
    """Elementwise operations, sums and accumulations, plain and rounded."""
    for unit in (
        vector_unit("float32", "nearest_even"),
        vector_unit("bfloat16", "down", flush="both", reduction="sequential"),
        vector_unit("bfloat16", "stochastic", random_bits=8, rule="srff"),
    ):
        work = VectorWork(unit, Trace(0, Phase(None)))
        x = torch.ones(64, 48)
        for op, count in enumerate((2, 2, 2, 2, 1, 3)):
            work.operate(op, *[x] * count)
        if not work.plain:
            work.settle(x.double())
        for dims in (0, 1):
            work.reduce(x, [dims], False)
        work.scan(x, 0)
        work.add_rows(x, torch.zeros(3, dtype=torch.int64), torch.ones(3, 48))
