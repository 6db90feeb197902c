"""Orders of exact or pairwise sums: exact, tree and integer."""

from functools import cached_property
from typing import Literal

from pydantic import Field, model_validator

from ...formats import IntegerFormat, get_format
from ...formats.errors import InputError
from ..tables import Row
from .row import MAX_PRECISION, Rounded


class Exact(Rounded):
    """All products of a block and c summed exactly, rounded once; no block: all of K."""

    order: Literal["exact"]
    block: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _deterministic(self) -> "Exact":
        if self.random_bits or self.result.precision > MAX_PRECISION:
            raise InputError(
                f"an exact order rounds once, to at most {MAX_PRECISION} bits, not stochastically"
            )
        return self

    def describe(self) -> str:
        """One line for a table."""
        scope = f"of {self.block} products and C" if self.block else "of all products and C"
        return f"exact sum {scope}, then {self.rounding} to {self.accumulator}"


class Tree(Rounded):
    """Groups of products summed in pairs, every sum rounded; the group's sum is added to c last.

        s = (((l0 + l1) + (l2 + l3)) + ...),  c <- round(c + s)

    A leaf l is `leaf` neighbouring products summed exactly and rounded once: with leaf = 1 each
    product is rounded, with leaf = 2 products are exact and pairs fuse. A ragged last group is
    filled with zero products.

    Attributes:
        group: P, products between two additions to c; a power of two.
        leaf: products of a leaf; a power of two, at most `group`.
        flush: subnormal inputs (of their own formats), c and results become zero.
        flushed_inputs: the zero of a flushed input or c: "signed" as the input, or "positive".
        tininess: whether a result is subnormal "after" rounding with an unbounded exponent, or
            "before" it.
        overflow: "ieee" (toward_zero and its like stop at the largest value), or "infinity".
    """

    order: Literal["tree"]
    group: int = Field(ge=1, le=4096)
    leaf: int = Field(default=1, ge=1)
    flush: bool = False
    flushed_inputs: Literal["signed", "positive"] = "signed"
    tininess: Literal["after", "before"] = "after"
    overflow: Literal["ieee", "infinity"] = "ieee"

    @model_validator(mode="after")
    def _supported(self) -> "Tree":
        self._refuse_wide()
        self._refuse_random("a tree order")
        for name, size in (("group", self.group), ("leaf", self.leaf)):
            if size & (size - 1):
                raise InputError(f"{name} = {size} is not a power of two")
        if self.leaf > self.group:
            raise InputError(f"leaf = {self.leaf} is larger than group = {self.group}")
        return self

    def describe(self) -> str:
        """One line for a table."""
        leaf = "rounded products" if self.leaf == 1 else f"exact sums of {self.leaf} products"
        flush = ", subnormals flushed" if self.flush else ""
        return (
            f"pairwise tree over {self.group} products ({leaf}), each sum {self.accumulate} in "
            f"{self.accumulator}, then C{flush}"
        )


class Integer(Row):
    """The exact integer sum, wrapped at the end or saturated after each block.

    Attributes:
        block: products between two reductions; None: all of K.
        partial, group: sums of `group` products are saturated to the integer format `partial`
            before they are added (pair instructions with 16-bit sums).
    """

    order: Literal["integer"]
    accumulator: str = "int32"
    overflow: Literal["wrap", "saturate"] = "wrap"
    block: int | None = Field(default=None, ge=1)
    partial: str | None = None
    group: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _whole_groups(self) -> "Integer":
        if (self.partial is None) != (self.group is None):
            raise InputError("partial and group go together")
        if self.group and self.block and self.block % self.group:
            raise InputError(f"block = {self.block} is not a multiple of group = {self.group}")
        return self

    @cached_property
    def result(self) -> IntegerFormat:
        """The accumulator's format."""
        return _integer(self.accumulator, "accumulator")

    @cached_property
    def partial_format(self) -> IntegerFormat | None:
        """The format that partial sums saturate to."""
        return None if self.partial is None else _integer(self.partial, "partial")

    def describe(self) -> str:
        """One line for a table."""
        partial = f"; sums of {self.group} saturated to {self.partial}" if self.partial else ""
        block = f" after each {self.block}" if self.block else ""
        return f"exact integer sum in {self.accumulator}, {self.overflow}{block}{partial}"


def _integer(name: str, what: str) -> IntegerFormat:
    fmt = get_format(name)
    if not isinstance(fmt, IntegerFormat):
        raise InputError(f"{what} = {name!r} is not an integer format")
    return fmt
