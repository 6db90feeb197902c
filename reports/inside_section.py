"""The section “Inside the runs” of the page: its figures, and its part of the JSON twin."""

from dataclasses import asdict, dataclass
from typing import Any

from .drawing import Figure
from .inside import memory_rows
from .inside_curves import draw_gradients, draw_roots
from .inside_maps import draw_maps
from .inside_weights import draw_distances, draw_weights
from .study import Study

#: Distributions of weights that are drawn for one optimizer.
DISTRIBUTIONS = 2


@dataclass(frozen=True)
class Inside:
    """The figures of the section in their order, and the rows of its memory table."""

    maps: tuple[Figure, ...]
    weights: tuple[Figure, ...]
    curves: tuple[Figure, ...]
    memory: list[dict[str, Any]]

    @property
    def figures(self) -> tuple[Figure, ...]:
        """All of them."""
        return (*self.maps, *self.weights, *self.curves)


def draw_inside(study: Study) -> Inside:
    """Everything that the runs recorded of their inside; what they did not has no figure."""
    weights: list[Figure | None] = []
    curves: list[Figure | None] = []
    for optimizer in study.optimizers:
        weights.append(draw_distances(study, optimizer))
        weights += [draw_weights(study, optimizer, c) for c in study.columns[:DISTRIBUTIONS]]
        curves.append(draw_gradients(study, optimizer))
        curves += draw_roots(study, optimizer)
    return Inside(
        maps=tuple(draw_maps(study)),
        weights=tuple(figure for figure in weights if figure),
        curves=tuple(figure for figure in curves if figure),
        memory=[asdict(row) for row in memory_rows(study)],
    )
