"""Stacks of small products: what an instruction computes at once, and a unit beside it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...formats.format import ArithmeticFormat
from ..dot_unit import DotUnit
from .cases import Cases
from .codes import Codes, to_codes, to_values


@dataclass(frozen=True)
class Batch:
    """Codes of A (T, m, K), B (T, K, m) and C (T, m, m)."""

    formats: tuple[ArithmeticFormat, ArithmeticFormat, ArithmeticFormat]
    a: Codes
    b: Codes
    c: Codes

    @property
    def k(self) -> int:
        """Products in each output."""
        return int(self.a.shape[2])

    def place(self, index: int) -> tuple[Codes, Codes, Codes]:
        """The operands of one output, by its flat index: a (K,), b (K,), c ()."""
        t, i, j = np.unravel_index(index, self.c.shape)
        return self.a[t, i], self.b[t, :, j], self.c[t, i, j]


#: Rows and columns of each product.
SIZE = 16


def make_batch(cases: Cases, size: int = SIZE) -> Batch:
    """m = `size` cases to a product: case i in row i and column i, all others crossed.

    Crossing makes m^2 outputs of m cases: the drawn ones on the diagonal, with their own C, the
    rest chance meetings of corner operands. Cases that do not fill a last product are left out.
    """
    count = len(cases) // size
    row, column = np.arange(size)[:, None], np.arange(size)[None, :]
    c = cases.c[: count * size].reshape(count, size)
    return Batch(
        cases.formats,
        cases.a[: count * size].reshape(count, size, cases.k),
        np.ascontiguousarray(
            cases.b[: count * size].reshape(count, size, cases.k).transpose(0, 2, 1)
        ),
        np.ascontiguousarray(c[:, (row + 5 * (row - column)) % size]),
    )


def multiply(unit: DotUnit, batch: Batch) -> Codes:
    """The codes of D as the unit gives them."""
    operands: list[NDArray[np.float64]] = [
        np.ascontiguousarray(to_values(x, fmt))
        for x, fmt in zip((batch.a, batch.b, batch.c), batch.formats, strict=True)
    ]
    return to_codes(unit.matmul(*operands, check=False), unit.output)
