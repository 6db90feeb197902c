"""A dot-product unit: operand formats, an accumulation order, and what surrounds it."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..formats import InputError, quantize
from ..formats.format import ArithmeticFormat, FloatFormat, IntegerFormat
from ..formats.jit import start_threads
from .execution import RUN, Place, add
from .order import MAX_EXPONENT_BITS, MAX_PRECISION, Chain, Exact, Fused, Integer
from .reference_unit import ReferenceUnit

Order = Chain | Fused | Exact | Integer


@dataclass(frozen=True)
class DotUnit:
    """D = A B + C as one unit of a chip computes it, bit for bit.

    Attributes:
        a, b: formats of the operands.
        output: format of D, and of C.
        order: how products are summed and rounded.
        promote_every: products after which the inner sum, restarted from +0, is added to an
            outer accumulator by `promotion` (nearest-even, or with flushes as that row says);
            None: C is the inner sum's start.
        promotion: the outer accumulator's addition.
        k_order: a permutation applied to each group of len(k_order) products; () is ascending.
        name: where the unit is described, for messages.
    """

    a: ArithmeticFormat
    b: ArithmeticFormat
    output: ArithmeticFormat
    order: Order
    promote_every: int | None = None
    promotion: Chain | None = None
    k_order: tuple[int, ...] = ()
    name: str = "dot unit"

    def __post_init__(self) -> None:
        integers = [isinstance(f, IntegerFormat) for f in (self.a, self.b)]
        if isinstance(self.order, Integer) and not (all(integers) and self._bits <= 32):
            raise InputError(
                f"{self.name}: order = integer needs integer operands of 32 bits in all"
            )
        if isinstance(self.order, Fused | Chain) and any(integers):
            raise InputError(f"{self.name}: integer operands need order = integer or exact")
        self._check_widths()
        if sorted(self.k_order) != list(range(len(self.k_order))):
            raise InputError(
                f"{self.name}: k_order is not a permutation of 0 to {len(self.k_order) - 1}"
            )
        if (self.promote_every is None) != (self.promotion is None):
            raise InputError(f"{self.name}: promote_every and promotion go together")
        group = len(self.k_order) or 4
        if self.promote_every is not None and self.promote_every % group:
            raise InputError(
                f"{self.name}: promote_every = {self.promote_every} is not a multiple of {group}"
            )

    def _check_widths(self) -> None:
        """Refuse operands whose products float64 does not hold, but for native float64 chains."""
        if self.order.accumulator == "float64":
            return
        for fmt in (self.a, self.b):
            wide = isinstance(fmt, FloatFormat) and (
                fmt.precision > MAX_PRECISION or fmt.exponent_bits > MAX_EXPONENT_BITS
            )
            if wide:
                raise InputError(
                    f"{self.name}: operands of {fmt.name} need a float64 accumulator; others take "
                    f"at most {MAX_PRECISION} significand and {MAX_EXPONENT_BITS} exponent bits"
                )

    @property
    def _bits(self) -> int:
        return self.a.bits + self.b.bits

    @property
    def accumulator(self) -> FloatFormat | IntegerFormat:
        """The format on whose grid D lies."""
        return self.promotion.result if self.promotion else self.order.result

    @cached_property
    def reference(self) -> ReferenceUnit:
        """The exact, slow twin."""
        return ReferenceUnit(self)

    def matmul(
        self, a: Any, b: Any, c: Any = None, *, seed: int = 0, stream: int = 0, check: bool = True
    ) -> Any:
        """(..., M, K) @ (..., K, N) + (..., M, N) -> (..., M, N), float32 or float64, on the CPU.

        Args:
            a, b: arrays or tensors on the input formats' grids, with the same leading shape.
            c: on the accumulator's grid; None is +0.
            seed, stream: select the random bits of a stochastic accumulator.
            check: whether to verify that the operands are on their grids.

        Returns:
            D in a's kind: float32, or float64 for integer and wider accumulators. Every output
            is rounded as the order says, whatever the number of threads.

        Raises:
            InputError: shapes that do not match, or operands off the unit's grid.
        """
        x, y, start = self._operands(a, b, c, check)
        if x.ndim < 2 or x.shape[:-2] != y.shape[:-2] or x.shape[-1] != y.shape[-2]:
            raise InputError(
                f"{self.name}: cannot multiply {x.shape} by {y.shape}: need (M, K) and (K, N)"
            )
        shape = (*x.shape[:-1], y.shape[-1])
        start = np.zeros(shape) if start is None else start
        if start.shape != shape:
            raise InputError(f"{self.name}: C of shape {start.shape} is not {shape}")
        batch = math.prod(shape[:-2])
        x, y, start = (v.reshape(batch, *v.shape[-2:]) for v in (x, y, start))
        return self._rebuild(self._run(x, y, start, seed, stream).reshape(shape), a)

    def dot(
        self, a: Any, b: Any, c: Any = None, *, seed: int = 0, stream: int = 0, check: bool = True
    ) -> Any:
        """(..., K), (..., K) and c (...) -> (...): one dot product for each leading index.

        Arguments, result and errors as `matmul`; dot product n takes the random bits of output n.
        """
        x, y, start = self._operands(a, b, c, check)
        if x.shape != y.shape or x.ndim == 0:
            raise InputError(
                f"{self.name}: dot of shapes {x.shape} and {y.shape}: need two of (..., K)"
            )
        lead = x.shape[:-1]
        start = np.zeros(lead) if start is None else start
        if start.shape != lead:
            raise InputError(f"{self.name}: C of shape {start.shape} is not {lead}")
        depth = x.shape[-1]
        batch = math.prod(lead)
        rows, columns = x.reshape(batch, 1, depth), y.reshape(batch, depth, 1)
        out = self._run(rows, columns, start.reshape(batch, 1, 1), seed, stream)
        return self._rebuild(out.reshape(lead), a)

    def _run(
        self, a: NDArray[Any], b: NDArray[Any], c: NDArray[np.float64], seed: int, stream: int
    ) -> NDArray[np.float64]:
        """Stacks of matrices through the order, in segments where the unit promotes."""
        start_threads()
        a, b = self._ordered(a, b)
        run, formats, depth = RUN[type(self.order)], (self.a, self.b), a.shape[2]
        if c.size == 0:
            return c
        if self.promotion is None:
            return run(self.order, a, b, c, formats, Place(seed, stream, 0, depth))
        every = self.promote_every or depth
        for k in range(0, depth, every):
            x, y, place = a[:, :, k : k + every], b[:, k : k + every], Place(seed, stream, k, depth)
            inner = run(self.order, x, y, np.zeros_like(c), formats, place)
            c = add(c, inner, self.promotion)
        return c

    def _ordered(self, a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The products in the unit's k order; a ragged last group is filled with zeros."""
        if not self.k_order:
            return a, b
        short = -a.shape[2] % len(self.k_order)
        a = np.pad(a, ((0, 0), (0, 0), (0, short)))
        b = np.pad(b, ((0, 0), (0, short), (0, 0)))
        groups = np.arange(a.shape[2]).reshape(-1, len(self.k_order))
        order = groups[:, list(self.k_order)].reshape(-1)
        return a[:, :, order], b[:, order]

    def _operands(
        self, a: Any, b: Any, c: Any, check: bool
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64] | None]:
        x, y = self._array(a, "A", self.a, check), self._array(b, "B", self.b, check)
        if c is None:
            return x, y, None
        start = self._array(c, "C", self.accumulator, check)
        with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
            return x, y, start.astype(np.float64)

    def _array(self, x: Any, what: str, fmt: ArithmeticFormat, check: bool) -> NDArray[Any]:
        array = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
        if array.dtype not in (np.float32, np.float64):
            raise InputError(f"{self.name}: {what} is {array.dtype}, not one of float32, float64")
        array = np.ascontiguousarray(array).reshape(array.shape)
        if check:
            on_grid = quantize(array.astype(np.float64), fmt, overflow=_keep(fmt))
            off = ~((on_grid == array) | np.isnan(array))
            if off.any():
                value = array[tuple(index[0] for index in np.nonzero(off))]
                raise InputError(
                    f"{self.name}: {what} holds {value!r}, not a value of {fmt.name} "
                    f"({int(off.sum())} such elements); quantize it first"
                )
        return array

    def _rebuild(self, out: NDArray[np.float64], like: Any) -> Any:
        fmt = self.accumulator
        wide = isinstance(fmt, IntegerFormat) or fmt.name == "float64"
        result = out if wide else out.astype(np.float32)
        return torch.from_numpy(result) if isinstance(like, torch.Tensor) else result


def _keep(fmt: ArithmeticFormat) -> str:
    """The overflow policy that leaves infinities of the format alone."""
    return "infinity" if fmt.grid.has_infinity else "saturate"
