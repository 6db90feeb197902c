"""Two runs' curves held against each other, from what their folders recorded."""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .records import RunEntry, RunRecord, read_record
from .runs import Run, read_run
from .segments import Omission

QUALITIES = ("test_accuracy", "test_loss")


@dataclass(frozen=True)
class Difference:
    """What two runs of one optimizer and seed came to.

    first: the first step whose loss or gradient norm differs in any bit; None if none does.
    beyond: the first where the loss differs by more than the tolerance, as a share of a's.
    mean, largest: of |loss of b − loss of a| over the steps that both recorded, and at which step.
    final: of b minus of a, by metric.
    """

    optimizer: str
    seed: int
    a: str
    b: str
    steps: int
    first: int | None
    beyond: int | None
    mean: float | None
    largest: float | None
    largest_at: int | None
    final: dict[str, float]
    status: tuple[str, str]


def compare_runs(a: Path, b: Path, tolerance: float) -> Difference:
    """The difference of the curves of two run folders; damaged segments are left out."""
    left, right = _read(a), _read(b)
    steps, table = _joined(left, right)
    loss, norm = table
    gaps = np.abs(loss[1] - loss[0])
    finite = np.isfinite(gaps)
    apart = _other_bits(*loss) | _other_bits(*norm)
    far = (gaps > tolerance * np.abs(loss[0])) | (np.isfinite(loss[0]) != np.isfinite(loss[1]))
    at = int(np.argmax(np.where(finite, gaps, -1.0))) if finite.any() else None
    return Difference(
        optimizer=left.entry.optimizer,
        seed=left.entry.seed,
        a=a.name,
        b=b.name,
        steps=len(steps),
        first=_first(steps, apart),
        beyond=_first(steps, far),
        mean=float(gaps[finite].mean()) if finite.any() else None,
        largest=None if at is None else float(gaps[at]),
        largest_at=None if at is None else int(steps[at]),
        final=_finals(left, right),
        status=(left.status, right.status),
    )


def _read(folder: Path) -> Run:
    left_out: list[Omission] = []

    record = read_record(folder / "run.json", RunRecord)
    name = str(record.optimizer.get("name", ""))
    entry = RunEntry(folder=folder.name, column=record.column, optimizer=name, seed=record.seed)
    return read_run(folder.parent, entry, "test_loss", left_out)


Values = npt.NDArray[Any]
Pair = tuple[Values, Values]


def _joined(a: Run, b: Run) -> tuple[Values, tuple[Pair, Pair]]:
    """The steps that both recorded, and loss and gradient norm of both there."""
    one, other = a.series["metrics"], b.series["metrics"]
    steps, i, j = np.intersect1d(
        one["step"].to_numpy(), other["step"].to_numpy(), return_indices=True
    )
    values = [
        (one[key].to_numpy(zero_copy_only=False)[i], other[key].to_numpy(zero_copy_only=False)[j])
        for key in ("loss", "grad_norm")
    ]
    return steps, (values[0], values[1])


def _other_bits(a: Values, b: Values) -> Values:
    """Where two numbers are not the same; two that are no numbers are."""
    different: Values = (a != b) & ~(np.isnan(a.astype(float)) & np.isnan(b.astype(float)))
    return different


def _first(steps: Values, where: Values) -> int | None:
    return int(steps[np.argmax(where)]) if where.any() else None


def _finals(a: Run, b: Run) -> dict[str, float]:
    found = {}
    for metric in QUALITIES:
        one, other = a.final(metric), b.final(metric)
        if one is not None and other is not None and isfinite(one) and isfinite(other):
            found[metric] = other - one
    return found
