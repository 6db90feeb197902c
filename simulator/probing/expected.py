"""The summation tree that a unit's row says it has: what the probe must find."""

from collections.abc import Callable, Sequence

from ...formats import InputError
from ..dot_unit import DotUnit
from ..order import Chain, Exact, Fused, SplitK, Tree, TwoStage
from ..order import Sequence as KSequence
from . import node
from .node import C, join

#: A partial sum: a tree, or None for a +0 that no product has joined.
Part = node.Tree | None


def tree_of(unit: DotUnit, depth: int, with_c: bool = True) -> node.Tree:
    """The tree of D = A B + C of `depth` products; without C, that of C = 0.

    Raises:
        InputError: the order adds integers, which have no tree.
    """
    start = C if with_c else None
    k = _sequence(unit, depth)
    if unit.split and unit.split.scope == "k":
        found = _parts(unit.split, k, start, lambda part, c: _segments(unit, part, c))
    else:
        found = _segments(unit, k, start)
    if found is None:
        raise InputError("a sum of no products and no C has no tree")
    return found


def _sequence(unit: DotUnit, depth: int) -> list[int | None]:
    """The k of each step; None is padding of a ragged last group."""
    if isinstance(unit.k_order, KSequence):
        return [int(k) for k in unit.k_order.indices(depth)]
    size = len(unit.k_order) or 1
    order = unit.k_order or (0,)
    steps = [s + k for s in range(0, depth, size) for k in order]
    return [k if k < depth else None for k in steps]


def _plus(parts: Sequence[Part], exact: bool = False) -> Part:
    there = [part for part in parts if part is not None]
    return join(there, exact) if there else None


def _segments(unit: DotUnit, k: Sequence[int | None], c: Part) -> Part:
    if unit.promote_every is None:
        return _inner(unit, k, c)
    for n in range(0, len(k), unit.promote_every):
        part = k[n : n + unit.promote_every]
        if unit.split and unit.split.scope == "promotion":
            total = _parts(unit.split, part, None, lambda steps, s: _inner(unit, steps, s))
        else:
            total = _inner(unit, part, None)
        c = _plus([c, total])
    return c


def _parts(
    split: SplitK, k: Sequence[int | None], c: Part,
    run: Callable[[Sequence[int | None], Part], Part],
) -> Part:  # fmt: skip
    starts = [c if p == 0 and split.c == "first" else None for p in range(split.parts)]
    members = split.members(len(k))
    parts = [run([k[m] for m in part], starts[p]) for p, part in enumerate(members)]
    if split.combine == "pairwise":
        while len(parts) > 1:
            parts = [_plus(parts[n : n + 2]) for n in range(0, len(parts), 2)]
        total = parts[0]
    else:
        total = None
        for p in split.arrival():
            total = _plus([total, parts[p]])
    return total if split.c == "first" else _plus([c, total])


def _inner(unit: DotUnit, k: Sequence[int | None], c: Part) -> Part:
    match unit.order:
        case Chain(lanes=lanes):
            return _chain(k, c, lanes)
        case Fused(block=block) | TwoStage(block=block):  # C is aligned to the products, too
            return _blocks(k, c, block)
        case Exact(block=block):
            return _blocks(k, c, block or max(len(k), 1), exact=True)
        case Tree(group=group, leaf=leaf):
            for n in range(0, len(k), group):
                c = _plus([c, _pairwise(k[n : n + group], group, leaf)])
            return c
    raise InputError("sums of integers are exact and have no tree")


def _chain(k: Sequence[int | None], c: Part, lanes: int) -> Part:
    sums: list[Part] = [c if lanes == 1 else None] + [None] * (lanes - 1)
    for n, step in enumerate(k):
        sums[n % lanes] = _plus([sums[n % lanes], step])
    total: Part = None
    for lane in sums:
        total = _plus([total, lane])
    return total if lanes == 1 else _plus([c, total])


def _blocks(k: Sequence[int | None], c: Part, block: int, exact: bool = False) -> Part:
    for n in range(0, len(k), block):
        c = _plus([c, *k[n : n + block]], exact)
    return c


def _pairwise(k: Sequence[int | None], group: int, leaf: int) -> Part:
    level = [_plus(k[n : n + leaf], exact=True) for n in range(0, group, leaf)]
    while len(level) > 1:
        level = [_plus(level[n : n + 2]) for n in range(0, len(level), 2)]
    return level[0]
