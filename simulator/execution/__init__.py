"""From an order to its kernel: one file a family."""

from collections.abc import Callable

from ..order import Chain, Exact, Fused, Integer
from .chain import add, run_chain
from .exact import run_exact
from .fused import run_fused
from .integer import run_integer
from .layout import Place, Sums

RUN: dict[type, Callable[..., Sums]] = {
    Chain: run_chain,
    Fused: run_fused,
    Exact: run_exact,
    Integer: run_integer,
}

__all__ = ["RUN", "Place", "add"]
