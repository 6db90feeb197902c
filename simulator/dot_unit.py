"""A dot-product unit: operand formats, an accumulation order, and what surrounds it."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from ..formats import InputError
from ..formats.device.place import on_device
from ..formats.format import ArithmeticFormat, FloatFormat, IntegerFormat
from ..formats.jit import limit_threads, start_threads
from .execution import Operands, Place, run_unit
from .execution.layout import Matrix, Sums, array_of, refuse_off_grid
from .order import (
    MAX_EXPONENT_BITS,
    MAX_PRECISION,
    Chain,
    Fused,
    Integer,
    Order,
    Scale,
    Sequence,
    SplitK,
)
from .reference_unit import ReferenceUnit

#: Products below which waking other threads takes longer than the work.
SMALL = 1 << 14


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
        k_order: a named sequence of all k, or a permutation applied to each group of
            len(k_order) products; () is ascending.
        split: K in parts that are summed apart and combined; see `SplitK`.
        name: where the unit is described, for messages.
    """

    a: ArithmeticFormat
    b: ArithmeticFormat
    output: ArithmeticFormat
    order: Order
    promote_every: int | None = None
    promotion: Chain | None = None
    k_order: tuple[int, ...] | Sequence = ()
    split: SplitK | None = None
    name: str = "dot unit"

    def __post_init__(self) -> None:
        integers = [isinstance(f, IntegerFormat) for f in (self.a, self.b)]
        if isinstance(self.order, Integer) and not (
            all(integers) and self.a.bits + self.b.bits <= 32
        ):
            raise InputError(
                f"{self.name}: order = integer needs integer operands of 32 bits in all"
            )
        if self.order.order not in ("integer", "exact") and any(integers):
            raise InputError(f"{self.name}: integer operands need order = integer or exact")
        self._check_widths()
        self._check_k_order()
        if (self.promote_every is None) != (self.promotion is None):
            raise InputError(f"{self.name}: promote_every and promotion go together")
        self._check_segments()

    def _check_widths(self) -> None:
        """Refuse operands whose products float64 does not hold, but for native float64 chains."""
        if isinstance(self.order, Fused) and self.order.scale:
            self._check_scaled(self.order, self.order.scale)
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

    def _check_scaled(self, order: Fused, scale: Scale) -> None:
        """Refuse what the scaled kernels could not sum exactly, and parts that cut a scale."""
        for fmt in (self.a, self.b):
            if fmt.precision + scale.fmt.precision > MAX_PRECISION:
                raise InputError(
                    f"{self.name}: operands of {fmt.name} with scales of {scale.format} have more "
                    f"than {MAX_PRECISION} significand bits"
                )
        if order.group:
            top = order.group * self.a.grid.largest * self.b.grid.largest
            lowest = sum(f.grid.min_exponent - f.grid.subnormal_fraction_bits
                         for f in (self.a, self.b))  # fmt: skip
            exact = math.log2(top) - lowest + 2 * scale.fmt.precision
            width = math.log2(top * order.block / order.group) + 2 + order.fraction_bits + 1
            if max(exact, width) > 53:
                raise InputError(
                    f"{self.name}: sums of {order.group} products of {self.a.name} and "
                    f"{self.b.name} need more than the 53 bits they are computed in"
                )

    def _check_k_order(self) -> None:
        if isinstance(self.k_order, Sequence):
            return
        if sorted(self.k_order) != list(range(len(self.k_order))):
            raise InputError(
                f"{self.name}: k_order is not a permutation of 0 to {len(self.k_order) - 1}"
            )

    def _check_segments(self) -> None:
        """Segments and parts must not cut what belongs together."""
        whole = {"k_order": len(self.k_order) if isinstance(self.k_order, tuple) else 0}
        if isinstance(self.order, Fused) and self.order.scale:
            whole["the scale's block"] = self.order.scale.block
            if self.k_order:
                raise InputError(f"{self.name}: k_order does not go with scaled operands")
        if getattr(self.order, "random_bits", None):
            whole["a block of random words"] = 4
        for what, size in whole.items():
            if size and self.promote_every is not None and self.promote_every % size:
                raise InputError(
                    f"{self.name}: promote_every = {self.promote_every} is not a multiple of "
                    f"{size}, {what}"
                )
        if self.split and self.split.chunk % whole.get("the scale's block", 1):
            raise InputError(
                f"{self.name}: split_k chunk = {self.split.chunk} is not a multiple of the "
                f"scale's block, {whole['the scale' + chr(39) + 's block']}"
            )
        if self.split and self.split.scope == "promotion" and self.promotion is None:
            raise InputError(f'{self.name}: split_k scope = "promotion" needs a promotion')

    @property
    def scale(self) -> Scale | None:
        """The scales of the operands, if the unit takes any."""
        return self.order.scale if isinstance(self.order, Fused) else None

    @property
    def accumulator(self) -> FloatFormat | IntegerFormat:
        """The format on whose grid D lies."""
        if self.split and self.split.scope == "k":
            return self.split.step.result
        return self.promotion.result if self.promotion else self.order.result

    @property
    def addend(self) -> FloatFormat | IntegerFormat:
        """The format on whose grid C lies: the accumulator that it starts or is added to."""
        if self.split and self.split.scope == "k" and self.split.c == "last":
            return self.split.step.result
        return self.promotion.result if self.promotion else self.order.result

    @cached_property
    def reference(self) -> ReferenceUnit:
        """The exact, slow twin."""
        return ReferenceUnit(self)

    def matmul(
        self, a: Any, b: Any, c: Any = None, *, a_scale: Any = None, b_scale: Any = None,
        seed: int = 0, stream: int = 0, check: bool = True,
    ) -> Any:  # fmt: skip
        """(..., M, K) @ (..., K, N) + (..., M, N) -> (..., M, N), float32 or float64.

        Args:
            a, b: arrays or tensors on the input formats' grids, with the same leading shape.
            c: on the grid of `addend`; None is +0.
            a_scale, b_scale: (..., M, ceil(K / block)) and (..., ceil(K / block), N), on the grid
                of `scale`, for a unit that has one; None is 1.
            seed, stream: select the random bits of a stochastic accumulator.
            check: whether to verify that the operands are on their grids.

        Returns:
            D in a's kind and on its device: float32, or float64 for integer and wider
            accumulators. Every output is rounded as the order says, whatever the number of
            threads.

        Raises:
            InputError: shapes that do not match, or operands off the unit's grid.
        """
        if on_device(a):
            from .execution.device.unit import on_host_if_asked

            return on_host_if_asked(
                self, "matmul", (a, b, c, a_scale, b_scale), Place(seed, stream), check
            )
        x, y, start = self._operands(a, b, c, check)
        if x.ndim < 2 or x.shape[:-2] != y.shape[:-2] or x.shape[-1] != y.shape[-2]:
            raise InputError(
                f"{self.name}: cannot multiply {x.shape} by {y.shape}: need (M, K) and (K, N)"
            )
        shape = (*x.shape[:-1], y.shape[-1])
        scales = self._scales(
            (a_scale, b_scale), x.shape[-1], check,
            lambda parts: ((*x.shape[:-1], parts), (*y.shape[:-2], parts, y.shape[-1])),
        )  # fmt: skip
        batch = 1 if len(shape) == 2 else math.prod(shape[:-2])
        x, y = x.reshape(batch, *x.shape[-2:]), y.reshape(batch, *y.shape[-2:])
        start = self._start(start, shape).reshape(batch, *shape[-2:])
        if scales is not None:
            left, right = (v.reshape(batch, *v.shape[-2:]) for v in scales)
            scales = left, right
        out = self._run(x, y, start, scales, Place(seed, stream))
        return self._rebuild(out.reshape(shape), a)

    def dot(
        self, a: Any, b: Any, c: Any = None, *, a_scale: Any = None, b_scale: Any = None,
        seed: int = 0, stream: int = 0, check: bool = True,
    ) -> Any:  # fmt: skip
        """(..., K), (..., K) and c (...) -> (...): one dot product for each leading index.

        Arguments, result and errors as `matmul`, scales (..., ceil(K / block)) both; dot product
        n takes the random bits of output n.
        """
        if on_device(a):
            from .execution.device.unit import on_host_if_asked

            return on_host_if_asked(
                self, "dot", (a, b, c, a_scale, b_scale), Place(seed, stream), check
            )
        x, y, start = self._operands(a, b, c, check)
        if x.shape != y.shape or x.ndim == 0:
            raise InputError(
                f"{self.name}: dot of shapes {x.shape} and {y.shape}: need two of (..., K)"
            )
        lead, depth = x.shape[:-1], x.shape[-1]
        scales = self._scales((a_scale, b_scale), depth, check, lambda parts: ((*lead, parts),) * 2)
        start, batch = self._start(start, lead), math.prod(lead)
        x, y = x.reshape(batch, 1, depth), y.reshape(batch, depth, 1)
        if scales is not None:
            parts = scales[0].shape[-1]
            scales = scales[0].reshape(batch, 1, parts), scales[1].reshape(batch, parts, 1)
        out = self._run(x, y, start.reshape(batch, 1, 1), scales, Place(seed, stream))
        return self._rebuild(out.reshape(lead), a)

    def _run(
        self, a: Matrix, b: Matrix, c: Sums, scales: tuple[Matrix, Matrix] | None, place: Place
    ) -> Sums:
        if c.size == 0:
            return c
        start_threads()
        operands = Operands(a, b, scales, self.scale.block if self.scale else 1)
        if c.size * operands.depth > SMALL:
            out: Sums = run_unit(self, operands, c, place)
            return out
        threads = limit_threads(1)
        try:
            out = run_unit(self, operands, c, place)
            return out
        finally:
            limit_threads(threads)

    def _start(self, c: Sums | None, shape: tuple[int, ...]) -> Sums:
        """C, or zeros: an array of our own, which kernels overwrite."""
        if c is None:
            return np.zeros(shape)
        if c.shape != shape:
            raise InputError(f"{self.name}: C of shape {c.shape} is not {shape}")
        return c

    def _operands(self, a: Any, b: Any, c: Any, check: bool) -> tuple[Matrix, Matrix, Sums | None]:
        x = array_of(a, f"{self.name}: A")
        y = array_of(b, f"{self.name}: B")
        start = None if c is None else array_of(c, f"{self.name}: C")
        if check:
            refuse_off_grid(x, self.a, f"{self.name}: A")
            refuse_off_grid(y, self.b, f"{self.name}: B")
            if start is not None:
                refuse_off_grid(start, self.addend, f"{self.name}: C")
        if start is None:
            return x, y, None
        with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
            return x, y, start.astype(np.float64)

    def _scales(
        self, scales: tuple[Any, Any], depth: int, check: bool, shapes: Any
    ) -> tuple[Matrix, Matrix] | None:
        """Both operands' scales without their signs, ones where only one is given."""
        if scales[0] is None and scales[1] is None:
            return None
        if self.scale is None:
            raise InputError(f"{self.name}: takes no scales; leave out a_scale and b_scale")
        wanted = shapes(-(-depth // self.scale.block))
        out = []
        for what, given, shape in zip(("a_scale", "b_scale"), scales, wanted, strict=True):
            array = np.ones(shape, np.float32)
            if given is not None:
                array = np.abs(array_of(given, f"{self.name}: {what}"))
            if array.shape != shape:
                raise InputError(
                    f"{self.name}: {what} of shape {array.shape} is not {shape}, one for each "
                    f"{self.scale.block} elements in k"
                )
            if check:
                refuse_off_grid(array, self.scale.fmt, f"{self.name}: {what}")
            out.append(array)
        return out[0], out[1]

    def _rebuild(self, out: Sums, like: Any) -> Any:
        fmt = self.accumulator
        wide = isinstance(fmt, IntegerFormat) or fmt.name == "float64"
        result = out if wide else out.astype(np.float32)
        return torch.from_numpy(result) if isinstance(like, torch.Tensor) else result
