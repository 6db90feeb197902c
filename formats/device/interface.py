"""quantize, encode and decode of tensors that are not on the CPU: the kernel, or a refusal.

CUDA tensors go to the Triton kernels. On other devices, formats that follow from widths are rounded
by torch's own integer operations (`rounding.py`); everything else is refused. Nothing is moved to
the host unasked; the words of a chip's own random generator, which come one after the other, are
drawn there and copied to the device.
"""

from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..arrays import CONTAINERS
from ..blocks.block import AnyFormat, BlockFormat
from ..blocks.codes import BlockCodes
from ..errors import InputError
from ..format import FloatFormat, GridFormat, fits
from ..generators import draw_words
from ..rounding import Flush, Stochastic, get_flush, get_overflow, get_rounding
from ..tables.floats import table_of
from . import blocks
from .conversion import Random, check_policy, decode_tensor, flush_inputs, flushed, round_tensor
from .place import on_device, or_on_host
from .rounding import quantize_on_device
from .tables import encode_by_table, quantize_by_table

_NARROW = (torch.float16, torch.bfloat16)


def is_elsewhere(x: Any) -> bool:
    """Whether x is a tensor for this module."""
    if not isinstance(x, Tensor):
        return False
    return x.device.type not in ("cpu", "cuda") or on_device(x)


def quantize_elsewhere(
    x: Tensor, row: AnyFormat, options: dict[str, Any], axis: int | None
) -> Tensor:
    """`quantize` of a tensor that is not on the CPU; arguments checked but for its own values."""
    from ..conversion import quantize

    return or_on_host(
        lambda: _quantized(x, row, options, axis),
        lambda: quantize(x.detach().cpu(), row, axis=axis, **options).to(x.device),
    )


def encode_elsewhere(x: Tensor, row: AnyFormat, options: dict[str, Any], axis: int | None) -> Any:
    """`encode` of a tensor on a CUDA device.

    Raises:
        InputError: it is on another device.
    """
    from ..conversion import encode

    on_device(x)
    return or_on_host(
        lambda: _encoded(x, row, options, axis),
        lambda: _moved(encode(x.detach().cpu(), row, axis=axis, **options), x.device),
    )


def _moved(codes: Any, device: torch.device) -> Any:
    """Codes, or those of blocks, on a device."""
    if isinstance(codes, Tensor):
        return codes.to(device)
    zeros = None if codes.zero_points is None else codes.zero_points.to(device)
    return replace(
        codes, codes=codes.codes.to(device), scales=codes.scales.to(device), zero_points=zeros
    )


def _quantized(x: Tensor, row: AnyFormat, options: dict[str, Any], axis: int | None) -> Tensor:
    source = x.detach()
    _container(x)
    if x.device.type not in ("cpu", "cuda"):
        return _by_torch(source, row, options)
    values = (source.float() if x.dtype in _NARROW else source).contiguous()
    policy, flush = get_overflow(options["overflow"]), get_flush(options["flush"])
    random = _random(values, options)
    if isinstance(row, BlockFormat):
        _refuse_flush(flush, row)
        out = blocks.quantize_blocks_on_device(
            values, row, axis, options["rounding"], policy, random
        )
        return out.to(x.dtype)
    if (table := table_of(row)) is not None:
        return quantize_by_table(values, table, options["rounding"], policy).to(x.dtype)
    grid = cast(GridFormat, row)
    if not fits(grid, _container(x)):
        wider = next(name for name, room in CONTAINERS.items() if fits(grid, room))
        raise InputError(
            f"{_container(x).name} cannot hold every value of {grid.name}; pass {wider}"
        )
    check_policy(values, grid, policy)
    values = flush_inputs(values, flush)
    out = round_tensor(values, grid, options["rounding"], policy, random, dtype=values.dtype)
    return _flushed(out, grid, flush).to(x.dtype)


def _encoded(x: Tensor, row: AnyFormat, options: dict[str, Any], axis: int | None) -> Any:
    _container(x)
    source = x.detach()
    values = (source.float() if x.dtype in _NARROW else source).contiguous()
    policy, flush = get_overflow(options["overflow"]), get_flush(options["flush"])
    random = _random(values, options)
    if isinstance(row, BlockFormat):
        _refuse_flush(flush, row)
        return blocks.encode_blocks_on_device(
            values, row, axis, options["rounding"], policy, random
        )
    if (table := table_of(row)) is not None:
        return encode_by_table(values, table, options["rounding"], policy)
    grid = cast(GridFormat, row)
    check_policy(values, grid, policy)
    values, rounding = flush_inputs(values, flush), options["rounding"]
    if flush in (Flush.OUTPUTS, Flush.BOTH):
        wide = round_tensor(values.double(), grid, rounding, policy, random)
        values, rounding, random = _flushed(wide, grid, flush), "nearest_even", Random()
    return round_tensor(values, grid, rounding, policy, random, codes=True)


def decode_elsewhere(codes: Any, row: AnyFormat | None) -> Tensor:
    """`decode` of codes, or of `BlockCodes`, on a CUDA device."""
    if isinstance(codes, BlockCodes):
        on_device(codes.codes)
        return blocks.decode_blocks_on_device(codes)
    on_device(codes)
    if (table := table_of(cast(Any, row))) is not None:
        from .conversion import look_up

        values = torch.from_numpy(np.array(table.by_code)).to(codes.device)
        if codes.numel() and int(codes.to(torch.int64).max()) >= 2 ** cast(Any, row).bits:
            raise InputError(f"decode: a code is not one of 0 to {2 ** cast(Any, row).bits - 1}")
        return look_up(codes, values)
    return decode_tensor(codes, cast(GridFormat, row))


def _by_torch(x: Tensor, row: AnyFormat, options: dict[str, Any]) -> Tensor:
    """On a device without kernels: grids, nearest or directed or from Philox."""
    how = get_rounding(options["rounding"])
    own = isinstance(how, Stochastic) and how.source != "philox"
    flushes = get_flush(options["flush"]) is not Flush.NONE
    if isinstance(row, BlockFormat) or table_of(row) is not None or own or flushes:
        raise InputError(
            f"tensor on {x.device}: {row.name} with these options has kernels for cpu and cuda "
            "tensors alone; pass x.cpu()"
        )
    bits = options["random_bits"]
    random = None if bits is None else torch.as_tensor(bits, device=x.device)
    return quantize_on_device(
        x, cast(GridFormat, row).grid, how, get_overflow(options["overflow"]), random,
        seed=options["seed"], stream=options["stream"], name=row.name,
    )  # fmt: skip


def _container(x: Tensor) -> FloatFormat:
    name = str(x.dtype).removeprefix("torch.")
    if x.layout is not torch.strided:
        raise InputError(f"tensor of layout {x.layout}: this needs a dense one; pass x.to_dense()")
    if name not in CONTAINERS:
        raise InputError(f"dtype {name} is not one of {', '.join(CONTAINERS)}; convert it first")
    return CONTAINERS[name]


def _random(x: Tensor, options: dict[str, Any]) -> Random:
    """Where the random integers come from: Philox, the caller, or a chip's generator."""
    how, given = get_rounding(options["rounding"]), options["random_bits"]
    seed, stream = options["seed"], options["stream"]
    if not isinstance(how, Stochastic):
        return Random(seed, stream)
    if given is None and how.source == "philox":
        return Random(seed, stream)
    if given is None:
        words = draw_words(how.source, x.numel(), seed, stream) >> np.uint32(32 - how.bits)
        return Random(seed, stream, torch.from_numpy(words.astype(np.int64)).to(x.device))
    bits = torch.as_tensor(given, device=x.device)
    if bits.shape != x.shape or bits.dtype.is_floating_point or bits.dtype is torch.bool:
        raise InputError(
            f"random_bits: {bits.dtype} {tuple(bits.shape)} are not integers of shape "
            f"{tuple(x.shape)}"
        )
    whole = bits.to(torch.int64).contiguous()
    if whole.numel() and not 0 <= int(whole.min()) <= int(whole.max()) < 2**how.bits:
        raise InputError(
            f"random_bits: {int(whole.min())} to {int(whole.max())} is not within 0 to "
            f"{2**how.bits - 1}"
        )
    return Random(seed, stream, whole)


def _flushed(out: Tensor, row: GridFormat, flush: Flush) -> Tensor:
    if flush in (Flush.OUTPUTS, Flush.BOTH) and isinstance(row, FloatFormat):
        return flushed(out, row.min_normal)
    return out


def _refuse_flush(flush: Flush, row: BlockFormat) -> None:
    if flush is not Flush.NONE:
        raise InputError(f'flush = "{flush}" is not for blocks ({row.name}); quantize elements')
