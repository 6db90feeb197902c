"""Summation trees as data: which terms of a dot product meet in which addition."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Union

#: The leaf that stands for C; the products are the leaves 0 .. K - 1.
C = -1


@dataclass(frozen=True)
class Node:
    """One addition of two or more terms.

    Attributes:
        children: leaves (k, or `C`) and nodes, by their smallest leaf: an addition commutes.
        exact: whether a small term survives where two large ones cancel in the same addition;
            with two children nothing shows which, and it is False.
    """

    children: tuple["Tree", ...]
    exact: bool = False


Tree = Union[Node, int]  # noqa: UP007, an alias that names a class defined above


def join(children: Sequence[Tree], exact: bool = False) -> Tree:
    """The node of these children in canonical order; a lone child is itself."""
    if len(children) == 1:
        return children[0]
    ordered = tuple(sorted(children, key=first_leaf))
    return Node(ordered, exact and len(ordered) > 2)


def first_leaf(tree: Tree) -> int:
    """The smallest leaf."""
    return tree if isinstance(tree, int) else first_leaf(tree.children[0])


def leaves(tree: Tree) -> list[int]:
    """All leaves, in the order of the printed tree."""
    if isinstance(tree, int):
        return [tree]
    return [leaf for child in tree.children for leaf in leaves(child)]


def nodes(tree: Tree) -> Iterator[Node]:
    """All additions, a node before its children's."""
    if isinstance(tree, Node):
        yield tree
        for child in tree.children:
            yield from nodes(child)


def show_tree(tree: Tree) -> str:
    """One line: (x y) is an addition; {x y z} one of several terms, [x y z] an exact one.

    Runs of leaves of one addition are shortened: {C 0..15}.
    """
    if isinstance(tree, int):
        return "C" if tree == C else str(tree)
    brackets = "[]" if tree.exact else "()" if len(tree.children) == 2 else "{}"
    return brackets[0] + " ".join(_runs(tree.children)) + brackets[1]


def _runs(children: Sequence[Tree]) -> Iterator[str]:
    """The children's texts, three or more consecutive k as first..last."""
    n = 0
    while n < len(children):
        child, end = children[n], n
        while isinstance(child, int) and end < len(children) and children[end] == child + end - n:
            end += 1
        if end - n > 2 and child != C:
            yield f"{child}..{children[end - 1]}"
            n = end
        else:
            yield show_tree(child)
            n += 1


def nested(tree: Tree) -> object:
    """The tree as nested lists for JSON; an exact addition is {"exact": [...]}."""
    if isinstance(tree, int):
        return "C" if tree == C else tree
    inner = [nested(child) for child in tree.children]
    return {"exact": inner} if tree.exact else inner


def absorbed(tree: Tree) -> dict[tuple[int, int], frozenset[int]]:
    """For leaves i < j: those lost if M stands at i, -M at j and little elsewhere.

    These are the leaves that meet M or -M before the two meet, and all others of the addition in
    which they do, unless that is exact.
    """
    out: dict[tuple[int, int], frozenset[int]] = {}
    for node in nodes(tree):
        parts = [frozenset(leaves(child)) for child in node.children]
        whole = frozenset().union(*parts)
        for n, left in enumerate(parts):
            for right in parts[n + 1 :]:
                lost = left | right if node.exact else whole
                for i in left:
                    for j in right:
                        out[min(i, j), max(i, j)] = lost - {i, j}
    return out
