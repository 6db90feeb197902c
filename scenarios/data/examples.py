"""Training and test examples as tensors, whatever they came from."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ...formats.errors import InputError

Objective = Literal["classification", "regression"]


@dataclass(frozen=True)
class Examples:
    """Inputs and targets, split into training and test; the first axis counts examples.

    Attributes:
        objective: "classification": targets are int64 classes, one for each row of scores (of an
            image, of each character of a text); "regression": float32, of the shape of the scores.
        classes: number of classes; columns of the targets for a regression.
        what: in messages, "the digits".
    """

    train_inputs: Tensor
    train_targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    objective: Objective
    classes: int
    what: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return tuple(self.train_inputs.shape[1:])


def refuse_nonfinite(inputs: Tensor, place: str) -> None:
    """Training data must be finite: one NaN would silently become the whole result.

    Raises:
        InputError: how many values are NaN or infinite, and the first example that holds one.
    """
    bad = ~torch.isfinite(inputs)
    if bad.any():
        first = int(bad.flatten(1).any(dim=1).nonzero()[0])
        raise InputError(
            f"{place}: {int(bad.sum())} of {inputs.numel()} values are NaN or infinite, "
            f"the first in example {first}: remove or repair these"
        )
