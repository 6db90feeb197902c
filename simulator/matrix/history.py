"""Delayed scaling: the scales of a pass, from the largest magnitudes of the passes before."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..phase import in_backward, recomputing
from ..recipe_rows import Delayed, Operand

_HUGE = np.finfo(np.float32).max


@dataclass
class History:
    """Largest magnitudes of one operand, [0] of the pass that runs, and the scale of that pass."""

    amax: NDArray[np.float32]
    largest: np.float32
    margin: int
    recent: bool
    scale: np.float32

    @classmethod
    def start(cls, row: Operand, delayed: Delayed) -> "History":
        """Nothing seen yet, scale 1."""
        amax = np.zeros(delayed.history, np.float32)
        largest = np.float32(row.fmt.grid.largest)
        return cls(amax, largest, delayed.margin, delayed.algorithm == "most_recent", np.float32(1))

    def note(self, amax: float) -> None:
        """A magnitude of the pass that runs; NaN is none."""
        self.amax[0] = np.fmax(self.amax[0], np.float32(amax))

    def roll(self) -> None:
        """The pass has ended: the scale of the next, see `Delayed`, and room for it."""
        amax = self.amax[0] if self.recent else self.amax.max()
        if amax > 0 and np.isfinite(amax):
            with np.errstate(over="ignore"):
                scale = np.float32(self.largest * np.float32(2.0**-self.margin)) / amax
            self.scale = np.minimum(scale, _HUGE)
        self.amax = np.roll(self.amax, -1)
        self.amax[0] = 0


class Histories:
    """The history of each operand with delayed scaling, by module, role and format.

    A pass is a forward and a backward: it ends when a product is computed after backward ones and
    outside of them. In between, scales stand still, so that the backward pass and a forward
    recomputed under checkpointing multiply the same numbers as the forward did, and a magnitude
    seen twice counts once. Without gradients (evaluation) nothing is noted.
    """

    def __init__(self) -> None:
        self._rows: dict[str, History] = {}
        self._backward = False

    def look(self) -> None:
        """Before each product: has a pass ended?"""
        if in_backward():
            self._backward = True
        elif self._backward and not recomputing():
            self._backward = False
            for row in self._rows.values():
                row.roll()

    def scale(self, name: str, row: Operand) -> np.float32:
        """The scale of an operand in the pass that runs."""
        if name not in self._rows:
            self._rows[name] = History.start(row, row.delayed)
        return self._rows[name].scale

    def note(self, name: str, amax: float) -> None:
        """The largest magnitude of an operand that was just prepared."""
        if in_backward() or torch.is_grad_enabled():
            self._rows[name].note(amax)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and scalars, by name."""
        rows = {
            name: {
                "amax": torch.from_numpy(row.amax.copy()), "scale": float(row.scale),
                "largest": float(row.largest), "margin": row.margin, "recent": row.recent,
            }
            for name, row in self._rows.items()
        }  # fmt: skip
        return {"rows": rows, "backward": self._backward}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._backward = bool(state["backward"])
        self._rows = {
            name: History(
                row["amax"].numpy().copy(), np.float32(row["largest"]), int(row["margin"]),
                bool(row["recent"]), np.float32(row["scale"]),
            )
            for name, row in state["rows"].items()
        }  # fmt: skip
