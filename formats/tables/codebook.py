"""Formats whose values are a list: codebooks for optimizer state and weights.

The rows here serve numpy through methods and torch through `encode` and `decode`, which use
torch operations alone, so that an emulated chip sees them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from .conversion import decode_table, encode_table, quantize_table
from .table import Edge, Table, edge_of, nearest_float32, settle

Array = NDArray[Any]
_REACH = Fraction(2) ** 1000
_NO_NAN = "codebook {}: NaN has no nearest codeword: find where it arose, or replace it"


@dataclass(frozen=True)
class CodebookFormat:
    """A format that holds exactly the listed values; code i is the i-th, ascending.

    x goes to the nearest codeword in exact arithmetic, a tie to the even code; what lies beyond
    the ends goes to the end. Codewords are rationals of any size, rounded once to float32 or
    float64 when decoded. Blocks scaled by their largest magnitude need a book that holds 0 and
    reaches 1, as all in the catalog do.

    Raises:
        InputError: the values do not ascend, or are more or fewer than 2^bits.
    """

    name: str
    bits: int
    values: tuple[Fraction, ...]
    source: str

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8 or len(self.values) != 2**self.bits:
            raise InputError(
                f"codebook {self.name}: {len(self.values)} values do not fill {self.bits} bits: "
                "give exactly 2^bits values, bits from 1 to 8"
            )
        if any(a >= b for a, b in pairwise(self.values)):
            raise InputError(f"codebook {self.name}: the values must ascend strictly: sort them")
        floats = [float(v) for v in self.values]
        if max(-self.values[0], self.values[-1]) >= _REACH or any(
            a == b for a, b in pairwise(floats)
        ):
            raise InputError(
                f"codebook {self.name}: the values must be below 2^1000 in magnitude, and no two "
                "the same float64: scale them, or take one of the two away"
            )

    @property
    def largest(self) -> float:
        """The last value."""
        return float(self.values[-1])

    @property
    def lowest(self) -> float:
        """The first value."""
        return float(self.values[0])

    @property
    def zero_code(self) -> int:
        """The code of 0.

        Raises:
            InputError: 0 is not in the book.
        """
        if 0 not in self.values:
            raise InputError(f"codebook {self.name}: 0 is not one of its values: use another book")
        return self.values.index(Fraction(0))

    @cached_property
    def thresholds(self) -> tuple[Fraction, ...]:
        """Where the decision changes from code i to i + 1: halfway between the codewords."""
        return tuple((a + b) / 2 for a, b in pairwise(self.values))

    @cached_property
    def table(self) -> Table:
        """The values of both signs; code i is rung i."""
        floors, on_floor = zip(*map(edge_of, self.values), strict=True)
        middles, on_middle = zip(*map(edge_of, self.thresholds), strict=True)
        narrow = max(-self.values[0], self.values[-1]) < 2**127
        values32 = np.array([nearest_float32(v) for v in self.values if narrow], np.float32)
        distinct = narrow and bool((np.diff(values32) > 0).all())
        return Table(
            name=f"codebook {self.name}",
            bits=self.bits,
            values=np.array([float(v) for v in self.values]),
            values32=values32 if distinct else None,
            floors=np.array(floors),
            on_floor=np.array(on_floor),
            middles=np.array(middles),
            on_middle=np.array(on_middle),
            odd=np.arange(len(self.values)) % 2 == 1,
            cut=self._cut,
            mirrored=False,
            negative="none",
            exact32=distinct,
        )

    def _cut(self, x: Array, low: Array, t: Array, span: int) -> tuple[Array, Array]:
        gaps = np.array([float(b - a) for a, b in pairwise(self.values)])
        edges = self.table.values[low] + t.astype(np.float64) * gaps[low] / span

        def exactly(rung: int, share: int) -> Edge:
            a, b = self.values[rung], self.values[rung + 1]
            return edge_of(a + (b - a) * Fraction(share, span))

        magnitudes = np.abs(self.table.values)
        return settle(x, edges, low, t, exactly, np.maximum(magnitudes[low], magnitudes[low + 1]))

    def edges(self, dtype: Any) -> Array:
        """The largest number of `dtype` that goes to code i or below, for every i but the last.

        Comparing with these decides exactly as the rational thresholds do.
        """
        found = []
        for i, threshold in enumerate(self.thresholds):
            edge = dtype(float(threshold))
            while not _stays(edge, threshold, i):
                edge = np.nextafter(edge, dtype(-np.inf))
            while _stays(above := np.nextafter(edge, dtype(np.inf)), threshold, i):
                edge = above
            found.append(edge)
        return np.array(found, dtype)

    def encode(self, x: Array) -> NDArray[np.uint8]:
        """The nearest codes of a float32 or float64 array.

        Raises:
            InputError: an element is NaN.
        """
        if np.isnan(x).any():
            raise InputError(_NO_NAN.format(self.name))
        return encode_table(x, self.table)

    def decode(self, codes: Array) -> NDArray[np.float32]:
        """The values of unsigned integer codes."""
        return decode_table(codes, self.table)

    def quantize(self, x: Array) -> Array:
        """The nearest values, in the dtype of `x`; raises as `encode`."""
        if np.isnan(x).any():
            raise InputError(_NO_NAN.format(self.name))
        return quantize_table(x, self.table)


def _stays(x: Any, threshold: Fraction, code: int) -> bool:
    """Whether x goes to `code` rather than to `code` + 1, whose threshold is given."""
    if np.isinf(x):
        return bool(x < 0)
    exact = Fraction(float(x))
    return exact < threshold or (exact == threshold and code % 2 == 0)


def encode(x: Tensor, book: CodebookFormat) -> Tensor:
    """The nearest codes of a float32 or float64 tensor, uint8, any shape; ties to the even code.

    Raises:
        InputError: an element is NaN.
    """
    if bool(torch.isnan(x).any()):
        raise InputError(_NO_NAN.format(book.name))
    edges, _ = _tables(book, x.dtype, x.device)
    return torch.bucketize(x, edges).to(torch.uint8)


def decode(codes: Tensor, book: CodebookFormat, dtype: torch.dtype = torch.float32) -> Tensor:
    """The values of uint8 codes, any shape; each codeword was rounded once to `dtype`."""
    _, values = _tables(book, dtype, codes.device)
    return values[codes.long()]


@lru_cache(maxsize=64)
def _tables(
    book: CodebookFormat, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    kind = np.float64 if dtype == torch.float64 else np.float32
    listed = book.table.values if dtype != torch.float32 else book.table.values32
    if listed is None:
        raise InputError(f"codebook {book.name}: float32 cannot hold its values; use float64")
    values = torch.tensor(listed, dtype=dtype, device=device)
    return torch.from_numpy(book.edges(kind)).to(device), values


def _linear_squared(bits: int) -> tuple[Fraction, ...]:
    """sign(x)·x² at x = −1 + 2j/(2^bits − 1), the value next below zero replaced by 0."""
    top = 2**bits - 1
    roots = [Fraction(2 * j - top, top) for j in range(2**bits)]
    return tuple(x * abs(x) if 2 * j != top - 1 else Fraction(0) for j, x in enumerate(roots))


def _mirrored(positive: Iterable[str]) -> tuple[Fraction, ...]:
    """The listed decimals, their negatives, 0, and +1."""
    listed = [Fraction(v) for v in positive]
    return tuple(sorted([-v for v in listed] + listed + [Fraction(0), Fraction(1)]))


_WANG = "Wang, Zhou, Li, Huang, 4-bit Shampoo, NeurIPS 2024, arXiv 2405.18144"
_DETTMERS = "dynamic tree of Dettmers, arXiv 1511.04561, as used in arXiv 2405.18144"

LINEAR2_4BIT = CodebookFormat("linear2_4bit", 4, _linear_squared(4), _WANG)
LINEAR2_3BIT = CodebookFormat("linear2_3bit", 3, _linear_squared(3), _WANG)
DYNAMIC_TREE_4BIT = CodebookFormat(
    "dynamic_tree_4bit",
    4,
    _mirrored(["0.8875", "0.6625", "0.4375", "0.2125", "0.0775", "0.0325", "0.0055"]),
    _DETTMERS,
)
DYNAMIC_TREE_3BIT = CodebookFormat(
    "dynamic_tree_3bit", 3, _mirrored(["0.775", "0.325", "0.055"]), _DETTMERS
)

CODEBOOKS = (LINEAR2_4BIT, LINEAR2_3BIT, DYNAMIC_TREE_4BIT, DYNAMIC_TREE_3BIT)
