"""How each operation of a run was carried out."""

from collections import Counter

#: Every way, and what it means.
COVERAGE = {
    "bit_exact": "computed step by step, each rounded as the unit of the chip rounds it",
    "rounded_once": "a function, computed in float64 and rounded once to the unit's format",
    "moved": "data movement and creation: no arithmetic",
    "native": "left to the machine that ran the simulation; its dtype where that is not float32",
    "matrix_unit": "by which instruction matrix products were computed, in which formats",
    "exempt": "matrix products of modules that the recipe exempts, in its format for those",
    "substituted": "what the chip does not have, and what stood in for it",
    "host": "what has no kernel for CUDA devices, computed on the host, as host_fallback asks",
}


class Coverage:
    """Calls of every operation, by how it was carried out."""

    def __init__(self) -> None:
        self._calls = {kind: Counter[str]() for kind in COVERAGE}

    def add(self, kind: str, what: str) -> None:
        """One call more; `kind` is one of COVERAGE."""
        self._calls[kind][what] += 1

    def table(self) -> dict[str, dict[str, int]]:
        """The calls by kind and operation, names ascending."""
        return {kind: dict(sorted(calls.items())) for kind, calls in self._calls.items()}
