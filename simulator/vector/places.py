"""Accumulations of PyTorch as rows that are added at places: out[place[s]] += source[s]."""

import math
from typing import Any, NamedTuple

import torch

from ...formats.errors import InputError
from ..operations import base_name

Op = torch._ops.OpOverload
Tensor = torch.Tensor


class Rows(NamedTuple):
    """What is added where.

    Attributes:
        out: what it is added to, a contiguous copy, as (R, C).
        places: (S,), below R.
        source: (S, C).
        axis: of the tensor, which stands first in `out`; None if out is the tensor, flat.
    """

    out: Tensor
    places: Tensor
    source: Tensor
    axis: int | None = None


def accumulates(func: Op, args: Any, kwargs: Any) -> bool:
    """Whether anything is added: index_put, put and scatter can also overwrite."""
    name = base_name(func)
    if name in ("index_put", "_index_put_impl", "_unsafe_index_put", "put"):
        return bool(args[3] if len(args) > 3 else kwargs.get("accumulate", False))
    return name != "scatter" or "reduce" in kwargs or len(args) > 4


def rows_of(func: Op, args: Any, kwargs: Any) -> Rows | None:
    """The rows of an accumulation; None for one that takes the largest or smallest.

    Raises:
        InputError: the values are multiplied, or averaged.
    """
    name = base_name(func)
    if name == "index_add":
        return _of_index_add(*args[:4])
    if name in ("index_put", "_index_put_impl", "_unsafe_index_put"):
        return _of_index_put(*args[:3])
    if name == "put":
        x, index, source = args[:3]
        out = x.clone(memory_format=torch.contiguous_format).view(-1, 1)
        return Rows(out, _within(index.reshape(-1), x.numel()), source.reshape(-1, 1))
    x, dim, index, source = args[:4]
    how = kwargs.get("reduce", args[4] if len(args) > 4 else "sum")
    if how in ("amax", "amin"):
        return None
    if how not in ("sum", "add"):
        raise InputError(f'{name}: reduce = "{how}" is not one of sum, add, amax, amin')
    return _of_scatter(x, dim, index, source, kwargs.get("include_self", True))


def _of_index_add(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Rows:
    shape = x.shape
    x, source = _row(x), _row(source)
    axis = dim % x.ndim
    out = x.movedim(axis, 0).clone(memory_format=torch.contiguous_format)
    rows = out.view(out.shape[0], -1) if out.numel() else out.reshape(out.shape[0], 0)
    flat = source.movedim(axis, 0).reshape(index.numel(), rows.shape[1])
    return Rows(rows, _within(index.reshape(-1), out.shape[0]), flat, axis if shape else None)


def _of_index_put(x: Tensor, indices: Any, values: Tensor) -> Rows:
    last = max(n for n, i in enumerate(indices) if i is not None)
    used = sum(i.ndim if _is_mask(i) else 1 for i in indices[: last + 1])
    lead, rest = x.shape[:used], x.shape[used:]
    grid = torch.arange(math.prod(lead), device=x.device).reshape(lead)
    chosen = tuple(slice(None) if i is None else i for i in indices[: last + 1])
    places = grid[chosen]
    out = x.clone(memory_format=torch.contiguous_format).view(math.prod(lead), math.prod(rest))
    source = values.expand([*places.shape, *rest]).reshape(places.numel(), out.shape[1])
    return Rows(out, places.reshape(-1), source)


def _is_mask(index: Tensor | None) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)


def _of_scatter(x: Tensor, dim: int, index: Tensor, source: Any, include: bool) -> Rows:
    x, index = _row(x), _row(index)
    if not isinstance(source, Tensor):
        source = torch.full(index.shape, source, dtype=x.dtype, device=x.device)
    source = _row(source)[tuple(slice(n) for n in index.shape)]
    places = torch.gather(
        torch.arange(x.numel(), device=x.device).reshape(x.shape), dim, index
    ).reshape(-1)
    out = x.clone(memory_format=torch.contiguous_format).view(-1, 1)
    if not include:
        out[places] = 0
    return Rows(out, places, source.reshape(-1, 1))


def _row(x: Tensor) -> Tensor:
    """A tensor of no dimensions as one of one."""
    return x.reshape(1) if x.ndim == 0 else x


def _within(index: Tensor, size: int) -> Tensor:
    """Indices from 0 up, as int64.

    Raises:
        InputError: one is out of range.
    """
    index = torch.where(index < 0, index + size, index).to(torch.int64)
    if bool(((index < 0) | (index >= size)).any()):
        raise InputError(f"an index is not within 0 to {size - 1}")
    return index
