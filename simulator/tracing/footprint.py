"""What a run occupies in the chip's memory, by role."""

import weakref
from collections.abc import Mapping
from typing import Any


class Footprint:
    """Bytes of what stays, by name, and the peak of what comes and goes.

    bytes of a role = sum over its tensors of ceil(elements bits / 8) row by row, and of the bytes
    of their scales. Weights, masters, gradients and optimizer states are added up as they last
    were; of activations, which are freed on the way back, the largest sum at any time counts.
    """

    def __init__(self) -> None:
        self._staying: dict[str, dict[str, list[int]]] = {}
        self._live = [0, 0, 0]
        self._peak = [0, 0, 0]
        self._watched = False

    def watch(self) -> None:
        """From now on activations are reported, be it as none."""
        self._watched = True

    def set(self, role: str, name: str, size: int, float32_size: int) -> None:
        """A tensor that stays, or its new size."""
        self._staying.setdefault(role, {})[name] = [size, float32_size]

    def hold(self, owner: object, size: int, float32_size: int) -> None:
        """An activation that lives as long as `owner`."""
        change = [size, float32_size, 1]
        self._live = [a + b for a, b in zip(self._live, change, strict=True)]
        self._peak = max(self._peak, self._live, key=lambda sums: sums[0])
        weakref.finalize(owner, self._release, change)

    def _release(self, change: list[int]) -> None:
        self._live = [a - b for a, b in zip(self._live, change, strict=True)]

    def rows(self) -> list[dict[str, Any]]:
        """Each role with its bytes, those that float32 would take, and its tensors."""
        found: list[tuple[str, int, int, int]] = []
        for role, tensors in self._staying.items():
            sizes = list(tensors.values())
            found.append((role, sum(s[0] for s in sizes), sum(s[1] for s in sizes), len(sizes)))
        if self._watched:
            stored, wide, count = self._peak
            found.append(("activation", stored, wide, count))
        names = ("role", "bytes", "float32_bytes", "tensors")
        return [dict(zip(names, row, strict=True)) for row in found]

    def state_dict(self) -> dict[str, Any]:
        """The sizes and the peak."""
        return {"staying": {k: dict(v) for k, v in self._staying.items()}, "peak": self._peak}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._staying = {
            role: {name: list(sizes) for name, sizes in tensors.items()}
            for role, tensors in state["staying"].items()
        }
        self._peak = list(state["peak"])
