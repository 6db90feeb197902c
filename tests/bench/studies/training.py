"""One run: a task's model trained by one optimizer in one arithmetic, and what came of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from math import isfinite
from typing import Any

import torch
from torch import nn, optim

from tapeout.scenarios.data import Examples, batch_indices
from tapeout.scenarios.measures import quality
from tapeout.scenarios.schedule import cosine
from tapeout.scenarios.training import loss_of
from tapeout.simulator import emulate, load_chip, load_recipe

from .contenders import Contender, Setting
from .tasks import Task, build, examples

_BFLOAT16 = {"format": "bfloat16"}
#: Forward products of layers in MXFP6, backward ones in bfloat16, attention as the recipe has it.
_FORWARD = {
    "gemm": {
        "dgrad": {"weight": _BFLOAT16, "gradient": _BFLOAT16},
        "wgrad": {"activation": _BFLOAT16, "gradient": _BFLOAT16},
    }
}
#: Arithmetic -> chip, recipe and override; None is PyTorch itself in float32.
ARITHMETICS: dict[str, tuple[str, str, dict[str, Any]] | None] = {
    "float32": None,
    "mxfp6_e3m2": ("nvidia-b200", "mxfp6", _FORWARD),
    "mxfp6_e2m3": (
        "nvidia-b200",
        "mxfp6",
        {role: {"format": "mxfp6_e2m3"} for role in ("weight", "activation")} | _FORWARD,
    ),
}
#: Steps whose products the trace would count: none but the first.
_SELDOM = 1 << 30


def train(
    task: Task,
    contender: Contender,
    setting: Setting,
    arithmetic: str,
    fold: int | None,
    seed: int,
) -> dict[str, Any]:
    """Accuracy and loss after training, by the fold or else by the test part.

    Optimizers with noise in the weights are evaluated at their medians, in the same arithmetic.
    A loss that is not finite ends the run; scores that are not finite count as wrong.
    """
    begun = time.process_time()
    data, model = examples(task, fold), build(task, seed)
    optimizer = contender.build(task, setting, model, seed)
    quiet = getattr(optimizer, "eval_weights", nullcontext)
    with _computing(arithmetic, model, seed):
        diverged = steps(task, data, model, optimizer, seed)
        model.eval()
        with quiet(), torch.no_grad():
            parts = torch.split(data.test_inputs, 256)
            scores = torch.cat([model(part) for part in parts])
    loss, accuracy = quality(scores, data.test_targets)
    return {
        "accuracy": round(accuracy, 6),
        "loss": round(loss, 6) if isfinite(loss) else None,
        "diverged": diverged,
        "counters": {k: v for k, v in getattr(optimizer, "counters", {}).items() if v},
        "seconds": round(time.process_time() - begun, 2),
    }


def steps(
    task: Task, data: Examples, model: nn.Module, optimizer: optim.Optimizer, seed: int
) -> bool:
    """All steps, with a warm-up of a tenth and half a cosine; True if the loss left the floats."""
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    for step in range(task.steps):
        factor = cosine(step, task.steps, task.steps // 10)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        batch = batch_indices(seed, step, task.batch, len(data.train_targets))
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(data, model(data.train_inputs[batch]), data.train_targets[batch])
        if not isfinite(loss.item()):
            return True
        torch.autograd.backward(loss)
        optimizer.step()
    return False


@contextmanager
def _computing(arithmetic: str, model: nn.Module, seed: int) -> Iterator[None]:
    row = ARITHMETICS[arithmetic]
    if row is None:
        yield
        return
    chip, recipe, override = row
    with emulate(
        load_chip(chip), load_recipe(recipe, override), model=model, seed=seed, sample_every=_SELDOM
    ):
        yield
