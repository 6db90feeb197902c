"""From arrays to checked examples: labels, scaling, and what is held out."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from ...formats.errors import InputError
from .examples import Examples, Objective, refuse_nonfinite
from .order import shuffle_keys, stratified

Share = Annotated[float, Field(ge=0.05, le=0.95)]
Seed = Annotated[int, Field(strict=True, ge=0)]
Count = Annotated[int, Field(strict=True, ge=1)]
Array = NDArray[Any]


def class_numbers(labels: Array, place: str) -> tuple[NDArray[np.int64], list[str]]:
    """Labels as 0, 1, ... in ascending order of what they are, and their names.

    Raises:
        InputError: one is missing (NaN, None, empty or negative), or there are fewer than two.
    """
    if labels.dtype.kind == "O":
        missing = np.array([label is None or label != label or label == "" for label in labels])
    elif labels.dtype.kind == "U":
        missing = labels == ""
    elif labels.dtype.kind in "iufb":
        missing = (labels < 0) | np.isnan(labels.astype(np.float64))
    else:
        raise InputError(f"{place}: labels of type {labels.dtype} are neither numbers nor names")
    refuse_missing(missing, place)
    if labels.dtype.kind == "f" and np.any(labels != np.round(labels)):
        raise InputError(
            f"{place}: labels such as {labels[labels != np.round(labels)][0]} are no classes: "
            'a regression needs objective = "regression"'
        )
    if labels.dtype.kind == "f":
        labels = labels.astype(np.int64)
    names, numbers = np.unique(labels.astype(str) if labels.dtype.kind == "O" else labels,
                               return_inverse=True)  # fmt: skip
    if len(names) < 2:
        raise InputError(f"{place}: {len(names)} class is nothing to tell apart")
    return numbers.reshape(labels.shape).astype(np.int64), [str(name) for name in names]


def refuse_missing(missing: NDArray[np.bool_], place: str) -> None:
    """Every example has a label.

    Raises:
        InputError: how many have none, and the first.
    """
    if missing.any():
        first = int(np.flatnonzero(missing.reshape(len(missing), -1).any(axis=1))[0])
        raise InputError(
            f"{place}: {int(missing.sum())} of {missing.size} labels are missing, the first in "
            f"example {first}: remove these examples or label them"
        )


def held_out(
    targets: Array, objective: Objective, fraction: float, seed: int, place: str
) -> NDArray[np.bool_]:
    """True for the test part: the same share of every class, or of all for a regression.

    Raises:
        InputError: a part is left without a class, or without examples.
    """
    if objective == "classification" and targets.ndim == 1:
        out = stratified(targets.astype(np.int64), fraction, seed)
        for part in (out, ~out):
            lacking = np.setdiff1d(targets, targets[part])
            if lacking.size:
                raise InputError(
                    f"{place}: class {lacking[0]} has {int((targets == lacking[0]).sum())} "
                    f"examples, too few for both parts with test_fraction = {fraction}"
                )
        return out
    out = np.zeros(len(targets), bool)
    order = np.argsort(shuffle_keys(seed, 0, len(targets)), kind="stable")
    out[order[: round(fraction * len(targets))]] = True
    if out.all() or not out.any():
        raise InputError(f"{place}: {len(targets)} examples are too few for two parts")
    return out


def standardised(inputs: Array, train: Array, axes: tuple[int, ...]) -> NDArray[np.float32]:
    """(x − mean) / std with those of `train` over `axes`, in float64, rounded once.

    A column that never changes is only centred.
    """
    values = train.astype(np.float64)
    mean, std = values.mean(axis=axes, keepdims=True), values.std(axis=axes, keepdims=True)
    scaled: NDArray[np.float64] = (inputs - mean) / np.where(std > 0, std, 1.0)
    return scaled.astype(np.float32)


def make_examples(
    parts: Sequence[Array], objective: Objective, classes: int, what: str
) -> Examples:
    """Examples of (train inputs, train targets, test inputs, test targets), checked.

    Floating-point inputs are rounded to float32, whole numbers are tokens; regression targets
    are (n, columns) float32.

    Raises:
        InputError: inputs and targets of different length, none, or values that are not finite.
    """
    tensors = []
    for name, inputs, targets in (("training", parts[0], parts[1]), ("test", parts[2], parts[3])):
        if len(inputs) != len(targets) or not len(inputs):
            raise InputError(
                f"{what}: {len(inputs)} {name} inputs and {len(targets)} targets: "
                "there must be one target for each input, and at least one"
            )
        x = torch.from_numpy(np.ascontiguousarray(_narrow(inputs)))
        y = torch.from_numpy(np.ascontiguousarray(_narrow(targets)))
        for tensor, part in ((x, "inputs"), (y, "targets")):
            if tensor.is_floating_point():
                refuse_nonfinite(tensor, f"{what}, {name} {part}")
        tensors += [x, y]
    train, train_targets, test, test_targets = tensors
    if train.shape[1:] != test.shape[1:]:
        raise InputError(
            f"{what}: test inputs of shape {tuple(test.shape[1:])} are not of the training "
            f"inputs' shape {tuple(train.shape[1:])}"
        )
    return Examples(train, train_targets, test, test_targets, objective, classes, what)


def _narrow(values: Array) -> Array:
    with np.errstate(over="ignore"):  # an overflow is refused as infinite
        return values.astype(np.float32 if values.dtype.kind == "f" else np.int64)
