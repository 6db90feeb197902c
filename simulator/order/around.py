"""What surrounds an order: the sequence of k, promotion, and split-K."""

from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from ...formats.errors import InputError, choice
from ...formats.random import random_word_reference
from ..tables import Row
from .chain import Chain

SEQUENCES = ("ascending", "descending", "interleaved", "permutation")


def permutation(count: int, seed: int) -> NDArray[np.int64]:
    """0 .. count - 1 sorted by the Philox words of (seed, stream = count): the same everywhere."""
    words = [random_word_reference(seed, count, index) for index in range(count)]
    return np.argsort(np.array(words, np.uint64), kind="stable").astype(np.int64)


class Sequence(Row):
    """A named order of k, over the whole of K.

    Attributes:
        name: "ascending"; "descending"; "interleaved": k = 0, stride, 2 stride, ..., then
            1, 1 + stride, ...; "permutation": a random one, fixed by `seed` and K.
    """

    name: Literal["ascending", "descending", "interleaved", "permutation"]
    stride: int | None = Field(default=None, ge=1)
    seed: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _complete(self) -> "Sequence":
        if (self.stride is not None) != (self.name == "interleaved"):
            raise InputError('stride goes with k_order name = "interleaved", and only with it')
        if (self.seed is not None) != (self.name == "permutation"):
            raise InputError('seed goes with k_order name = "permutation", and only with it')
        return self

    def indices(self, depth: int) -> NDArray[np.int64]:
        """The k of each step."""
        k = np.arange(depth)
        match self.name:
            case "descending":
                return k[::-1]
            case "interleaved":
                return np.argsort(k % (self.stride or 1), kind="stable")
            case "permutation":
                return permutation(depth, self.seed or 0)
        return k

    def __str__(self) -> str:
        detail = {"interleaved": f" by {self.stride}", "permutation": f" of seed {self.seed}"}
        return self.name + detail.get(self.name, "")


def _sequence(value: Any) -> Any:
    """A name or a table as a `Sequence`; a list is a permutation within each len(list)."""
    if isinstance(value, str):
        return Sequence.model_validate({"name": choice(value, SEQUENCES, "k_order")})
    return Sequence.model_validate(value) if isinstance(value, dict) else value


#: "descending", { name = "interleaved", stride = 8 }, or a permutation of each group of k.
KOrder = Annotated[tuple[int, ...] | Sequence, BeforeValidator(_sequence)]


class Addition(Row):
    """An addition of an outer accumulator, deterministic."""

    accumulator: str
    rounding: str = "nearest_even"
    flush: bool = False

    @cached_property
    def step(self) -> Chain:
        """The addition, as the chain step it is."""
        return Chain(
            order="chain", accumulator=self.accumulator, rounding=self.rounding, flush=self.flush
        )

    @model_validator(mode="after")
    def _supported(self) -> "Addition":
        self.step  # noqa: B018, as the check it is
        return self


class Promotion(Addition):
    """The outer accumulator: every `every` products the inner sum is added to it."""

    every: int = Field(ge=1)


class SplitK(Addition):
    """K in parts, each summed by the unit on its own, then combined by rounded additions.

    Attributes:
        parts: how many; parts that find no k left are +0.
        pattern: "contiguous": part p takes the p-th run of ceil(K / parts) products, rounded up
            to a multiple of `chunk`; "interleaved": chunks of k are dealt to the parts in turn.
        chunk: products that stay together.
        c: "first": part 0 starts from C; "last": all start from +0, and C + their sum at the end.
        combine: "ascending": ((p0 + p1) + p2) + ...; "pairwise": (p0 + p1) + (p2 + p3), ..., an
            odd one left over goes up a level; "permutation": one after the other in an order
            fixed by `seed` and the number of parts, as atomic additions may arrive.
        scope: "k": around everything else; "promotion": inside each promoted segment.
    """

    parts: int = Field(ge=2, le=4096)
    pattern: Literal["contiguous", "interleaved"] = "contiguous"
    chunk: int = Field(default=1, ge=1)
    c: Literal["first", "last"] = "first"
    combine: Literal["ascending", "pairwise", "permutation"] = "ascending"
    seed: int | None = Field(default=None, ge=0)
    scope: Literal["k", "promotion"] = "k"

    @model_validator(mode="after")
    def _complete(self) -> "SplitK":
        if (self.seed is not None) != (self.combine == "permutation"):
            raise InputError('seed goes with combine = "permutation", and only with it')
        return self

    def members(self, depth: int) -> list[NDArray[np.int64]]:
        """The k of each part, ascending."""
        k = np.arange(depth)
        if self.pattern == "interleaved":
            return [k[k // self.chunk % self.parts == p] for p in range(self.parts)]
        chunks = -(-depth // (self.parts * self.chunk))
        length = max(chunks * self.chunk, 1)
        return [k[p * length : (p + 1) * length] for p in range(self.parts)]

    def arrival(self) -> list[int]:
        """The order in which parts are added, but for "pairwise"."""
        if self.combine == "permutation":
            return [int(p) for p in permutation(self.parts, self.seed or 0)]
        return list(range(self.parts))

    def describe(self) -> str:
        """One line for a table."""
        order = (
            f"permutation of seed {self.seed}" if self.combine == "permutation" else self.combine
        )
        return (
            f"K split in {self.parts} {self.pattern} parts, combined {order} in "
            f"{self.accumulator}, C {self.c}"
        )
