"""The NVIDIA GPU in front of the user, through torch's matrix products.

What the calls run, as far as it is published:

- `torch.mm` with `out_dtype = float32` of float16 or bfloat16, and of float32 with tf32 allowed:
  cuBLAS with float32 accumulation. C = 0: torch's `addmm` adds C after the tensor core.
- `torch._scaled_mm` of fp8 with scales of 1: cublasLtMatmul. `use_fast_accum = True` sets
  CUBLASLT_MATMUL_DESC_FAST_ACCUM: all of K stays in the tensor core's accumulator. False: partial
  sums are promoted to float32 outside of it, at an interval that cuBLASLt does not publish and
  that is searched for here; it has an effect on Ada and Hopper only (cuBLAS documentation).
- `torch._int_mm`: exact int32 sums, so no order shows.

Evidence: none yet. No run on a GPU has exercised the calls of this file; the construction of
operands, the search for the order and the comparison (`library.py`) are tested on the CPU with
units in the place of the GPU.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...formats import get_format
from ...formats.format import ArithmeticFormat
from ..chip import Chip
from .batch import Batch
from .codes import Codes, to_codes, to_values
from .library import Product
from .selection import Chosen

#: Compute capabilities of the library's chips (CUDA C++ Programming Guide).
CAPABILITIES = {
    "nvidia-v100": ((7, 0),),
    "nvidia-t4": ((7, 5),),
    "nvidia-a100": ((8, 0),),
    "nvidia-l40s": ((8, 9),),
    "nvidia-h100": ((9, 0),),
    "nvidia-b200": ((10, 0), (10, 3)),
    "nvidia-rtx-blackwell": ((12, 0), (12, 1)),
}
DTYPES = {
    "float16": (torch.float16, np.int16),
    "bfloat16": (torch.bfloat16, np.int16),
    "float8_e4m3fn": (torch.float8_e4m3fn, np.uint8),
    "float8_e5m2": (torch.float8_e5m2, np.uint8),
    "int8": (torch.int8, np.int8),
}
Tensor = torch.Tensor


def wide(a: Tensor, b: Tensor) -> Tensor:
    """float16 or bfloat16, float32 result."""
    out: Tensor = torch.mm(a, b, out_dtype=torch.float32)
    return out


def narrow(a: Tensor, b: Tensor) -> Tensor:
    """float16 accumulated in float16."""
    with setting("allow_fp16_accumulation", True):
        return torch.mm(a, b)


def tf32(a: Tensor, b: Tensor) -> Tensor:
    """float32 values on the tf32 grid."""
    with setting("allow_tf32", True):
        return torch.mm(a, b)


def scaled(fast: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """fp8 with scales of 1; B column-major, as cuBLASLt takes it."""

    def call(a: Tensor, b: Tensor) -> Tensor:
        one = torch.ones((), device=a.device)
        out: Tensor = torch.ops.aten._scaled_mm(
            a, b.t().contiguous().t(), scale_a=one, scale_b=one, out_dtype=torch.float32,
            use_fast_accum=fast,
        )  # fmt: skip
        return out

    return call


@contextmanager
def setting(name: str, value: bool) -> Iterator[None]:
    """A switch of torch.backends.cuda.matmul, and its old value afterwards."""
    switches: Any = torch.backends.cuda.matmul
    before = getattr(switches, name)
    setattr(switches, name, value)
    try:
        yield
    finally:
        setattr(switches, name, before)


@dataclass(frozen=True)
class Call:
    """A matrix product of torch, and the units that it runs on."""

    name: str
    a: tuple[str, ...]
    b: tuple[str, ...]
    output: str
    run: Callable[[Tensor, Tensor], Tensor]
    promotes: bool = False


_FP8 = ("float8_e4m3fn", "float8_e5m2")
CALLS = (
    Call("torch.mm", ("float16",), ("float16",), "float32", wide),
    Call("torch.mm", ("bfloat16",), ("bfloat16",), "float32", wide),
    Call("torch.mm, allow_tf32", ("tfloat32",), ("tfloat32",), "float32", tf32),
    Call("torch.mm, allow_fp16_accumulation", ("float16",), ("float16",), "float16", narrow),
    Call("torch._scaled_mm, use_fast_accum", _FP8, _FP8, "float32", scaled(True)),
    Call("torch._scaled_mm, no fast accum", _FP8, _FP8, "float32", scaled(False), True),
    Call("torch._int_mm", ("int8",), ("int8",), "int32", torch.ops.aten._int_mm),
)


def missing(chip: Chip) -> str | None:
    """Why this machine has no such GPU; None if it has."""
    wanted = CAPABILITIES.get(chip.name)
    if wanted is None:
        return f"no compute capability is known for {chip.name}"
    listed = " or ".join(f"{major}.{minor}" for major, minor in wanted)
    if not torch.cuda.is_available():
        return f"torch finds no GPU; {chip.name} is of compute capability {listed}"
    here = torch.cuda.get_device_capability()
    if here not in wanted:
        name = torch.cuda.get_device_name()
        return f"{name} is of compute capability {here[0]}.{here[1]}, {chip.name} of {listed}"
    return None


def calls_of(chip: Chip, chosen: Chosen) -> list[Call]:
    """The calls that run on a unit: where several units take the formats, on the default one."""
    alike = [
        row
        for row in chip.matrix_units
        if chosen.a in row.a and chosen.b in row.b and row.output == chosen.row.output
    ]
    if len(alike) > 1 and not chosen.row.default:
        return []
    both_wide = chosen.a == chosen.b == "float8_e5m2"  # cuBLASLt has no such product
    return [
        call
        for call in CALLS
        if chosen.a in call.a and chosen.b in call.b and chosen.row.output == call.output
        and not both_wide
    ]  # fmt: skip


def make_product(call: Call) -> Product:
    """The call on the first GPU."""
    name = f"{call.name} on {torch.cuda.get_device_name()}"
    return Product(name, lambda batch: run_on(call, batch, "cuda"), call.promotes)


def run_on(call: Call, batch: Batch, device: str) -> Codes:
    """D of each product of the batch, C being zero."""
    a, b, output = batch.formats
    out = []
    for x, y in zip(batch.a, batch.b, strict=True):
        d = call.run(as_tensor(x, a).to(device), as_tensor(y, b).to(device)).cpu()
        wider = d.to(torch.float64).numpy()
        out.append(to_codes(wider, output))
    return np.stack(out)


def as_tensor(codes: Codes, fmt: ArithmeticFormat) -> Tensor:
    """Codes as torch's type of that format; tf32 as float32 values."""
    if fmt.name not in DTYPES:
        return torch.from_numpy(np.asarray(to_values(codes, fmt), np.float32))
    dtype, carrier = DTYPES[fmt.name]
    unsigned = {8: np.uint8, 16: np.uint16}[get_format(fmt).bits]
    return torch.from_numpy(codes.astype(unsigned).view(carrier)).view(dtype)
