"""A unit's products of tensors on a device: checks, shapes, and the engine."""

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ....formats.device.conversion import Random, round_tensor
from ....formats.device.place import or_on_host
from ....formats.errors import InputError
from ....formats.format import FLOAT32, ArithmeticFormat, IntegerFormat, fits
from ....formats.rounding import Overflow
from ..around import run_unit
from ..layout import Operands, Place
from .engine import ENGINE, sums_dtype

if TYPE_CHECKING:
    from ...dot_unit import DotUnit

_FLOATS = (torch.float32, torch.float64)


def on_host_if_asked(
    unit: "DotUnit", what: str, tensors: tuple[Any, Any, Any, Any, Any], place: Place, check: bool
) -> Tensor:
    """`matmul` or `dot` on the device, or on the host if that lacks a kernel and may."""
    run = multiply if what == "matmul" else dot

    def host() -> Tensor:
        a, b, c, left, right = (x.cpu() if isinstance(x, Tensor) else x for x in tensors)
        done: Tensor = getattr(unit, what)(
            a, b, c, a_scale=left, b_scale=right, seed=place.seed, stream=place.stream,
            check=check,
        )  # fmt: skip
        return done.to(tensors[0].device)

    return or_on_host(lambda: run(unit, *tensors, place, check), host)


def multiply(
    unit: "DotUnit", a: Any, b: Any, c: Any, a_scale: Any, b_scale: Any, place: Place, check: bool
) -> Tensor:
    """`DotUnit.matmul` of tensors on one device."""
    x, y, start = _operands(unit, a, b, c, check)
    if x.ndim < 2 or x.shape[:-2] != y.shape[:-2] or x.shape[-1] != y.shape[-2]:
        raise InputError(
            f"{unit.name}: cannot multiply {tuple(x.shape)} by {tuple(y.shape)}: need (M, K) and "
            "(K, N)"
        )
    shape, depth = (*x.shape[:-1], y.shape[-1]), x.shape[-1]
    batch = math.prod(shape[:-2])
    sizes = unit.scale.block if unit.scale else 1
    parts = -(-depth // sizes)
    wanted = (*x.shape[:-1], parts), (*y.shape[:-2], parts, y.shape[-1])
    scales = _scales(unit, (a_scale, b_scale), wanted, x.device, check)
    if scales is not None:
        scales = tuple(s.reshape(batch, *s.shape[-2:]) for s in scales)
    operands = Operands(
        x.reshape(batch, *x.shape[-2:]), y.reshape(batch, *y.shape[-2:]), scales, sizes
    )
    return _run(unit, operands, _start(unit, start, shape, x), place).reshape(shape)


def dot(
    unit: "DotUnit", a: Any, b: Any, c: Any, a_scale: Any, b_scale: Any, place: Place, check: bool
) -> Tensor:
    """`DotUnit.dot` of tensors on one device."""
    x, y, start = _operands(unit, a, b, c, check)
    if x.shape != y.shape or x.ndim == 0:
        raise InputError(
            f"{unit.name}: dot of shapes {tuple(x.shape)} and {tuple(y.shape)}: need two of "
            "(..., K)"
        )
    lead, depth = tuple(x.shape[:-1]), x.shape[-1]
    batch, sizes = math.prod(lead), unit.scale.block if unit.scale else 1
    parts = -(-depth // sizes)
    scales = _scales(unit, (a_scale, b_scale), ((*lead, parts),) * 2, x.device, check)
    if scales is not None:
        scales = scales[0].reshape(batch, 1, parts), scales[1].reshape(batch, parts, 1)
    operands = Operands(x.reshape(batch, 1, depth), y.reshape(batch, depth, 1), scales, sizes)
    out = _run(unit, operands, _start(unit, start, lead, x).reshape(batch, 1, 1), place)
    return out.reshape(lead)


def _run(unit: "DotUnit", operands: Operands, start: Tensor, place: Place) -> Tensor:
    """D in float32, or float64 for integer and wider accumulators."""
    start = start.reshape(operands.a.shape[0], operands.a.shape[1], operands.b.shape[2])
    out: Tensor = start
    if start.numel():
        out = run_unit(unit, operands, start, place, ENGINE)
    fmt = unit.accumulator
    wide = isinstance(fmt, IntegerFormat) or fmt.name == "float64"
    return out.double() if wide else out.float()


def _operands(
    unit: "DotUnit", a: Any, b: Any, c: Any, check: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """A, B and C on A's device; contiguous float32 where that holds both formats."""
    narrow = all(fits(f, FLOAT32) for f in (unit.a, unit.b))
    kind = torch.float32 if narrow else torch.float64
    x, y = (_tensor(v, a.device, f"{unit.name}: {what}") for v, what in ((a, "A"), (b, "B")))
    start = None if c is None else _tensor(c, a.device, f"{unit.name}: C")
    if check:
        refuse_off_grid(x, unit.a, f"{unit.name}: A")
        refuse_off_grid(y, unit.b, f"{unit.name}: B")
        if start is not None:
            refuse_off_grid(start, unit.addend, f"{unit.name}: C")
    return x.to(kind), y.to(kind), start


def _tensor(x: Any, device: torch.device, what: str) -> Tensor:
    if not isinstance(x, Tensor) or x.device != device:
        where = x.device if isinstance(x, Tensor) else "the host"
        raise InputError(f"{what} is on {where}, A on {device}; move them to one device")
    if x.dtype not in _FLOATS:
        kind = str(x.dtype).removeprefix("torch.")
        raise InputError(f"{what} is {kind}, not one of float32, float64")
    return x.detach()


def refuse_off_grid(x: Tensor, fmt: ArithmeticFormat, what: str) -> None:
    """Check that every element is a value of the format, or NaN; waits for the device.

    Raises:
        InputError: one is not; tells the first of them, and how many there are.
    """
    overflow = Overflow.INFINITY if fmt.grid.has_infinity else Overflow.SATURATE
    flat = x.contiguous()
    off = ~((round_tensor(flat, fmt, "nearest_even", overflow, Random()) == flat) | flat.isnan())
    if count := int(off.sum()):
        first = flat[off].reshape(-1)[0].cpu().numpy()[()]
        raise InputError(
            f"{what} holds {first!r}, not a value of {fmt.name} ({count} such elements); "
            "quantize it first"
        )


def _start(unit: "DotUnit", c: Tensor | None, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """C, or zeros, in the dtype that holds every sum."""
    kind = sums_dtype(unit)
    if c is None:
        return torch.zeros(shape, dtype=kind, device=like.device)
    if tuple(c.shape) != shape:
        raise InputError(f"{unit.name}: C of shape {tuple(c.shape)} is not {shape}")
    return c.to(kind).contiguous()


def _scales(
    unit: "DotUnit", given: tuple[Any, Any], wanted: Any, device: torch.device, check: bool
) -> Any:
    """Both operands' scales without their signs, ones where only one is given."""
    if given[0] is None and given[1] is None:
        return None
    if unit.scale is None:
        raise InputError(f"{unit.name}: takes no scales; leave out a_scale and b_scale")
    out = []
    for what, scale, shape in zip(("a_scale", "b_scale"), given, wanted, strict=True):
        values = torch.ones(shape, device=device)
        if scale is not None:
            values = _tensor(scale, device, f"{unit.name}: {what}").abs()
        if tuple(values.shape) != tuple(shape):
            raise InputError(
                f"{unit.name}: {what} of shape {tuple(values.shape)} is not {tuple(shape)}, one "
                f"for each {unit.scale.block} elements in k"
            )
        if check:
            refuse_off_grid(values, unit.scale.fmt, f"{unit.name}: {what}")
        out.append(values)
    return out[0], out[1]
