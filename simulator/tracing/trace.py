"""What happened inside an emulated run: counters by module, operation and role."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ...formats.errors import InputError
from ..kernels.operand import COUNTERS, NAN, NOISE, OVERFLOWED, SATURATED, SIGNAL, UNDERFLOW
from .footprint import Footprint

COVERAGE = ("bit_exact", "rounded_once", "moved", "native")


class Key(NamedTuple):
    """Which counters an event belongs to."""

    module: str
    op: str
    gemm: str
    operand: str
    format: str


class Keeper(Protocol):
    """A part of an emulation with a state of its own: dictionaries of tensors and scalars."""

    def state_dict(self) -> dict[str, Any]:
        """What the part needs in order to go on."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""


class Trace:
    """Counters of an emulation, and the position of its random streams.

    Counted for each operand on its way into a matrix unit: values, those that became zero
    (underflow), the largest value (saturated), infinity (overflow), NaN, and the energies of
    signal and of rounding noise, whose ratio is the signal-to-quantisation-noise ratio. For each
    product: calls and multiply-accumulates. For each parameter and optimizer step: weights with
    a gradient, and those among them that the update did not move (stalled).
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.position = 0
        self._keepers: dict[str, Keeper] = {}
        self._counts: dict[Key, NDArray[np.float64]] = {}
        self._work: dict[Key, list[int]] = {}
        self._coverage: dict[str, set[str]] = {kind: set() for kind in COVERAGE}
        self.assumed: set[str] = set()
        self.footprint = Footprint()

    def keep(self, name: str, keeper: "Keeper") -> None:
        """Make a part's state one of the run's, under `name`."""
        self._keepers[name] = keeper

    def state_dict(self) -> dict[str, Any]:
        """All that the next operation depends on and that the model and optimizer do not hold."""
        kept = {name: keeper.state_dict() for name, keeper in self._keepers.items()}
        return {"position": self.position, **kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            InputError: the state is of another recipe.
        """
        if set(state) != {"position", *self._keepers}:
            raise InputError(
                f"emulate: state has {', '.join(sorted(state))}; this recipe keeps position"
                + "".join(f", {name}" for name in sorted(self._keepers))
            )
        self.position = int(state["position"])
        for name, keeper in self._keepers.items():
            keeper.load_state_dict(state[name])

    def next_stream(self) -> int:
        """The number of a fresh random stream."""
        self.position += 1
        return self.position - 1

    def count_operand(self, key: Key, values: int, counts: NDArray[np.float64]) -> None:
        """Add the counters (R, COUNTERS) of one conversion, row by row."""
        totals = self._counts.setdefault(key, np.zeros(COUNTERS + 1))
        totals[:COUNTERS] += counts.sum(axis=0)
        totals[COUNTERS] += values

    def count_product(self, key: Key, macs: int) -> None:
        """Add one matrix product."""
        work = self._work.setdefault(key, [0, 0])
        work[0] += 1
        work[1] += macs

    def count_update(self, key: Key, moved: int, stalled: int) -> None:
        """Add one optimizer step of one parameter."""
        work = self._work.setdefault(key, [0, 0])
        work[0] += moved + stalled
        work[1] += stalled

    def cover(self, kind: str, op: str) -> None:
        """Note how an operation was carried out: one of COVERAGE."""
        self._coverage[kind].add(op)

    def take(self) -> list[dict[str, Any]]:
        """The counters since the last call, as rows; then they start again from zero."""
        rows = [_operand_row(key, totals) for key, totals in self._counts.items()]
        rows += [_work_row(key, work) for key, work in self._work.items()]
        self._counts, self._work = {}, {}
        return sorted(rows, key=lambda row: tuple(str(row[name]) for name in Key._fields))

    def coverage(self) -> dict[str, list[str]]:
        """Which operations were computed bit for bit, computed in float64 and rounded once, only
        moved, or left to the host."""
        return {kind: sorted(ops) for kind, ops in self._coverage.items()}

    def memory(self) -> list[dict[str, Any]]:
        """What the run occupies in the chip's memory by role; see `Footprint`.

        Activations are among them where the recipe has a row `memory.activation`.
        """
        return self.footprint.rows()

    def assumptions(self) -> list[str]:
        """The assumed values that this run rested on."""
        return sorted(self.assumed)


_ZERO: dict[str, Any] = {
    "values": 0, "underflow": 0, "saturated": 0, "overflow": 0, "nan": 0,
    "signal": 0.0, "noise": 0.0, "macs": 0, "stalled": 0, "calls": 0,
}  # fmt: skip


def _operand_row(key: Key, totals: NDArray[np.float64]) -> dict[str, Any]:
    return {
        **key._asdict(),
        **_ZERO,
        "values": int(totals[COUNTERS]),
        "underflow": int(totals[UNDERFLOW]),
        "saturated": int(totals[SATURATED]),
        "overflow": int(totals[OVERFLOWED]),
        "nan": int(totals[NAN]),
        "signal": float(totals[SIGNAL]),
        "noise": float(totals[NOISE]),
    }


def _work_row(key: Key, work: Sequence[int]) -> dict[str, Any]:
    if key.operand == "update":
        return {**key._asdict(), **_ZERO, "values": work[0], "stalled": work[1]}
    return {**key._asdict(), **_ZERO, "calls": work[0], "macs": work[1]}
