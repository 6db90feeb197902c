"""A matrix product held against the exact one: noise, swamped additions, infinities that it made.

The noise and the swamped additions are looked at in a sample, the same for every run: up to
`BATCHES` evenly spaced matrices of a stack, `ROWS` rows and `COLUMNS` columns of each.

The k-th product of an output is swamped if it is not zero, and the unit, stopped at the end of the
addition that the product joins, returns the same bits with and without it. "Stopped" means that
the products of later additions are zero. A chain adds one product at a time; a fused, two-stage or
exact unit a block of them at once, a tree a group: there a product also counts as swamped if
another of its block drowns it. Splits, promotion and lanes are part of the unit, so what their own
additions swallow counts as well. Stochastic roundings draw the same bits with and without.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from math import fsum
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..dot_unit import DotUnit
from ..kernels.counting import exact_products
from ..order import Chain, Sequence, Tree
from .counts import Counts

BATCHES, ROWS, COLUMNS = 4, 8, 8
#: Matrices, rows, columns and k of the sample of additions.
SWAMPED = (1, 2, 8, 16)

Stack = NDArray[Any]


class Taken(Protocol):
    """An operand (B, R, K) as a unit takes it, a row meeting in one dot product."""

    @property
    def elements(self) -> Stack:
        """(B, R, K)."""
        ...

    @property
    def factor(self) -> Stack | None:
        """(B, R, 1) or (1, 1, 1), for the product; None is 1."""

    def rows(self, n: int, i: NDArray[np.int64]) -> "Taken":
        """Rows i of matrix n."""
        ...

    def dequantised(self) -> Stack:
        """(B, R, K), without the factor."""
        ...


class Multiplied(NamedTuple):
    """One matrix product of a stack.

    Attributes:
        unit: what multiplied.
        every: products that it was given at a time; 0 is all.
        a, b: (B, M, K) and (B, N, K) before rounding.
        x, y: what the unit took for them; K may be filled up.
        bias: broadcastable to the result; None is 0.
        start: C of the unit (B, M, N), in units of x y; None is 0.
        result: (B, M, N).
        sums: the unit's sums of rows of x with rows of y, on some C, without their factors.
    """

    unit: DotUnit
    every: int
    a: Stack
    b: Stack
    x: Taken
    y: Taken
    bias: Stack | None
    start: Stack | None
    result: Stack
    sums: Callable[[Any, Any, Any], Stack]


def examine(product: Multiplied, counts: Counts) -> None:
    """Add everything about one product but its calls and multiply-accumulates."""
    result = product.result
    counts.add(values=result.size)
    if not result.size:
        return
    _count_nonfinite(product, counts)
    if not product.a.shape[2]:
        return
    _compare(product, counts)
    _count_swamped(product, counts)


def _count_nonfinite(product: Multiplied, counts: Counts) -> None:
    """Infinities and NaN, and those among them that only finite numbers went into."""
    finite = np.isfinite(product.result)
    if finite.all():
        return
    rows, columns = (np.asarray(np.isfinite(v).all(axis=2)) for v in (product.a, product.b))
    went: Any = rows[:, :, None] & columns[:, None, :]
    if product.bias is not None:
        went = went & np.isfinite(product.bias)
    counts.add(
        nonfinite=int((~finite).sum()),
        overflow=int((np.isinf(product.result) & went).sum()),
        nan=int((np.isnan(product.result) & went).sum()),
    )


def _compare(product: Multiplied, counts: Counts) -> None:
    """Noise of the whole, and of the accumulation alone, over the sample's finite results."""
    n, i, j = (_spread(size, most) for size, most in
               zip(product.result.shape, (BATCHES, ROWS, COLUMNS), strict=True))  # fmt: skip
    at = np.ix_(n, i, j)
    bias: Any = 0.0
    if product.bias is not None:
        bias = np.broadcast_to(product.bias, product.result.shape)[at].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        a, b = product.a[n[:, None], i], product.b[n[:, None], j]
        x, y = (np.concatenate([_restored(v.rows(int(m), k)) for m in n])
                for v, k in ((product.x, i), (product.y, j)))  # fmt: skip
        result = product.result[at].astype(np.float64)
        exact, rounded = _exact(a, b) + bias, _exact(x, y) + bias
        whole, alone = result - exact, result - rounded
        kept = np.isfinite(whole) & np.isfinite(alone)
    counts.add(
        compared=int(kept.sum()),
        signal=_energy(exact[kept]), noise=_energy(whole[kept]),
        sum_signal=_energy(rounded[kept]), sum_noise=_energy(alone[kept]),
    )  # fmt: skip
    sizes = np.abs(result[np.isfinite(result) & (result != 0)])
    if sizes.size:
        counts.add_range(sizes.min(), sizes.max())


def _restored(x: Taken) -> Stack:
    """Without any scaling, in float64."""
    values = x.dequantised().astype(np.float64)
    return values if x.factor is None else values * x.factor


def _exact(a: Stack, b: Stack) -> Stack:
    left, right = (np.ascontiguousarray(v, np.float64) for v in (a, b.swapaxes(1, 2)))
    products: Stack = exact_products(left, right)
    return products


def _energy(x: Stack) -> float:
    return fsum((x * x).reshape(-1).tolist())


def _count_swamped(product: Multiplied, counts: Counts) -> None:
    """Additions of the sample, with and without each product."""
    batch, height, width = product.result.shape
    (n,), i, j = (_spread(s, m) for s, m in zip((batch, height, width), SWAMPED[:3], strict=True))
    depth = product.x.elements.shape[2]
    k = _spread(depth, SWAMPED[3])
    turn = turns(product.unit, depth, product.every)
    within = turn[None, :] <= turn[k][:, None]  # (k, K): the products up to the end of each turn
    rows, columns = product.x.rows(int(n), i), product.y.rows(int(n), j)
    whole = np.where(within[None], rows.elements[0][:, None, :], np.float32(0))  # (i, k, K)
    without = whole.copy()
    without[:, np.arange(k.size), k] = 0
    stacked = np.concatenate([whole, without]).reshape(1, -1, depth)
    both = product.x.rows(int(n), np.tile(np.repeat(i, k.size), 2))
    start = None
    if product.start is not None:
        start = np.broadcast_to(product.start[n][np.ix_(i, j)][:, None], (i.size, k.size, j.size))
        start = np.concatenate([start, start]).reshape(1, -1, j.size)
    sums = product.sums(replace(both, elements=stacked), columns, start)  # type: ignore[type-var]
    with_it, without_it = sums.reshape(2, i.size, k.size, j.size)
    with np.errstate(invalid="ignore", over="ignore"):
        x, y = (v.dequantised()[0].astype(np.float64) for v in (rows, columns))
        terms = x[:, k, None] * y.T[k][None]
    looked = (terms != 0) & np.isfinite(terms) & np.isfinite(without_it)
    same = looked & (with_it == without_it)
    counts.add(additions=int(looked.sum()), swamped=int(same.sum()))


@lru_cache(maxsize=256)
def turns(unit: DotUnit, depth: int, every: int = 0) -> NDArray[np.int64]:
    """For each k, the number of the addition in which its product joins the sum.

    Parts of a split are taken one after the other; so are runs of `every` products that the unit
    is given at a time, if not 0.
    """
    if 0 < every < depth:
        first = turns(unit, every)
        return np.concatenate([first + every * p for p in range(depth // every)]
                              + [turns(unit, depth % every) + depth])  # fmt: skip
    order = unit.order
    whole = getattr(order, "block", None) or depth
    size = 1 if isinstance(order, Chain) else order.group if isinstance(order, Tree) else whole
    steps = _sequence(unit, depth)
    turn, count = np.empty(steps.size, np.int64), 0
    for part in _pieces(unit, steps.size):
        blocks = np.arange(part.size) // max(size, 1)
        turn[part] = count + blocks
        count += int(blocks[-1]) + 1 if part.size else 0
    found = np.empty(depth, np.int64)
    found[steps[steps < depth]] = turn[steps < depth]
    found.flags.writeable = False
    return found


def _sequence(unit: DotUnit, depth: int) -> NDArray[np.int64]:
    """The k of each step; those beyond K fill the last group."""
    if isinstance(unit.k_order, Sequence):
        return unit.k_order.indices(depth)
    if not unit.k_order:
        return np.arange(depth)
    size = len(unit.k_order)
    groups = np.arange(-(-depth // size) * size).reshape(-1, size)
    return groups[:, list(unit.k_order)].reshape(-1)


def _pieces(unit: DotUnit, depth: int) -> list[NDArray[np.int64]]:
    """The steps that are summed in one piece, in order: parts of splits, segments of promotion."""
    every = unit.promote_every or max(depth, 1)

    def segments(steps: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        return [steps[s : s + every] for s in range(0, steps.size, every)]

    def parts(steps: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        return [steps[p] for p in unit.split.members(steps.size)] if unit.split else [steps]

    steps = np.arange(depth)
    outer: Callable[..., Any] = segments
    inner: Callable[..., Any] = parts
    if unit.split is None or unit.split.scope == "k":
        outer, inner = parts, segments
    return [piece for part in outer(steps) for piece in inner(part)]


def _spread(size: int, most: int) -> NDArray[np.int64]:
    """Up to `most` evenly spaced indices below `size`, ascending."""
    count = min(size, most)
    return (2 * np.arange(count) + 1) * size // (2 * count) if count else np.arange(0)
