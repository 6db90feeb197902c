"""The optimizers that are compared, and the small grid that each is tuned over.

Every grid is the product of its lists, a task's own where optima lie far apart. The options that
matter are all said here, so that another default in a class leaves the results what they were.
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
        """The table of a scenario's `[[optimizers]]`."""
        table: dict[str, Any] = {"name": self.table, **self.fixed, **setting}
        if self.table == "shampoo":
            table |= {"statistics_every": task.statistics_every, "roots_every": task.roots_every}
        return table

    def build(self, task: Task, setting: Setting, model: nn.Module, seed: int) -> optim.Optimizer:
        """The optimizer of all parameters of `model`."""
        row: Any = check_optimizer(self.options(task, setting), 1)
        built: optim.Optimizer = row.build(model, seed)
        return built


ADAMW: dict[str, Any] = {"betas": (0.9, 0.999), "eps": 1e-8}
LMD: dict[str, Any] = {
    "betas": (0.9, 0.99), "floor": 0.03, "regularizer": "lognormal", "prior": "floor",
    "momentum": "components", "update": "sign", "init": "exact", "noise": "lognormal",
    "storage": "median",
}  # fmt: skip
MADAM: dict[str, Any] = {"beta": 0.999, "bound": 10.0}
SHAMPOO: dict[str, Any] = {
    "base": "adamw", "betas": (0.9, 0.999), "adam_eps": 1e-8, "weight_decay": 0.05,
    "codebook": "linear2_4bit", "block": 64, "beta": 0.95, "eps": 1e-6, "error_beta": 0.95,
    "scales": "joint", "ridge": "absolute", "root_from": "stored", "root": "newton",
    "newton_cap": 10, "grafting": "norm", "min_elements": 4096, "max_order": 1200,
}  # fmt: skip


def _shampoo(storage: str) -> Contender:
    return Contender(
        f"shampoo {storage}",
        "shampoo",
        {"storage": storage, **SHAMPOO},
        {
            "": {"lr": (0.005, 0.01, 0.02)},
            "resnet": {"lr": (0.01, 0.02, 0.04)},
        },
    )


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender(
            "adamw", "adamw", ADAMW,
            {
                "": {"lr": (0.002, 0.005, 0.01, 0.02), "weight_decay": (0.01, 0.1)},
                "resnet": {"lr": (0.005, 0.01, 0.02, 0.04), "weight_decay": (0.01, 0.1)},
            },
        ),
        Contender(
            "lmd", "lmd", LMD,
            {
                "": {"lr": (0.01, 0.02, 0.04), "decay": (0.1, 0.3), "sigma": (0.03, 0.1)},
                "resnet": {"lr": (0.02, 0.04, 0.08), "decay": (0.03, 0.1), "sigma": (0.03, 0.1)},
            },
        ),
        Contender(
            "madam", "madam", MADAM,
            {
                "": {"lr": (0.015, 0.03, 0.06, 0.12), "scale": (3.0, 10.0)},
                "resnet": {"lr": (0.05, 0.1, 0.2, 0.4), "scale": (3.0, 10.0)},
            },
        ),
        *(_shampoo(storage) for storage in ("float32", "vq", "cq", "cq_ef")),
    )
}  # fmt: skip
