"""The optimizers that are compared, and the small grid that each is tuned over.

Every grid is the product of its lists; what a grid leaves out has the default of the class, but
for T₁/T₂ of Shampoo, which the task sets. A grid is one task's where optima lie far apart.
"""

from dataclasses import dataclass, field
from itertools import product
from typing import Any

from torch import nn, optim

from tapeout.scenarios.hyperparameters import check_optimizer

from .tasks import Task

Setting = dict[str, float]
Grid = dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Contender:
    """An optimizer with the options that all its settings share."""

    name: str
    table: str
    fixed: dict[str, Any] = field(default_factory=dict)
    grids: dict[str, Grid] = field(default_factory=dict)

    def grid(self, task: Task) -> Grid:
        """The task's own grid, or the one for all."""
        return self.grids.get(task.name) or self.grids[""]

    def settings(self, task: Task) -> list[Setting]:
        """Every point of the task's grid."""
        grid = self.grid(task)
        return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]

    def at_edge(self, task: Task, setting: Setting) -> list[str]:
        """The options of `setting` at an end of a list of three or more values."""
        return [
            name for name, values in self.grid(task).items()
            if len(values) > 2 and setting[name] in (min(values), max(values))
        ]  # fmt: skip

    def options(self, task: Task, setting: Setting) -> dict[str, Any]:
        """The complete table of a scenario's `[[optimizers]]`."""
        table: Any = {"name": self.table, **self.fixed, **setting}
        if self.table == "shampoo":
            table |= {"statistics_every": task.statistics_every, "roots_every": task.roots_every}
        row: Any = check_optimizer(table, 1)
        options: dict[str, Any] = row.model_dump(mode="json")
        return options

    def build(self, task: Task, setting: Setting, model: nn.Module, seed: int) -> optim.Optimizer:
        """The optimizer of all parameters of `model`."""
        row: Any = check_optimizer(self.options(task, setting), 1)
        built: optim.Optimizer = row.build(model, seed)
        return built


def _shampoo(storage: str) -> Contender:
    return Contender(
        f"shampoo {storage}",
        "shampoo",
        {"storage": storage},
        {
            "": {"lr": (0.005, 0.01, 0.02)},
            "resnet": {"lr": (0.01, 0.02, 0.04)},
        },
    )


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender(
            "adamw", "adamw", {},
            {
                "": {"lr": (0.002, 0.005, 0.01, 0.02), "weight_decay": (0.01, 0.1)},
                "resnet": {"lr": (0.005, 0.01, 0.02, 0.04), "weight_decay": (0.01, 0.1)},
            },
        ),
        Contender(
            "lmd", "lmd", {},
            {
                "": {"lr": (0.01, 0.02, 0.04), "decay": (0.1, 0.3), "sigma": (0.03, 0.1)},
                "resnet": {"lr": (0.02, 0.04, 0.08), "decay": (0.03, 0.1), "sigma": (0.03, 0.1)},
            },
        ),
        Contender(
            "madam", "madam", {},
            {
                "": {"lr": (0.015, 0.03, 0.06, 0.12), "scale": (3.0, 10.0)},
                "resnet": {"lr": (0.05, 0.1, 0.2, 0.4), "scale": (3.0, 10.0)},
            },
        ),
        *(_shampoo(storage) for storage in ("float32", "vq", "cq", "cq_ef")),
    )
}  # fmt: skip
