"""A tree as the orders that a chip's row can state: which row has this very tree."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...formats import get_format
from ...formats.errors import InputError
from ...formats.format import FloatFormat
from ..dot_unit import DotUnit
from ..order import Chain, Exact, Fused, Order, SplitK
from ..order import Sequence as KSequence
from ..order import Tree as TreeOrder
from .expected import tree_of
from .node import C, Node, Tree, leaves, nodes

_ACCUMULATOR = "float32"


@dataclass(frozen=True)
class Structure:
    """An order and what surrounds it, as a row states them; widths and roundings are not its own.

    Attributes:
        order: the family and its lengths, as keys of the row's `dot`.
        k_order, promote_every, split: as in a `MatrixUnit`, None where there is none.
    """

    order: dict[str, Any]
    k_order: tuple[int, ...] | KSequence = ()
    promote_every: int | None = None
    split: SplitK | None = None

    @property
    def unit(self) -> DotUnit:
        """A unit of this structure, with widths that do not matter."""
        fmt = get_format(_ACCUMULATOR)
        assert isinstance(fmt, FloatFormat)
        step = Chain(order="chain", accumulator=_ACCUMULATOR)
        return DotUnit(
            fmt, fmt, fmt, _row(self.order), self.promote_every,
            step if self.promote_every else None, self.k_order, self.split,
        )  # fmt: skip

    def describe(self) -> str:
        """One line: the family, its lengths, and what surrounds it."""
        sizes = self.order
        text = {
            "chain": "a chain" if sizes.get("lanes", 1) == 1
            else f"{sizes.get('lanes')} interleaved lanes of chains, added up at the end, then C",
            "fused": f"blocks of {sizes.get('block')} fused with C",
            "exact": f"exact sums of {sizes.get('block') or 'all'} products and C",
            "tree": f"a pairwise tree of {sizes.get('group')} products"
            + (f", {sizes.get('leaf')} to a leaf," if sizes.get("leaf", 1) > 1 else "") + " then C",
        }[sizes["order"]]  # fmt: skip
        if isinstance(self.k_order, KSequence):
            text += f", k {self.k_order}"
        elif self.k_order:
            text += f", k in the order {list(self.k_order)} of each {len(self.k_order)}"
        else:
            text += ", k ascending"
        if self.promote_every:
            text += f"; every {self.promote_every} products promoted to an outer sum that C starts"
        return text + (f"; {self.split.describe()}" if self.split else "")


def _row(order: dict[str, Any]) -> Order:
    kinds: dict[str, Any] = {"chain": Chain, "fused": Fused, "exact": Exact, "tree": TreeOrder}
    widths: dict[str, Any] = {"accumulator": _ACCUMULATOR}
    if order["order"] == "fused":
        widths |= {"fraction_bits": 24, "min_exponent": -133}
    row: Order = kinds[order["order"]].model_validate(order | widths)
    return row


def find_structure(tree: Tree, depth: int, with_c: bool) -> Structure | None:
    """The simplest structure that has this tree; None if no order family states it.

    Tried in turn: the order alone, with the order of k that the tree shows, with promotion, with
    both, with split-K. An order that shows only beyond `depth` products cannot be told apart from
    a simpler one: a block longer than K reads as one of K.
    """
    return next(
        (found for found in _candidates(tree, depth) if _same(found, tree, depth, with_c)), None
    )


def _same(structure: Structure, tree: Tree, depth: int, with_c: bool) -> bool:
    try:
        return tree_of(structure.unit, depth, with_c) == tree
    except InputError:  # a block that the row refuses
        return False


def _candidates(tree: Tree, depth: int) -> Iterator[Structure]:
    """All structures worth a comparison, the simplest first."""
    orders = list(_orders(tree, depth))
    parts = {frozenset(k for k in leaves(node) if k != C) for node in nodes(tree)}
    parts |= {frozenset((k,)) for k in range(depth)}
    sequences = [(), *_sequences(tree, depth)]
    for sequence in sequences:
        for order in orders:
            yield Structure(order, sequence)
    for sequence in sequences:
        k = _steps(sequence, depth)
        for every in range(1, depth + 1):
            if frozenset(k[:every]) in parts:
                for order in orders:
                    yield Structure(order, sequence, every)
    for split in _splits(depth, parts):
        for order in orders:
            yield Structure(order, split=split)


def _orders(tree: Tree, depth: int) -> Iterator[dict[str, Any]]:
    """Families whose kind of addition is in the tree, with every length."""
    wide = [node for node in nodes(tree) if len(node.children) > 2]
    if any(not node.exact for node in wide):
        for block in range(4, depth + 4, 4):
            yield {"order": "fused", "block": block}
        return
    if not wide:
        for lanes in range(1, depth + 1):
            yield {"order": "chain"} | ({"lanes": lanes} if lanes > 1 else {})
    else:
        for size in range(2, depth):
            yield {"order": "exact", "block": size}
        yield {"order": "exact"}
    group = 2
    while group < 2 * depth:
        leaf = 1
        while leaf <= group:
            yield {"order": "tree", "group": group} | ({"leaf": leaf} if leaf > 1 else {})
            leaf *= 2
        group *= 2


def _steps(sequence: tuple[int, ...] | KSequence, depth: int) -> list[int]:
    if isinstance(sequence, KSequence):
        return [int(k) for k in sequence.indices(depth)]
    order = sequence or (0,)
    steps = (s + k for s in range(0, depth, len(order)) for k in order)
    return [k for k in steps if k < depth]


def _sequences(tree: Tree, depth: int) -> Iterator[tuple[int, ...] | KSequence]:
    """The order of k in which the tree adds, by name, or as the shortest repeated permutation."""
    found = [k for k in _in_time(tree) if k != C]
    if found == sorted(found):
        return
    periods: list[tuple[int, ...]] = []
    named = [KSequence(name="descending")]
    named += [KSequence(name="interleaved", stride=s) for s in range(2, depth)]
    # Without C the first two products commute: either may have come first.
    for times in (found, [*found[1::-1], *found[2:]]):
        yield from (sequence for sequence in named if _steps(sequence, depth) == times)
        for size in range(2, depth + 1):
            order = tuple(times[:size])
            if sorted(order) == list(range(size)) and _steps(order, depth) == times:
                periods.append(order)
                break
    yield from sorted(periods, key=len)


def _in_time(tree: Tree) -> list[int]:
    """Leaves by when they join: what was summed before, then the terms of an addition."""
    if isinstance(tree, int):
        return [tree]
    before = [child for child in tree.children if isinstance(child, Node)]
    before.sort(key=lambda child: (C not in leaves(child), -_height(child)))
    own = [child for child in tree.children if isinstance(child, int)]
    return [leaf for child in before for leaf in _in_time(child)] + own


def _height(tree: Tree) -> int:
    return 1 + max(map(_height, tree.children)) if isinstance(tree, Node) else 0


def _splits(depth: int, parts: set[frozenset[int]]) -> Iterator[SplitK]:
    """Splits of K whose first part is summed on its own in the tree."""
    shapes = [("contiguous", 1)] + [("interleaved", 1 << n) for n in range(6)]
    for count in range(2, depth + 1):
        for pattern, chunk in shapes:
            for combine in ("ascending", "pairwise"):
                for c in ("first", "last"):
                    split = SplitK.model_validate({
                        "parts": count, "pattern": pattern, "chunk": chunk, "combine": combine,
                        "c": c, "accumulator": _ACCUMULATOR,
                    })  # fmt: skip
                    members = [frozenset(part.tolist()) for part in split.members(depth)]
                    if all(part in parts for part in members if part):
                        yield split
