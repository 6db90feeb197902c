"""The codebooks that optimizer states are kept in: those of the formats, and three more rows."""

from fractions import Fraction

from ..formats.tables.codebook import (
    DYNAMIC_TREE_3BIT,
    DYNAMIC_TREE_4BIT,
    LINEAR2_3BIT,
    LINEAR2_4BIT,
    CodebookFormat,
)
from ..formats.tables.codebooks import DYNAMIC_8BIT, DYNAMIC_8BIT_UNSIGNED


def _linear_squared(bits: int) -> tuple[Fraction, ...]:
    """sign(x)·x² at x = −1 + 2j/(2^bits − 1), the value next below zero replaced by 0."""
    top = 2**bits - 1
    roots = [Fraction(2 * j - top, top) for j in range(2**bits)]
    return tuple(x * abs(x) if 2 * j != top - 1 else Fraction(0) for j, x in enumerate(roots))


LINEAR2_8BIT = CodebookFormat(
    "linear2_8bit", 8, _linear_squared(8), "the rule of arXiv 2405.18144 at 8 bits"
)
INT8_ABSMAX = CodebookFormat(
    "int8_absmax",
    8,
    tuple(Fraction(i, 127) for i in range(-128, 128)),
    "two's complement over 127, as in 8-bit Muon, arXiv 2509.23106",
)
LINEAR_4BIT = CodebookFormat(
    "linear_4bit",
    4,
    tuple(Fraction(i + 1, 16) for i in range(16)),
    "linear map without zero of Li, Chen, Zhu, 4-bit optimizers, arXiv 2309.01507",
)

#: Signed books for the preconditioners of Shampoo, by name.
PRECONDITIONER_BOOKS = {
    book.name: book
    for book in (
        LINEAR2_4BIT, LINEAR2_3BIT, LINEAR2_8BIT, DYNAMIC_TREE_4BIT, DYNAMIC_TREE_3BIT, DYNAMIC_8BIT
    )
}  # fmt: skip

__all__ = [
    "DYNAMIC_8BIT",
    "DYNAMIC_8BIT_UNSIGNED",
    "DYNAMIC_TREE_4BIT",
    "INT8_ABSMAX",
    "LINEAR2_8BIT",
    "LINEAR_4BIT",
    "PRECONDITIONER_BOOKS",
]
