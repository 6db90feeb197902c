"""The vector unit of a chip at work on tensors of its dtype: every result rounded to its format."""

from typing import Any

import numpy as np
import torch

from ...formats import Stochastic, get_format
from ...formats.device.place import on_device
from ...formats.lanes import make_plan
from ...formats.rounding import Overflow, Rounding, kernel_mode
from ..kernels import elementwise
from ..kernels.odd import ADD, DIV, FMA, MUL, SQRT, SUB
from ..tracing import Trace
from ..units import VectorUnit
from . import device
from .accumulation import add_rows, scan
from .functions import in_float64
from .reductions import reduce

Tensor = torch.Tensor
Number = Tensor | float


class Target:
    """A format with its rounding, as the kernels take them."""

    def __init__(self, name: str, how: Rounding | Stochastic, trace: Trace) -> None:
        self.plain = name in ("float32", "float64") and how is Rounding.NEAREST_EVEN
        self.dtype = torch.float64 if name == "float64" else torch.float32
        self.fmt: Any = get_format(name)
        mode, bits = kernel_mode(how)
        self.plan = make_plan(self.fmt, mode, bits, Overflow.INFINITY, False)
        self._random, self._trace = bits > 0, trace

    def random(self) -> tuple[np.uint64, np.uint64]:
        """Seed and a fresh stream, where the rounding draws bits."""
        seed = np.uint64(self._trace.seed % 2**64)
        return seed, np.uint64(self._trace.next_stream() if self._random else 0)


class VectorWork:
    """The vector unit of a chip.

    Attributes:
        dtype: of the tensors that hold its values: float64 for a float64 unit, else float32.
        plain: its +, -, *, / are the host's own instructions, IEEE 754 nearest-even, so that
            PyTorch's are already its results, bit for bit. (Its sqrt is not: it may come from a
            vector library that is an ulp off; NumPy's is the instruction.)
    """

    def __init__(self, unit: VectorUnit, trace: Trace) -> None:
        self.unit = unit
        self.plain = unit.plain
        self.result = Target(unit.format, unit.how(unit.rounding), trace)
        sums = unit.how(unit.accumulator_rounding or unit.rounding)
        self.sums = Target(unit.accumulator, sums, trace)
        self.dtype = self.result.dtype
        smallest = 0.0 if unit.format == "float64" else self.result.fmt.min_normal
        self.flush_in = smallest if unit.flush in ("inputs", "both") else 0.0
        self.flush_out = smallest if unit.flush in ("outputs", "both") else 0.0

    def operate(self, op: int, *operands: Number) -> Tensor:
        """+, -, *, /, sqrt or fma (ADD .. FMA of kernels.odd) of operands, broadcast, rounded once.

        Numbers are float32 constants, as PyTorch has them.
        """
        where = next((x for x in operands if isinstance(x, Tensor) and on_device(x)), None)
        # An IEEE unit of float64 comes here on a device alone, for its own instructions.
        kind = self.dtype if self.plain and where is not None else torch.float32
        at = None if where is None else where.device
        tensors = [torch.as_tensor(x, dtype=kind, device=at) for x in operands]
        tensors = list(torch.broadcast_tensors(*tensors))  # type: ignore[no-untyped-call]
        shape = tensors[0].shape
        if where is not None:
            flat = [t.detach().contiguous() for t in tensors]
            return device.operate(self, op, flat).reshape(shape)
        arrays = [t.detach().contiguous().numpy().reshape(-1) for t in tensors]
        while len(arrays) < 3:
            arrays.append(arrays[0])
        out = np.empty(arrays[0].size, np.float32)
        elementwise.operate(
            op, *arrays, out, self.flush_in, self.flush_out, *self.result.plan,
            *self.result.random(),
        )  # fmt: skip
        return torch.from_numpy(out).reshape(shape)

    def root(self, x: Tensor) -> Tensor:
        """sqrt x, rounded once."""
        if not self.plain or on_device(x):
            return self.operate(SQRT, x)
        with np.errstate(invalid="ignore"):
            return torch.from_numpy(np.asarray(np.sqrt(x.detach().contiguous().numpy())))

    def read(self, x: Any) -> Any:
        """A tensor as the unit reads it: subnormals as zeros where it flushes them."""
        if self.flush_in and isinstance(x, Tensor) and x.dtype.is_floating_point:
            return torch.where(x.abs() < self.flush_in, torch.copysign(torch.zeros_like(x), x), x)
        return x

    def settle(self, x: Tensor) -> Tensor:
        """float64 x, computed by other means, rounded to the unit's format."""
        if self.plain:
            return x.to(self.dtype)
        if on_device(x):
            return device.settle(self, x)
        flat = x.detach().contiguous().numpy().reshape(-1)
        out = np.empty(flat.size, np.float32)
        elementwise.settle(
            flat, out, self.flush_out, *self.result.plan, *self.result.random()
        )  # fmt: skip
        return torch.from_numpy(out).reshape(x.shape)

    def function(self, func: Any, args: Any, kwargs: Any) -> Any:
        """func computed in float64, its floating-point results rounded once."""
        return in_float64(func, args, kwargs, self)

    def reduce(self, x: Tensor, dims: Any, keepdim: bool, product: bool = False) -> Tensor:
        """Sum or product over `dims` (all if empty) in the unit's order, in its accumulator."""
        total: Tensor = reduce(self.read(x), dims, keepdim, self, product)
        if self.plain and total.dtype is self.dtype:
            return total
        return self.settle(total.double())  # from the accumulator; a sum of one is not rounded yet

    def add_rows(self, out: Tensor, index: Tensor, source: Tensor) -> None:
        """out[index[s]] += source[s] for s ascending, each sum rounded; (R, C), (S,), (S, C)."""
        if on_device(out):
            device.add_rows(self, out, index, source)
            return
        add_rows(out, index, source, self)

    def scan(self, x: Tensor, dim: int, product: bool = False) -> Tensor:
        """Running sums or products along `dim`, ascending, each rounded."""
        x = self.read(x)
        if on_device(x):
            sums = device.scan(self, x, dim, product)
        else:
            sums = scan(x, dim, self, product)
        return sums if self.plain else self.settle(sums.double())


__all__ = ["ADD", "DIV", "FMA", "MUL", "SQRT", "SUB", "VectorWork"]
