"""The datapath of a matrix unit as data: its stages from operands to result, what comes back.

Every number in it is the row's. `stages.py` has a function for each family of accumulation orders,
`drawing.py` makes boxes and arrows of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from .order import Addition, Promotion, Sequence, SplitK


@dataclass(frozen=True)
class Stage:
    """A box: what is done, and the facts about it, a line each."""

    name: str
    facts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A value that enters stage `at` from the side: `start` first, then what leaves stage `after`.

    `after` is None where nothing comes back; `back` says when the result does.
    """

    at: int
    start: str
    after: int | None = None
    back: str = ""


@dataclass(frozen=True)
class Datapath:
    """Operands in, stages in order, side entries, and the result."""

    operands: tuple[str, str]
    stages: tuple[Stage, ...]
    entries: tuple[Entry, ...]
    result: str


def _from_zero(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """C does not enter here: +0 takes its place."""
    return tuple(
        Entry(e.at, "+0", e.after, e.back) if e.start.startswith("C,") else e for e in entries
    )


def _adds(row: Addition) -> tuple[str, ...]:
    flush = ("subnormals become zeros",) if row.flush else ()
    return (f"rounded, {row.rounding} to {row.accumulator}", *flush)


def add_promotion(path: Datapath, promotion: Promotion) -> Datapath:
    """The inner sum restarts from +0; an outer accumulator takes it every so many products."""
    every, acc, last = promotion.every, promotion.accumulator, len(path.stages)
    add = Stage("PROMOTE", (f"C + inner sum, every {every} products", *_adds(promotion)))
    entry = Entry(last, f"C, {acc}", last, f"for the next {every}, the inner sum at +0 again")
    entries = (*_from_zero(path.entries), entry)
    return Datapath(path.operands, (*path.stages, add), entries, f"D, {acc}")


def add_split(path: Datapath, split: SplitK) -> Datapath:
    """K dealt to parts before everything inside; their sums combined after it."""
    parts, acc = split.parts, split.accumulator
    runs = "runs" if split.chunk == 1 else f"runs of whole {split.chunk}s"
    dealt = "k" if split.chunk == 1 else f"floor(k / {split.chunk})"
    deal = {
        "contiguous": f"part p takes the p-th of {parts} {runs} of k",
        "interleaved": f"part = {dealt} mod {parts}",
    }[split.pattern]
    first = split.c == "first" and any(e.start.startswith("C,") for e in path.entries)
    inner = path.entries if first else _from_zero(path.entries)
    order = f"permutation of seed {split.seed}" if split.combine == "permutation" else split.combine
    stages = [*path.stages, Stage(f"COMBINE {parts} PARTS", (order, *_adds(split)))]
    entries = list(inner)
    if first:
        entries = [
            Entry(e.at, f"{e.start}, in part 0; +0 in others", e.after, e.back)
            if e.start.startswith("C,")
            else e
            for e in inner
        ]
    else:
        stages.append(Stage("ADD C", _adds(split)))
        entries.append(Entry(len(stages) - 1, f"C, {acc}"))
    whole = Datapath(path.operands, tuple(stages), tuple(entries), f"D, {acc}")
    return _before(whole, Stage(f"SPLIT K IN {parts}", (deal,)))


def add_order(path: Datapath, order: tuple[int, ...] | Sequence) -> Datapath:
    """Products are permuted before anything is summed."""
    if isinstance(order, Sequence):
        return _before(path, Stage("ORDER OF K", (str(order),)))
    shown = ", ".join(str(k) for k in order[:10]) + (", ..." if len(order) > 10 else "")
    stage = Stage(f"ORDER OF K, IN EACH {len(order)}", (f"takes k = {shown}",))
    return _before(path, stage)


def _before(path: Datapath, stage: Stage) -> Datapath:
    """The path with one stage more at its head."""
    entries = tuple(
        Entry(e.at + 1, e.start, None if e.after is None else e.after + 1, e.back)
        for e in path.entries
    )
    return Datapath(path.operands, (stage, *path.stages), entries, path.result)
