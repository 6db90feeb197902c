"""What surrounds an order: the sequence of k, promotion and split-K, each around the next."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..order import Chain, Exact, Fused, Integer, Sequence, SplitK, Tree, TwoStage
from .chain import add, run_chain
from .exact import run_exact
from .fused import run_fused
from .grouped import run_grouped
from .integer import run_integer
from .layout import Operands, Place, Sums, extended
from .tree import run_tree
from .two_stage import run_two_stage

if TYPE_CHECKING:
    from ..dot_unit import DotUnit

_RUN: dict[type, Callable[..., Sums]] = {
    Chain: run_chain,
    Exact: run_exact,
    Integer: run_integer,
    Tree: run_tree,
    TwoStage: run_two_stage,
}


class Engine(Protocol):
    """Who computes a piece: the host on arrays, or a device on tensors."""

    def summed(self, unit: "DotUnit", x: Operands, c: Any, place: Place) -> Any:
        """The order's sum of one piece, from `c` on, which may be overwritten."""

    def plus(self, x: Any, y: Any, step: Chain) -> Any:
        """round(x + y), as an outer accumulator adds."""

    def zeros_like(self, c: Any) -> Any:
        """Starts from +0."""


class Host:
    """numba's kernels, on arrays."""

    def summed(self, unit: "DotUnit", x: Operands, c: Sums, place: Place) -> Sums:
        """By the kernel of the order."""
        order, formats = unit.order, (unit.a, unit.b)
        if isinstance(order, Fused):
            fused = run_fused if order.group is None else run_grouped
            return fused(order, x.a, x.b, c, formats, place, x.scales)
        return _RUN[type(order)](order, x.a, x.b, c, formats, place)

    def plus(self, x: Sums, y: Sums, step: Chain) -> Sums:
        """In float64."""
        return add(x.astype(np.float64, copy=False), y.astype(np.float64, copy=False), step)

    def zeros_like(self, c: Sums) -> Sums:
        """+0."""
        return np.zeros_like(c)


HOST = Host()


def run_unit(unit: "DotUnit", x: Operands, c: Any, place: Place, engine: Engine = HOST) -> Any:
    """D = A B + C; `c` is overwritten or returned. `place` is where its random words begin."""
    x = in_sequence(unit.k_order, x)
    place = place._replace(k_first=0, k_all=words(unit, x.depth))
    if unit.split and unit.split.scope == "k":
        return _split(unit.split, _promoted, unit, x, c, place, engine)
    return _promoted(unit, x, c, place, engine)


def in_sequence(k_order: tuple[int, ...] | Sequence, x: Operands) -> Operands:
    """The products in the unit's k order; a ragged last group is filled with zeros."""
    if isinstance(k_order, Sequence):
        return x if k_order.name == "ascending" else x.at(k_order.indices(x.depth))
    if not k_order:
        return x
    short = -x.depth % len(k_order)
    a, b = (extended(v, axis, short) for v, axis in ((x.a, 2), (x.b, 1)))
    groups = np.arange(a.shape[2]).reshape(-1, len(k_order))
    return Operands(a, b).at(groups[:, list(k_order)].reshape(-1))


def _promoted(unit: "DotUnit", x: Operands, c: Any, place: Place, engine: Engine) -> Any:
    """Segments from +0, each added to the outer accumulator; or C as the inner sum's start."""
    if unit.promotion is None:
        return engine.summed(unit, x, c, place)
    every = unit.promote_every or x.depth
    for k in range(0, x.depth, every):
        part, zero = x.at(slice(k, min(k + every, x.depth))), engine.zeros_like(c)
        here = place._replace(k_first=place.k_first + k // every * _inner_words(unit, every))
        if unit.split and unit.split.scope == "promotion":
            inner = _split(unit.split, _summed, unit, part, zero, here, engine)
        else:
            inner = engine.summed(unit, part, zero, here)
        c = engine.plus(c, inner, unit.promotion)
    return c


def _summed(unit: "DotUnit", x: Operands, c: Any, place: Place, engine: Engine) -> Any:
    return engine.summed(unit, x, c, place)


def _split(
    split: SplitK, run: Callable[..., Any], unit: "DotUnit", x: Operands, c: Any, place: Place,
    engine: Engine,
) -> Any:  # fmt: skip
    """Each part by `run`, then their combination."""
    members, span = split.members(x.depth), _part_words(unit, split, x.depth)

    def part(p: int) -> Any:
        start = c if p == 0 and split.c == "first" else engine.zeros_like(c)
        here = place._replace(k_first=place.k_first + p * span)
        return run(unit, x.at(_sliced(members[p])), start, here, engine)

    if split.combine == "pairwise":
        total = _in_pairs(part, split, engine)
    else:
        first, *others = split.arrival()
        total = part(first)
        for p in others:
            total = engine.plus(total, part(p), split.step)
    return total if split.c == "first" else engine.plus(c, total, split.step)


def _in_pairs(part: Callable[[int], Any], split: SplitK, engine: Engine) -> Any:
    """Neighbours in pairs, an odd one left over going up a level; few sums are held at a time."""
    stack: list[Any] = []
    for p in range(split.parts):
        stack.append(part(p))
        done = p + 1
        while done % 2 == 0:
            right = stack.pop()
            stack[-1] = engine.plus(stack[-1], right, split.step)
            done //= 2
    while len(stack) > 1:
        right = stack.pop()
        stack[-1] = engine.plus(stack[-1], right, split.step)
    return stack[0]


def _sliced(k: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """Neighbouring k as a slice, which copies nothing."""
    if k.size == 0:
        return slice(0, 0)
    if k[-1] - k[0] == k.size - 1:
        return slice(int(k[0]), int(k[-1]) + 1)
    return k


def words(unit: "DotUnit", depth: int) -> int:
    """Random words that a dot product of that many products has for its own, if it rounds so.

    The k-th product of what is summed in one piece takes the k-th word; pieces begin at
    multiples of 4.
    """
    if unit.split and unit.split.scope == "k":
        return unit.split.parts * _part_words(unit, unit.split, depth)
    return _promoted_words(unit, depth)


def _promoted_words(unit: "DotUnit", depth: int) -> int:
    if unit.promotion is None or unit.promote_every is None:
        return -(-depth // 4) * 4
    whole, rest = divmod(depth, unit.promote_every)
    return whole * _inner_words(unit, unit.promote_every) + _inner_words(unit, rest)


def _inner_words(unit: "DotUnit", depth: int) -> int:
    if unit.split and unit.split.scope == "promotion":
        return unit.split.parts * _part_words(unit, unit.split, depth)
    return -(-depth // 4) * 4


def _part_words(unit: "DotUnit", split: SplitK, depth: int) -> int:
    """Of the longest part."""
    longest = max((k.size for k in split.members(depth)), default=0)
    return _promoted_words(unit, longest) if split.scope == "k" else -(-longest // 4) * 4
