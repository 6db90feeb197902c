"""The Triton kernels as `execution.around` calls them."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ....formats.format import FLOAT32, IntegerFormat, fits
from ...order import Chain, Exact, Fused, Integer, Tree, TwoStage
from ..layout import Operands, Place
from .chain import add, run_chain
from .fused import run_fused, run_grouped
from .sums import run_exact, run_integer, run_tree, run_two_stage

if TYPE_CHECKING:
    from ...dot_unit import DotUnit

_RUN: dict[type, Any] = {
    Chain: run_chain,
    Exact: run_exact,
    Integer: run_integer,
    Tree: run_tree,
    TwoStage: run_two_stage,
}


class Engine:
    """Sums of one piece, and additions of an outer accumulator, on tensors."""

    def summed(self, unit: "DotUnit", x: Operands, c: Any, place: Place) -> Any:
        """The order's sum of one piece."""
        order, formats = unit.order, (unit.a, unit.b)
        if isinstance(order, Fused):
            fused = run_fused if order.group is None else run_grouped
            return fused(order, x.a, x.b, c, formats, place, x.scales)
        return _RUN[type(order)](order, x.a, x.b, c, formats, place)

    def plus(self, x: Any, y: Any, step: Chain) -> Any:
        """round(x + y)."""
        return add(x, y, step)

    def zeros_like(self, c: Tensor) -> Tensor:
        """Starts from +0."""
        return torch.zeros_like(c)


ENGINE = Engine()


def sums_dtype(unit: "DotUnit") -> torch.dtype:
    """The dtype that holds C, D and all sums between: float32, or float64 where it must be."""
    outer = [unit.promotion, unit.split.step if unit.split else None]
    results = [unit.order.result, *(step.result for step in outer if step is not None)]
    narrow = all(not isinstance(f, IntegerFormat) and fits(f, FLOAT32) for f in results)
    return torch.float32 if narrow else torch.float64
