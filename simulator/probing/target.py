"""What is probed: a dot product that can be called, and nothing else about it."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...formats import InputError
from ...formats.errors import choice
from ...formats.format import ArithmeticFormat, FloatFormat, IntegerFormat
from ..dot_unit import DotUnit
from ..units import arithmetic_format

Values = NDArray[np.float64]
#: dot(a, b) or dot(a, b, c) of arrays (n, K), (n, K) and (n,), giving (n,).
Dot = Callable[..., Any]
DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
#: Rows and columns of the matrix products that are asked of torch.
SIDE = 64


@dataclass(frozen=True)
class Target:
    """A black box that computes dot products.

    Attributes:
        name: for messages, and as the source in what is written.
        a, b, output: formats of the operands, and of C and D.
        call: dot(a, b), or dot(a, b, c) if `takes_c`, on float64 arrays if a format is wider than
            float32, else on float32 arrays; every value is on the grid of its format.
        takes_c: whether C is an argument.
    """

    name: str
    a: ArithmeticFormat
    b: ArithmeticFormat
    output: ArithmeticFormat
    call: Dot
    takes_c: bool = False

    def dot(self, a: Values, b: Values, c: Values | None = None) -> Values:
        """D (n,) of a, b (n, K) and c (n,), whose absence is +0.

        Raises:
            InputError: the target fails, or does not return n numbers.
        """
        formats = (self.a, self.b, self.output)
        wide = any(isinstance(f, FloatFormat) and f.precision > 24 for f in formats)
        dtype: Any = np.float64 if wide else np.float32
        given = [a.astype(dtype), b.astype(dtype)]
        if self.takes_c:
            start = np.zeros(len(a)) if c is None else c
            given.append(start.astype(np.float64 if self._counts else dtype))
        try:
            with np.errstate(all="ignore"):
                result = self.call(*given)
        except Exception as error:
            raise InputError(
                f"{self.name}: the call failed: {type(error).__name__}: {error}"
            ) from None
        if isinstance(result, torch.Tensor):
            result = result.to(torch.float64).numpy()
        out = np.asarray(result, np.float64)
        if out.shape != (len(a),):
            raise InputError(
                f"{self.name}: returned shape {out.shape} for {len(a)} dot products of {a.shape[1]}"
                f"; need ({len(a)},)"
            )
        return out

    @property
    def _counts(self) -> bool:
        return isinstance(self.output, IntegerFormat)


def unit_target(unit: DotUnit) -> Target:
    """A unit of a chip of the library as the black box; its C is an argument."""

    def call(a: Values, b: Values, c: Values) -> Any:
        return unit.dot(a, b, c)

    return Target(unit.name, unit.a, unit.b, unit.output, call, takes_c=True)


def function_target(place: str, a: str, b: str, output: str, takes_c: bool = False) -> Target:
    """The function at `module:name`, which is imported: its code runs.

    Raises:
        InputError: no such module or function.
    """
    module, _, name = place.partition(":")
    if not module or not name:
        raise InputError(f'callable = "{place}" is not of the form package.module:function')
    try:
        call = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f'callable = "{place}" cannot be imported: {error}') from None
    if not callable(call):
        raise InputError(f'callable = "{place}" is a {type(call).__name__}, not a function')
    formats = [arithmetic_format(text, "probe") for text in (a, b, output)]
    return Target(place, formats[0], formats[1], formats[2], call, takes_c)


def torch_target(dtype: str) -> Target:
    """torch.matmul of this machine's processor, (64, K) by (K, 64), of which the diagonal is used.

    Raises:
        InputError: not one of the types that torch multiplies.
    """
    kind = DTYPES[choice(dtype, DTYPES, "torch")]

    def call(a: Values, b: Values) -> Values:
        # Always a whole matrix: a single row may take another path of the library.
        rows = -(-len(a) // SIDE) * SIDE
        x, y = (np.concatenate([v, np.zeros((rows - len(v), v.shape[1]), v.dtype)]) for v in (a, b))
        out = np.empty(rows)
        for n in range(0, rows, SIDE):
            p, q = (torch.from_numpy(v[n : n + SIDE]).to(kind) for v in (x, y))
            out[n : n + SIDE] = torch.matmul(p, q.T.contiguous()).diagonal().to(torch.float64)
        return out[: len(a)]

    fmt = arithmetic_format(dtype)
    return Target(f"torch.matmul {dtype} (torch {torch.__version__})", fmt, fmt, fmt, call)
