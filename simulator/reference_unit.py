"""The exact twin of a dot unit: what surrounds an order, around its reference."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import reference
from .kernels.chain_random import random_step_reference
from .order import Chain, Exact, Fused, Integer, Sequence, SplitK, Tree, TwoStage

if TYPE_CHECKING:
    from .dot_unit import DotUnit


class Row(NamedTuple):
    """The operands of one output, each element with its scale, and where its random words are."""

    a: list[float]
    b: list[float]
    sa: list[float]
    sb: list[float]
    seed: int
    stream: int
    output: int
    words: int
    word: int

    def at(self, k: Any, word: int = 0) -> "Row":
        """The products of those k, with words from `word` on."""
        a, b, sa, sb = ([x[n] for n in k] for x in self[:4])
        return self._replace(a=a, b=b, sa=sa, sb=sb, word=self.word + word)

    def draw(self, k: int, bits: int) -> int:
        """The random integer of step k of a chain."""
        step = self.word + k
        return random_step_reference(self.seed, self.stream, self.output, step, self.words, bits)

    @property
    def first_word(self) -> int:
        """The Philox word of the first block of a fused order."""
        return self.output * _whole_words(self.words) + self.word


@dataclass(frozen=True)
class ReferenceUnit:
    """The exact twin of a unit: fractions, one output at a time."""

    unit: "DotUnit"

    def dot(
        self, a: Any, b: Any, c: Any = None, *, a_scale: Any = None, b_scale: Any = None,
        seed: int = 0, stream: int = 0,
    ) -> Any:  # fmt: skip
        """As `DotUnit.dot`, returning float64."""
        x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
        start = np.zeros(x.shape[:-1]) if c is None else np.asarray(c, np.float64)
        depth = x.shape[-1]
        scales = (self._expanded(s, x.shape) for s in (a_scale, b_scale))
        flat = [v.reshape(-1, depth) for v in (x, y, *scales)]
        words, out = self._words(depth), []
        for n, s in enumerate(start.reshape(-1).tolist()):
            p, q, sp, sq = (v[n].tolist() for v in flat)
            out.append(self._one(Row(p, q, sp, sq, seed, stream, n, words, 0), s))
        return np.array(out).reshape(start.shape)

    def matmul(
        self, a: Any, b: Any, c: Any = None, *, a_scale: Any = None, b_scale: Any = None,
        seed: int = 0, stream: int = 0,
    ) -> Any:  # fmt: skip
        """As `DotUnit.matmul`, returning float64."""
        rows, columns = np.asarray(a).shape[-2], np.asarray(b).shape[-1]

        def left(x: Any) -> Any:
            x = np.asarray(x, np.float64)[..., :, None, :]
            return np.broadcast_to(x, (*x.shape[:-2], columns, x.shape[-1]))

        def right(y: Any) -> Any:
            y = np.asarray(y, np.float64).swapaxes(-1, -2)[..., None, :, :]
            return np.broadcast_to(y, (*y.shape[:-3], rows, *y.shape[-2:]))

        return self.dot(
            left(a), right(b), c, seed=seed, stream=stream,
            a_scale=None if a_scale is None else left(a_scale),
            b_scale=None if b_scale is None else right(b_scale),
        )  # fmt: skip

    def _expanded(self, scale: Any, shape: tuple[int, ...]) -> Any:
        """The magnitude of each element's scale; 1 where there is none."""
        if scale is None or self.unit.scale is None:
            return np.ones(shape)
        each = np.repeat(np.abs(np.asarray(scale, np.float64)), self.unit.scale.block, axis=-1)
        return each[..., : shape[-1]]

    def _one(self, row: Row, c: float) -> float:
        """The k order, then split-K or not."""
        unit, depth = self.unit, len(row.a)
        if isinstance(unit.k_order, Sequence):
            row = row.at([int(k) for k in unit.k_order.indices(depth)])
        elif unit.k_order:
            size = len(unit.k_order)
            padding = [0.0] * (-depth % size)
            row = row._replace(a=row.a + padding, b=row.b + padding, sa=row.sa + padding,
                               sb=row.sb + padding)  # fmt: skip
            row = row.at([s + k for s in range(0, len(row.a), size) for k in unit.k_order])
        if unit.split and unit.split.scope == "k":
            return self._parts(row, c, unit.split, self._segments, self._segment_words)
        return self._segments(row, c)

    def _segments(self, row: Row, c: float) -> float:
        """Each segment from +0 and added to the outer accumulator; or c as the start."""
        unit, outer, depth = self.unit, self.unit.promotion, len(row.a)
        if outer is None:
            return self._inner(row, c)
        every = unit.promote_every or depth
        for n, k in enumerate(range(0, depth, every)):
            part = row.at(range(k, min(k + every, depth)), n * self._inner_words(every))
            if unit.split and unit.split.scope == "promotion":
                t = self._parts(part, 0.0, unit.split, self._inner, _whole_words)
            else:
                t = self._inner(part, 0.0)
            c = reference.add(c, t, outer.result, outer.accumulate, outer.flush)
        return c

    def _parts(
        self, row: Row, c: float, split: SplitK, run: Callable[[Row, float], float],
        words: Callable[[int], int],
    ) -> float:  # fmt: skip
        """The parts of K summed apart, then combined by rounded additions."""
        step = split.step

        def plus(x: float, y: float) -> float:
            return reference.add(x, y, step.result, step.accumulate, step.flush)

        members = _members(split, len(row.a))
        span = words(max(len(k) for k in members))
        starts = [c if p == 0 and split.c == "first" else 0.0 for p in range(split.parts)]
        parts = [run(row.at(k, p * span), starts[p]) for p, k in enumerate(members)]
        if split.combine == "pairwise":
            while len(parts) > 1:
                pairs = [parts[n : n + 2] for n in range(0, len(parts), 2)]
                parts = [plus(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
            total = parts[0]
        else:
            order = split.arrival()
            total = parts[order[0]]
            for p in order[1:]:
                total = plus(total, parts[p])
        return total if split.c == "first" else plus(c, total)

    def _words(self, depth: int) -> int:
        """Random words of one output; pieces that are summed alone begin at multiples of 4."""
        unit = self.unit
        if isinstance(unit.k_order, tuple) and unit.k_order:
            depth += -depth % len(unit.k_order)
        if unit.split and unit.split.scope == "k":
            longest = max(len(k) for k in _members(unit.split, depth))
            return unit.split.parts * self._segment_words(longest)
        return self._segment_words(depth)

    def _segment_words(self, depth: int) -> int:
        every = self.unit.promote_every
        if every is None:
            return self._inner_words(depth)
        return depth // every * self._inner_words(every) + self._inner_words(depth % every)

    def _inner_words(self, depth: int) -> int:
        split = self.unit.split
        if split and split.scope == "promotion":
            return split.parts * _whole_words(max(len(k) for k in _members(split, depth)))
        return _whole_words(depth)

    def _inner(self, row: Row, c: float) -> float:
        unit, order = self.unit, self.unit.order
        inputs = unit.a, unit.b
        a, b, sa, sb = row[:4]
        match order:
            case Fused():
                place = row.seed, row.stream, row.first_word
                return reference.fused(a, b, c, order, inputs, (sa, sb), *place)
            case TwoStage():
                return reference.two_stage(a, b, c, order, inputs)
            case Tree():
                return reference.tree(a, b, c, order, inputs)
            case Chain():
                return reference.chain(a, b, c, order, row.draw)
            case Exact():
                return reference.exact(a, b, c, order)
            case Integer():
                return reference.integer(a, b, c, order)


def _whole_words(depth: int) -> int:
    """`depth` up to a multiple of 4."""
    return (depth + 3) // 4 * 4


def _members(split: SplitK, depth: int) -> list[list[int]]:
    """The k of each part."""
    if split.pattern == "interleaved":
        parts: list[list[int]] = [[] for _ in range(split.parts)]
        for k in range(depth):
            parts[k // split.chunk % split.parts].append(k)
        return parts
    length = split.chunk
    while length * split.parts < depth:
        length += split.chunk
    return [list(range(min(p * length, depth), min((p + 1) * length, depth)))
            for p in range(split.parts)]  # fmt: skip
