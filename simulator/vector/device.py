"""The vector unit on tensors of a CUDA device: the arguments of its Triton kernels."""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ...formats.device.conversion import key_of
from ...formats.device.launch import blocks, launch
from ...formats.device.target import DOUBLE, Target, make_target
from ...formats.format import FLOAT32
from ...formats.rounding import Mode, Overflow

if TYPE_CHECKING:
    from .work import Target as Format
    from .work import VectorWork

_BLOCK = 1024
#: The vector unit's kernels draw a word of random bits for an element, whatever k is.
_WORD = 32
#: The longest rows whose tree is summed in one program, and the numbers of such a program.
_LONGEST, _TILE = 4096, 4096


class Unit(NamedTuple):
    """A vector unit, or its accumulator, as the kernels are compiled for it.

    width: of the random bits drawn for an element. down: a zero sum is -0 as toward -infinity.
    """

    plain: int
    product: int
    down: int
    width: int
    flush_in: float
    flush_out: float


#: float32's own arithmetic.
PLAIN = Unit(1, 0, 0, 8, 0.0, 0.0)
PLAIN_TARGET = make_target(FLOAT32.grid, DOUBLE, 0, 0, Overflow.INFINITY)


def _compiled(
    fmt: "Format", flush_in: float = 0.0, flush_out: float = 0.0, product: bool = False
) -> tuple[Unit, Target]:
    mode, k = int(fmt.plan.mode), int(fmt.plan.k)
    unit = Unit(
        int(fmt.plain), int(product), int(mode == Mode.DOWN), _WORD, float(flush_in),
        float(flush_out),
    )  # fmt: skip
    return unit, make_target(fmt.fmt.grid, DOUBLE, mode, k, Overflow.INFINITY)


def _key(fmt: "Format") -> tuple[int, int]:
    return key_of(*(int(n) for n in fmt.random()))


def operate(vector: "VectorWork", op: int, tensors: list[Tensor]) -> Tensor:
    """`VectorWork.operate` of tensors of one shape, contiguous."""
    from ..kernels.triton import elementwise as kernels

    v, t = _compiled(vector.result, vector.flush_in, vector.flush_out)
    plain = vector.plain and not (vector.flush_in or vector.flush_out)
    a, b, c = (*tensors, tensors[0], tensors[0])[:3]
    out = torch.empty_like(a)
    launch(
        kernels.operate, (blocks(a.numel(), _BLOCK),), a, b, c, out, a.numel(),
        *_key(vector.result), v=v, t=t, OP=op, PLAIN=plain, BLOCK=_BLOCK,
    )  # fmt: skip
    return out


def settle(vector: "VectorWork", x: Tensor) -> Tensor:
    """`VectorWork.settle`: float64 x rounded into the unit's format."""
    from ..kernels.triton import elementwise as kernels

    v, t = _compiled(vector.result, 0.0, vector.flush_out)
    x = x.detach().contiguous()
    out = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    launch(kernels.settle, (blocks(x.numel(), _BLOCK),), x, out, x.numel(), *_key(vector.result),
           v=v, t=t, BLOCK=_BLOCK)  # fmt: skip
    return out


def reduce_stack(vector: "VectorWork", x: Tensor, product: bool) -> Tensor:
    """(O, C) of x (O, L, C), contiguous, L > 0, in the unit's order and accumulator."""
    from ..kernels.triton import reduction as kernels

    sums, (outer, length, columns) = vector.sums, x.shape
    kind = torch.float32 if sums.dtype is torch.float32 else torch.float64
    if vector.unit.reduction != "tree":
        return _sequence(vector, x, product, False).to(kind)
    if sums.plain and columns == 1 and 1 < length <= _LONGEST:
        return _tree_rows(x, product, kind)
    v, t = _compiled(sums, product=product)
    key, made, numbers = _key(sums) if not sums.plain else (0, 0), 0, length * columns
    level = x.to(kind)
    while length > 1:
        half = 1 << (length - 1).bit_length() - 1
        out = torch.empty(outer, half, columns, dtype=kind, device=x.device)
        launch(
            kernels.fold, (blocks(out.numel(), _BLOCK),), level, out, length, half, columns,
            out.numel(), numbers, made, *key, v=v, t=t, BLOCK=_BLOCK,
        )  # fmt: skip
        made += (length - half) * columns
        level, length = out, half
    return level.reshape(outer, columns)


def _tree_rows(x: Tensor, product: bool, kind: torch.dtype) -> Tensor:
    from ..kernels.triton import reduction as kernels

    outer, length, _ = x.shape
    levels = (length - 1).bit_length()
    width = 1 << levels
    rows = max(_TILE // width, 1)
    out = torch.empty(outer, 1, dtype=kind, device=x.device)
    launch(kernels.tree_rows, (blocks(outer, rows),), x, out, outer, length, PRODUCT=product,
           LEVELS=levels, WIDTH=width, ROWS=rows)  # fmt: skip
    return out


def _sequence(vector: "VectorWork", x: Tensor, product: bool, scan: bool) -> Tensor:
    """Ascending along the middle axis; `scan`: every partial result, in the unit's format."""
    from ..kernels.triton import reduction as kernels

    fmt = vector.result if scan else vector.sums
    kind = x.dtype if scan else fmt.dtype
    v, t = _compiled(fmt, product=product)
    outer, length, columns = x.shape
    shape = x.shape if scan else (outer, columns)
    out = torch.empty(shape, dtype=kind, device=x.device)
    key = (0, 0) if fmt.plain else _key(fmt)
    launch(kernels.sequence, (blocks(outer * columns, 128),), x, out, length, columns,
           outer * columns, *key, v=v, t=t, SCAN=int(scan), BLOCK=128)  # fmt: skip
    return out


def scan(vector: "VectorWork", x: Tensor, dim: int, product: bool) -> Tensor:
    """`accumulation.scan`: every partial sum or product along `dim`, ascending."""
    if x.ndim == 0 or x.numel() == 0:
        return x.clone()
    dim %= x.ndim
    outer = math.prod(x.shape[:dim])
    stack = x.detach().contiguous().reshape(outer, x.shape[dim], -1)
    return _sequence(vector, stack, product, True).reshape(x.shape)


def add_rows(vector: "VectorWork", out: Tensor, index: Tensor, source: Tensor) -> None:
    """`accumulation.add_rows`: out[index[s]] += source[s] for s ascending."""
    from ..kernels.triton import reduction as kernels

    v, t = _compiled(vector.result)
    key = (0, 0) if vector.plain else _key(vector.result)
    columns = out.shape[1]
    launch(kernels.add_rows, (blocks(columns, 128),), out, index.detach().contiguous(),
           source.detach().contiguous(), index.numel(), columns, *key, v=v, t=t,
           BLOCK=128)  # fmt: skip


def tensor_of(x: Any, device: torch.device) -> Tensor:
    """A tensor or a number as float32 on a device."""
    return torch.as_tensor(x, dtype=torch.float32, device=device)
