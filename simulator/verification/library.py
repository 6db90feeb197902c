"""A unit against a library's matrix product, whose order beyond one instruction is not stated.

One instruction is isolated first: K is one block of the unit, so the library has nothing to
order. A longer K is compared only after the library's order has been found to be the unit's, by
the masks of FPRev (arXiv 2411.00442): M at i, -M at j, small units elsewhere; the sum counts the
units that M did not swallow, which tells the tree of the sum, not its widths or roundings.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...formats.format import ArithmeticFormat, FloatFormat, IntegerFormat
from ..dot_unit import DotUnit
from ..order import Chain
from .batch import Batch, make_batch, multiply
from .cases import make_cases
from .checks import Check, difference
from .codes import Codes, to_codes
from .comparison import NOTHING, Policy, compare
from .selection import Chosen
from .space import exponent_range

#: D (T, m, m) of a batch with C = 0.
Multiply = Callable[[Batch], Codes]
SIZE = 128
#: Lengths beyond one block, in blocks.
BLOCKS = (2, 8)
INTERVALS = (32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Product:
    """A library's matrix product on a device.

    Attributes:
        name: the call, and the device.
        multiply: runs it.
        promotes: whether the library adds partial sums of an unpublished length outside of the
            unit; then the interval is searched for among `INTERVALS`.
    """

    name: str
    multiply: Multiply
    promotes: bool = False


def check_product(
    chosen: Chosen, product: Product, outputs: int, seed: int, policy: Policy
) -> Iterator[Check]:
    """One check of one block, then one for each longer K, until `outputs` are compared."""
    unit = chosen.unit
    block = block_of(unit)
    lengths = [block, *(block * n for n in BLOCKS)]
    each = -(-outputs // len(lengths))
    yield _compared(chosen, unit, product, block, each, seed, policy, "one block, C = 0")
    if product.promotes:
        yield _promoted(chosen, product, each, seed, policy)
        return
    for k in lengths[1:]:
        if not same_tree(unit, product.multiply, k):
            yield Check(
                chosen, product.name, k, missing="the library's order at this length is not "
                "shown to be the unit's chain of blocks (split-K, another block): not compared",
            )  # fmt: skip
            continue
        note = "the library's order is the unit's, by FPRev; C = 0"
        yield _compared(chosen, unit, product, k, each, seed, policy, note)


def block_of(unit: DotUnit) -> int:
    """Products that the unit sums at once, at least 16: what libraries' alignment rules allow."""
    order: Any = unit.order
    return max(16, int(getattr(order, "block", None) or 1))


def _promoted(chosen: Chosen, product: Product, outputs: int, seed: int, policy: Policy) -> Check:
    """Long sums whose partial sums the library adds in float32, at the interval that fits."""
    k = 2 * INTERVALS[-1]
    step = Chain(order="chain", accumulator="float32")
    for every in INTERVALS:
        unit = replace(chosen.unit, promote_every=every, promotion=step)
        if same_tree(unit, product.multiply, k):
            note = f"found by FPRev: the library promotes to float32 every {every} products; C = 0"
            return _compared(chosen, unit, product, k, outputs, seed, policy, note)
    listed = ", ".join(str(every) for every in INTERVALS)
    reason = f"the library promotes at none of the intervals {listed}: nothing to compare"
    return Check(chosen, product.name, k, missing=reason)


def same_tree(unit: DotUnit, multiply_there: Multiply, k: int) -> bool:
    """Whether the library's sum of k products has the unit's tree, by all pairs (i, j)."""
    if isinstance(unit.a, IntegerFormat):
        return True  # exact, wrapped at the end: no order shows
    batch = masks(unit, k)
    here = multiply(unit, batch)
    if len(np.unique(here[0, : min(k, SIZE) - 1])) == 1:
        return False  # M swallows nothing in so narrow a format: the masks show no order
    return bool(np.array_equal(multiply_there(batch), here))


def masks(unit: DotUnit, k: int) -> Batch:
    """A holds M at i, -M at j and a unit elsewhere, in each row another pair; B is all ones."""
    assert isinstance(unit.a, FloatFormat)
    lowest, highest = exponent_range(unit.a)
    top = min(highest, 30)
    low = max(lowest, top - 40)
    first, second = np.triu_indices(k, 1)
    step = max(1, len(first) // 8192)  # all pairs of short sums, every nth of long ones
    first, second = first[::step], second[::step]
    rows = len(first)
    a = np.full((-(-rows // SIZE) * SIZE, k), 2.0**low)
    a[np.arange(rows), first], a[np.arange(rows), second] = 2.0**top, -(2.0**top)
    count = len(a) // SIZE
    b = np.ones((count, k, SIZE))
    formats: tuple[ArithmeticFormat, ...] = (unit.a, unit.b, unit.output)
    return Batch(
        (unit.a, unit.b, unit.output),
        to_codes(a.reshape(count, SIZE, k), formats[0]),
        to_codes(b, formats[1]),
        np.zeros((count, SIZE, SIZE), np.uint64),
    )


def _compared(
    chosen: Chosen, unit: DotUnit, product: Product, k: int, outputs: int, seed: int,
    policy: Policy, note: str,
) -> Check:  # fmt: skip
    """`outputs` sums of length k, corners and random numbers, C = 0."""
    result, first = NOTHING, None
    rounds = max(1, outputs // (16 * SIZE**2))
    for turn in range(rounds):
        count = SIZE * max(1, min(16, outputs // SIZE**2))
        batch = make_batch(make_cases(unit, count, seed + turn, k), SIZE)
        batch = replace(batch, c=np.zeros_like(batch.c))
        expected, got = product.multiply(batch), multiply(unit, batch)
        found = compare(expected, got, unit.output, policy)
        if first is None and found.first is not None:
            n = found.first
            results = expected.reshape(-1)[n], got.reshape(-1)[n]
            first = difference(chosen, result.compared + n, batch.place(n), results)
        result = result + found
    return Check(chosen, product.name, k, result, first, note=note)
