"""The exact twin of a dot unit: what surrounds an order, around its reference."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from . import reference
from .kernels.chain_random import random_step_reference
from .order import Chain, Exact, Fused, Integer

if TYPE_CHECKING:
    from .dot_unit import DotUnit


@dataclass(frozen=True)
class ReferenceUnit:
    """The exact twin of a unit: fractions, one output at a time."""

    unit: "DotUnit"

    def dot(self, a: Any, b: Any, c: Any = None, *, seed: int = 0, stream: int = 0) -> Any:
        """As `DotUnit.dot`, returning float64."""
        x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
        start = np.zeros(x.shape[:-1]) if c is None else np.asarray(c, np.float64)
        rows = zip(
            x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1]), start.reshape(-1), strict=True
        )
        out = [self._one(p.tolist(), q.tolist(), float(s), seed, stream, n)
               for n, (p, q, s) in enumerate(rows)]  # fmt: skip
        return np.array(out).reshape(start.shape)

    def matmul(self, a: Any, b: Any, c: Any = None, *, seed: int = 0, stream: int = 0) -> Any:
        """As `DotUnit.matmul`, returning float64."""
        x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
        shape = (x.shape[0], y.shape[1], x.shape[1])
        left = np.broadcast_to(x[:, None, :], shape)
        right = np.broadcast_to(y.T[None, :, :], shape)
        return self.dot(left, right, c, seed=seed, stream=stream)

    def _one(
        self, a: list[float], b: list[float], c: float, seed: int, stream: int, n: int
    ) -> float:
        unit = self.unit
        if unit.k_order:
            short = -len(a) % len(unit.k_order)
            a, b = a + [0.0] * short, b + [0.0] * short
            groups = range(0, len(a), len(unit.k_order))
            order = [start + k for start in groups for k in unit.k_order]
            a, b = [a[k] for k in order], [b[k] for k in order]
        depth = len(a)

        def draw(k: int, bits: int) -> int:
            return random_step_reference(seed, stream, n, k, depth, bits)

        if unit.promotion is None:
            return self._inner(a, b, c, draw)
        every, outer = unit.promote_every or len(a), unit.promotion
        for k in range(0, len(a), every):
            shifted = partial(_from, draw, k)
            t = self._inner(a[k : k + every], b[k : k + every], 0.0, shifted)
            c = reference.add(c, t, outer.result, outer.accumulate, outer.flush)
        return c

    def _inner(
        self, a: list[float], b: list[float], c: float, draw: Callable[[int, int], int]
    ) -> float:
        unit, order = self.unit, self.unit.order
        match order:
            case Fused():
                return reference.fused(a, b, c, order, (unit.a, unit.b))
            case Chain():
                return reference.chain(a, b, c, order, draw)
            case Exact():
                return reference.exact(a, b, c, order)
            case Integer():
                return reference.integer(a, b, c, order)


def _from(draw: Callable[[int, int], int], first: int, k: int, bits: int) -> int:
    """The draw of step first + k."""
    return draw(first + k, bits)
