"""Sums of counters, and the rows that they become."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...formats.format import ArithmeticFormat
from ..kernels import counting as kernels
from .columns import COUNTED, ENERGIES, empty_row


class Key(NamedTuple):
    """Which counters an event belongs to."""

    module: str
    op: str
    gemm: str
    operand: str
    format: str


class Counts:
    """The counters of one key in one step; see `COLUMNS` for what each means."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.smallest, self.largest = np.inf, 0.0
        self.bins: NDArray[np.int64] | None = None

    def add(self, **sums: float) -> None:
        """Add to the columns of those names."""
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0) + value

    def add_rounding(self, tasks: NDArray[np.float64], bins: NDArray[np.int64]) -> None:
        """Add what `kernels.counting` counted, task by task."""
        self.add(
            underflow=tasks[:, kernels.UNDERFLOW].sum(),
            saturated=tasks[:, kernels.SATURATED].sum(),
            overflow=tasks[:, kernels.OVERFLOWED].sum(),
            nan=tasks[:, kernels.NAN].sum(),
            nonfinite=tasks[:, kernels.NONFINITE].sum(),
            signal=np.add.accumulate(tasks[:, kernels.SIGNAL])[-1],
            noise=np.add.accumulate(tasks[:, kernels.NOISE])[-1],
        )
        self.add_range(tasks[:, kernels.SMALLEST].min(), tasks[:, kernels.LARGEST].max())
        total = bins.sum(axis=0)
        self.bins = total if self.bins is None else self.bins + total

    def add_range(self, smallest: float, largest: float) -> None:
        """Widen the range of magnitudes."""
        self.smallest = min(self.smallest, float(smallest))
        self.largest = max(self.largest, float(largest))

    def row(self, step: int, key: Key) -> dict[str, Any]:
        """The row of `Trace.take`."""
        row = {"step": step, **key._asdict(), **empty_row()}
        row |= {name: int(self.sums[name]) for name in COUNTED if name in self.sums}
        row |= {name: float(self.sums[name]) for name in ENERGIES if name in self.sums}
        if self.largest > 0:
            row |= {"smallest": self.smallest, "largest": self.largest}
        if self.bins is not None:
            hit = np.flatnonzero(self.bins)
            row["exponents"] = (hit + kernels.LOWEST).tolist()
            row["exponent_counts"] = self.bins[hit].tolist()
        return row


class Conversion(NamedTuple):
    """A conversion as the trace counts it.

    Attributes:
        values, rounded: (R, C) float32 or float64, before and after, in units of the scaled values.
        factors, tiles, divides: what values were multiplied with or divided by, as in
            `kernels.operand.scale_and_round`; None: nothing.
        largest, lowest: the range of the format.
    """

    values: NDArray[Any]
    rounded: NDArray[Any]
    factors: NDArray[Any] | None = None
    tiles: tuple[int, int, int] | None = None
    divides: bool = False
    largest: float = np.inf
    lowest: float = -np.inf

    @classmethod
    def unscaled(
        cls, values: NDArray[Any], rounded: NDArray[Any], fmt: ArithmeticFormat | None = None
    ) -> "Conversion":
        """Of arrays of any shape; None as format if its range is not known."""
        columns = max(values.shape[-1], 1) if values.ndim else 1
        x, q = (v.reshape(-1, columns) for v in (values, rounded))
        if fmt is None:
            return cls(x, q)
        return cls(x, q, largest=fmt.grid.largest, lowest=fmt.grid.lowest)


def count_rounding(done: Conversion) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Counters and bins of a conversion, by task."""
    rows, columns = done.values.shape
    each = max(1, kernels.TASK // max(columns, 1))
    tasks = max(1, -(-rows // each))
    counts = np.zeros((tasks, kernels.COUNTERS))
    counts[:, kernels.SMALLEST] = np.inf
    bins = np.zeros((tasks, kernels.BINS), np.int64)
    if done.values.size:
        x, q = (np.require(v, None, ["C", "W"]) for v in (done.values, done.rounded))
        factors = np.ones((1, 1), x.dtype) if done.factors is None else done.factors
        kernels.count_rounding(
            x, q, np.require(factors, None, ["C", "W"]), done.tiles or (rows, rows, columns),
            done.divides, each, float(done.largest), float(done.lowest), counts, bins,
        )  # fmt: skip
    return counts, bins
