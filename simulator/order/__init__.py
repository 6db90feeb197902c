"""Accumulation orders: what a dot-product unit does with its products, as frozen rows.

A row has every width and every rounding; the equations are in `simulator.reference`, the kernels
in `simulator.kernels`. All are read from the TOML of a chip.
"""

from typing import Annotated

from pydantic import Field

from .around import Addition, KOrder, Promotion, Sequence, SplitK
from .chain import Chain
from .fused import Fused, Scale, TwoStage
from .row import MAX_EXPONENT_BITS, MAX_PRECISION
from .sums import Exact, Integer, Tree

Order = Chain | Fused | Exact | Integer | Tree | TwoStage
AnyOrder = Annotated[Order, Field(discriminator="order")]

__all__ = [
    "MAX_EXPONENT_BITS",
    "MAX_PRECISION",
    "Addition",
    "AnyOrder",
    "Chain",
    "Exact",
    "Fused",
    "Integer",
    "KOrder",
    "Order",
    "Promotion",
    "Scale",
    "Sequence",
    "SplitK",
    "Tree",
    "TwoStage",
]
