"""Which floating-point dtypes an operation works on, and how they meet the vector unit's.

The unit computes in tensors of its own dtype (float32, or float64). Narrower ones are read
exactly, and the result of each aten operation is rounded to the dtype that PyTorch gives it,
nearest-even, as kernels for 16-bit tensors do. Wider ones are left to the host.
"""

from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_map

Tensor = torch.Tensor


class Floats(NamedTuple):
    """The floating-point tensors among the arguments of an operation.

    Attributes:
        dtype: of the result by PyTorch's promotion: tensors with dimensions count before those
            without; None if there are none.
        uniform: whether all of them have that dtype.
    """

    dtype: torch.dtype | None
    uniform: bool


def floats(args: Any) -> Floats:
    """The floating-point tensors among positional arguments, and in lists of them."""
    found: torch.dtype | None = None
    lone: torch.dtype | None = None
    uniform = True
    for x in args:
        if isinstance(x, Tensor):
            dtype = x.dtype
            if not (dtype.is_floating_point or dtype.is_complex):
                continue
            lonely = x.ndim == 0
        elif isinstance(x, (list, tuple)) and x and isinstance(x[0], Tensor):
            inner = floats(x)
            if inner.dtype is None:
                continue
            dtype, lonely, uniform = inner.dtype, False, uniform and inner.uniform
        else:
            continue
        before = lone if lonely else found
        if before is not None and before is not dtype:
            uniform, dtype = False, torch.promote_types(before, dtype)
        if lonely:
            lone = dtype
        else:
            found = dtype
    if found is None or lone is None:
        return Floats(found or lone, uniform)
    return Floats(found, uniform and found is lone)


def widened(args: Any, dtype: torch.dtype) -> Any:
    """The arguments with every floating-point tensor in `dtype`."""

    def wide(x: Any) -> Any:
        return x.to(dtype) if isinstance(x, Tensor) and x.dtype.is_floating_point else x

    return tree_map(wide, args)


def narrowed(result: Any, dtypes: Any, unit: torch.dtype) -> Any:
    """Results of the unit in the dtypes that PyTorch gives them: one for all, or one for each."""

    def narrow(x: Any, dtype: torch.dtype) -> Any:
        return x.to(dtype) if isinstance(x, Tensor) and x.dtype is unit else x

    if isinstance(result, Tensor):
        return narrow(result, dtypes[0] if isinstance(dtypes, tuple) else dtypes)
    if not isinstance(dtypes, tuple):
        return tree_map(lambda x: narrow(x, dtypes), result)
    return tuple(narrow(x, d) for x, d in zip(result, dtypes, strict=True))
