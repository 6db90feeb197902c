"""The three tasks: model, data, length, and which part of the data serves for what.

Nothing is chosen by the test part. While tuning, the training part is split again: seed s trains
on what is left of it after fold s, and is judged by fold s. Then fresh seeds train on the whole
training part at the setting that was chosen, and are judged by the test part.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from tapeout.scenarios.data import AnyDataSpec, Examples, load_data
from tapeout.scenarios.data.digits import DigitsSpec
from tapeout.scenarios.data.order import stratified
from tapeout.scenarios.data.text import TextSpec
from tapeout.scenarios.models import AnyModelSpec, Gpt, GptSpec, ResnetSpec, VitSpec, build_model
from tapeout.scenarios.models.blocks import fill_linear

#: Share of the training part that a fold holds out.
HELD_OUT = 0.2
#: Windows of text that go to the same part of a fold.
STRETCH = 16
BIAS_STD = 0.02


@dataclass(frozen=True)
class Task:
    """A model that learns some data, and the measure that optimizers are compared by.

    Attributes:
        metric: "accuracy" in points (per cent), or "loss" in points of 0.01 nats, which are
            changes of 1 % in perplexity.
        statistics_every, roots_every: T₁ and T₂ of Shampoo, to suit `steps`.
        embedding_std: of the embedding and the positions, where the model's own is too slow.
    """

    name: str
    what: str
    model: AnyModelSpec
    data: AnyDataSpec
    steps: int
    batch: int
    metric: Literal["accuracy", "loss"]
    tuning_seeds: tuple[int, ...]
    seeds: tuple[int, ...]
    statistics_every: int = 10
    roots_every: int = 20
    embedding_std: float | None = None

    def points(self, row: dict[str, Any]) -> float:
        """The measure of a row in points; higher is better."""
        value: float = row["accuracy"] if self.metric == "accuracy" else -row["loss"]
        return 100.0 * value

    def facts(self) -> dict[str, Any]:
        """What a result depends on, beside optimizer, arithmetic, fold and seed."""
        own = {} if self.embedding_std is None else {"embedding_std": self.embedding_std}
        return own | {
            "kinds": [self.model.kind, self.data.kind],
            "model": self.model.model_dump(mode="json", exclude_defaults=True),
            "data": self.data.model_dump(mode="json", exclude_defaults=True),
            "steps": self.steps,
            "batch": self.batch,
            "held_out": HELD_OUT,
            "stretch": STRETCH,
            "bias_std": BIAS_STD,
        }


TASKS = {
    task.name: task
    for task in (
        Task(
            "vit", "Vision Transformer, digits",
            VitSpec(patch=4), DigitsSpec(test_fraction=0.4), 100, 64, "accuracy",
            (100, 101), tuple(range(10)),
        ),
        Task(
            "resnet", "ResNet, digits",
            ResnetSpec(widths=(16, 64)), DigitsSpec(test_fraction=0.4), 60, 64, "accuracy",
            (100, 101), tuple(range(10)),
        ),
        Task(
            "gpt", "character GPT, Python reference",
            GptSpec(depth=1, length=32),
            TextSpec(length=32, characters=200_000), 200, 16, "loss",
            (100, 101), tuple(range(10)), embedding_std=0.125,
        ),
    )
}  # fmt: skip


def build(task: Task, seed: int) -> nn.Module:
    """The task's model, with no parameter left at zero.

    Optimizers that multiply cannot move a zero, so that a classifier or a bias of zeros would
    stay one. For all optimizers alike, matrices of zeros are drawn as the other linear layers,
    and vectors of zeros from N(0, 0.02²).
    """
    model = build_model(task.model, seed)
    generator = torch.Generator().manual_seed(seed + (1 << 20))
    if task.embedding_std is not None and isinstance(model, Gpt):
        for table in (model.embed.weight, model.position):
            nn.init.normal_(table, std=task.embedding_std, generator=generator)
    for module in model.modules():
        if isinstance(module, nn.Linear) and not module.weight.any():
            fill_linear(module, generator)
        bias = getattr(module, "bias", None)
        if isinstance(bias, torch.Tensor) and not bias.any():
            nn.init.normal_(bias, std=BIAS_STD, generator=generator)
    return model


@lru_cache(maxsize=16)
def examples(task: Task, fold: int | None) -> Examples:
    """Training and test part; of the training part alone, without and with fold `fold`.

    Folds of the digits are stratified draws of images, those of the text draws of stretches of 16
    windows, as neighbouring windows share a sentence.
    """
    data = load_data(task.data)
    if fold is None:
        return data
    n, text = len(data.train_targets), isinstance(task.data, TextSpec)
    labels = np.zeros(-(-n // STRETCH), np.int64) if text else data.train_targets.numpy()
    drawn = stratified(labels, HELD_OUT, 1000 + fold)
    out = torch.from_numpy(np.repeat(drawn, STRETCH)[:n] if text else drawn)
    return replace(
        data,
        train_inputs=data.train_inputs[~out], train_targets=data.train_targets[~out],
        test_inputs=data.train_inputs[out], test_targets=data.train_targets[out],
    )  # fmt: skip
