"""numpy arrays, torch tensors and numbers as contiguous arrays, and back."""

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from .catalog import CATALOG
from .errors import InputError, whole_number
from .format import FloatFormat

Array = NDArray[Any]
T = TypeVar("T", Array, torch.Tensor, float)

#: Float types that a call may hand in, and their formats.
CONTAINERS = {
    str(name): cast(FloatFormat, CATALOG[str(name)])
    for name in ("float32", "float64", "float16", "bfloat16")
}
_NARROW = (torch.float16, torch.bfloat16)


def as_floats(x: T) -> tuple[Array, Callable[[Array], T], FloatFormat]:
    """x as contiguous float32 or float64, how to make x's kind of a result, and x's format.

    float16 and bfloat16 are widened to float32, which is exact.

    Raises:
        InputError: another dtype, or a tensor that is not on the CPU.
    """
    if isinstance(x, torch.Tensor):
        array, rebuild = _from_tensor(x)
        return array, rebuild, _container(str(x.dtype)[6:])
    if isinstance(x, int | float):
        number = np.asarray(_as_float(x))
        return number, cast(Callable[[Array], T], _number), CONTAINERS["float64"]
    array = np.asarray(x)
    container = _container(str(array.dtype))
    wide = array.astype(np.float32) if array.dtype.itemsize == 2 else array
    back = cast(Callable[[Array], T], lambda out: _as_dtype(out, array.dtype))
    return plain(wide), back, container


def _as_float(x: float) -> float:
    """A Python number as float64; an int that float64 does not hold would be rounded twice."""
    try:
        number = float(x)
    except OverflowError:
        number = 0.0
    if isinstance(x, int) and (not math.isfinite(number) or int(number) != x):
        raise InputError("an int beyond 2^53 is not a float64 exactly; pass the float you mean")
    return number


def _as_dtype(out: Array, dtype: np.dtype[Any]) -> Array:
    # Values of blocks, fl(element · scale), may lie beyond float16: infinity, as in a tensor.
    with np.errstate(over="ignore"):
        return np.asarray(out, dtype)


def _from_tensor(x: torch.Tensor) -> tuple[Array, Callable[[Array], torch.Tensor]]:
    if x.device.type != "cpu":
        raise InputError(f"tensor on {x.device}: this needs a tensor on the CPU; pass x.cpu()")
    if x.layout is not torch.strided:
        raise InputError(f"tensor of layout {x.layout}: this needs a dense one; pass x.to_dense()")
    _container(str(x.dtype)[6:])
    wide = x.detach().resolve_neg()
    wide = wide.float() if x.dtype in _NARROW else wide
    return plain(wide.numpy()), lambda out: torch.from_numpy(np.asarray(out)).to(x.dtype)


def _container(dtype: str) -> FloatFormat:
    if dtype not in CONTAINERS:
        raise InputError(f"dtype {dtype} is not one of {', '.join(CONTAINERS)}; convert it first")
    return CONTAINERS[dtype]


def as_codes(codes: T) -> tuple[Array, Callable[[Array], Any]]:
    """Unsigned integer codes as a contiguous array, and how to make their kind of the values.

    Raises:
        InputError: the codes are not unsigned integers.
    """
    rebuild: Callable[[Array], Any] = np.asarray
    if isinstance(codes, torch.Tensor):
        if codes.device.type != "cpu":
            raise InputError(f"codes on {codes.device}: pass codes.cpu()")
        array, rebuild = codes.numpy(), lambda out: torch.from_numpy(np.asarray(out))
    elif isinstance(codes, int | float):
        array, rebuild = np.asarray(_as_code(codes), np.uint64), _number
    else:
        array = np.asarray(codes)
    if array.dtype.kind != "u":
        raise InputError(f"dtype {array.dtype} is not one of unsigned integers; convert it first")
    return plain(array), rebuild


def _as_code(code: float) -> int:
    number = whole_number(code, "decode: code")
    if not 0 <= number < 2**64:
        raise InputError(f"decode: code {number} is not one of 0 to 2^64 - 1")
    return number


def plain(x: Array) -> Array:
    """x in C order, of the same shape (numpy makes one dimension of none)."""
    return np.ascontiguousarray(x).reshape(x.shape)


def _number(out: Array) -> Any:
    return np.asarray(out).item()
