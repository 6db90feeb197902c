"""The summation tree of a dot product, from its outputs alone.

FPRev (arXiv 2411.00442): M at i, -M at j and units elsewhere; the sum counts the units that M did
not swallow, and L_ij = n - sum is the size of the smallest subtree that holds i and j. Counts need
an accumulator that holds n units and lets M + unit = M on either sign of M. Directed or stochastic
rounding, few bits and exact multi-term sums break that; then one unit at a time shows, for every
(i, j, k), whether k is swallowed, which needs neither.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, groupby
from typing import NamedTuple

import numpy as np

from ...formats import InputError
from .masks import Bench, Mask, choose_mask, counted_units, single_units
from .node import Node, Tree, absorbed, join, leaves
from .target import Target

MAX_DEPTH = 128
#: Triples by which a tree from counts is checked.
CHECKED = 2048


class Inconsistent(Exception):
    """No tree has these counts."""


class Meeting(NamedTuple):
    """The addition in which two leaves meet: its number of leaves, an identity, its kind."""

    size: int
    identity: int
    exact: bool


#: Where each of the leaves of a list meets the first argument.
Meet = Callable[[int, list[int]], list[Meeting]]


@dataclass(frozen=True)
class Revealed:
    """What the masks showed.

    Attributes:
        depth: K.
        tree: whose leaves are the products and, where the target takes it, C.
        mask: M and the unit.
        method: "counts" (FPRev's), or "single units".
        outputs: dot products that were asked for.
        checked, differ: triples (i, j, k) whose absorption was compared with the tree's, and how
            many are otherwise: then no tree explains the target.
    """

    depth: int
    tree: Tree
    mask: Mask
    method: str
    outputs: int
    checked: int
    differ: int


def reveal(target: Target, depth: int, method: str | None = None) -> Revealed:
    """The tree of a sum of `depth` products; `method` forces one of the two.

    Raises:
        InputError: K out of range, or masks that do not work on the target's formats.
    """
    if not 1 <= depth <= MAX_DEPTH:
        raise InputError(f"K = {depth} is not one of 1 to {MAX_DEPTH}")
    bench = Bench(target, depth)
    places = bench.places
    mask = choose_mask(bench)
    if len(places) < 3:
        return Revealed(depth, join(places), mask, "counts", 0, 0, 0)
    if mask.absorbs and method != "single units":
        found = _by_counts(bench, mask)
        if found is not None and (found.differ == 0 or method == "counts"):
            return found
    return _by_single_units(bench, mask)


def _by_counts(bench: Bench, mask: Mask) -> Revealed | None:
    """FPRev, refined; None if the counts contradict each other."""
    asked, n = CHECKED, len(bench.places)

    def meet(first: int, rest: list[int]) -> list[Meeting]:
        nonlocal asked
        asked += len(rest)
        left = counted_units(bench, mask, [(first, j) for j in rest])
        if not np.isin(left, np.arange(n - 1)).all():
            raise Inconsistent
        return [Meeting(n - int(count), n - int(count), False) for count in left]

    try:
        tree = _construct(bench.places, meet)[0]
    except Inconsistent:
        return None
    lost, places = absorbed(tree), bench.places
    rng = np.random.default_rng(n)
    triples = [tuple(places[m] for m in rng.choice(n, 3, replace=False)) for _ in range(CHECKED)]
    wanted = [k in lost[min(i, j), max(i, j)] for i, j, k in triples]
    differ = int((single_units(bench, mask, triples) != np.array(wanted)).sum())
    return Revealed(bench.depth, tree, mask, "counts", asked, CHECKED, differ)


def _by_single_units(bench: Bench, mask: Mask) -> Revealed:
    """From S_ij, the leaves swallowed with M at i and -M at j, each a set of bits."""
    places = bench.places
    place = {k: n for n, k in enumerate(places)}
    triples = [(i, j, k) for i, j in combinations(places, 2) for k in places if k not in (i, j)]
    lost = single_units(bench, mask, triples).tolist()
    table = [[0] * len(places) for _ in places]
    for (i, j, k), gone in zip(triples, lost, strict=True):
        table[place[i]][place[j]] |= gone << place[k]
        table[place[j]][place[i]] = table[place[i]][place[j]]

    def meet(first: int, rest: list[int]) -> list[Meeting]:
        out = []
        for i, j in ((place[first], place[k]) for k in rest):
            node = _smallest_node(table, i, j)
            exact = table[i][j] | 1 << i | 1 << j != node
            out.append(Meeting(node.bit_count(), node, exact))
        return out

    try:
        tree = _construct(places, meet)[0]
    except Inconsistent:
        tree = join(places)
    wanted = absorbed(tree)
    differ = sum(
        (k in wanted[min(i, j), max(i, j)]) != gone
        for (i, j, k), gone in zip(triples, lost, strict=True)
    )
    return Revealed(bench.depth, tree, mask, "single units", len(triples), len(triples), differ)


def _construct(group: list[int], meet: Meet) -> tuple[Tree, int]:
    """The tree over `group`, and the identity of its root's addition.

    The first leaf's path to the root passes additions of growing size; the leaves that meet it in
    the same one form a group. A group hangs on that path as a subtree, unless its own root is the
    very addition it hangs on: then both are parts of one multi-term addition, and the group's root
    has more leaves than the group.
    """
    first, rest = group[0], group[1:]
    tree: Tree = first
    identity = size = 0
    found = dict(zip(rest, meet(first, rest), strict=True)) if rest else {}
    ordered = sorted(rest, key=lambda j: (found[j], j))
    for meeting, members in groupby(ordered, lambda j: found[j]):
        part, root = _construct(list(members), meet)
        identity = meeting.identity
        siblings = part.children if root == identity and isinstance(part, Node) else (part,)
        if size not in (0, len(leaves(tree))):
            raise Inconsistent
        tree, size = join([tree, *siblings], meeting.exact), meeting.size
    return tree, identity


def _smallest_node(table: list[list[int]], i: int, j: int) -> int:
    """The leaves of the addition where i and j meet.

    X is a node's leaves if and only if S_ij lies in X for all i, j in X, and X - {i} lies in S_ij
    for all i in X and j outside. Growing {i, j} by what violates either ends in the smallest.
    """
    everything = (1 << len(table)) - 1
    node = (1 << i) | (1 << j) | table[i][j]
    while True:
        inner = [k for k in range(len(table)) if node >> k & 1]
        outer = [k for k in range(len(table)) if not node >> k & 1]
        grown = node
        for x in inner:
            for y in inner:
                grown |= table[x][y] if x != y else 0
            for y in outer:
                if (node & ~(1 << x)) & ~table[x][y]:
                    grown |= 1 << y
        if grown in (node, everything):
            return grown
        node = grown
