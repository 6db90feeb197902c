"""The user's own arrays, from a numpy .npz file."""

import zipfile
from pathlib import Path
from typing import Literal

import numpy as np

from ...formats.errors import InputError, hint
from ..location import Located
from .examples import Examples, Objective
from .split import Array, Seed, Share, class_numbers, held_out, make_examples, standardised


class NpzSpec(Located):
    """`kind = "npz"`: arrays of an .npz file, the first axis counting examples.

    Nothing in the file is executed: arrays of Python objects are refused.

    Attributes:
        inputs, targets: names of the arrays.
        test_inputs, test_targets: of the test part; without them a share is held out.
        objective: classes (whole numbers or names), or a regression.
        tokens: inputs are the whole numbers of a vocabulary, not quantities.
        scale: "standard" takes mean and deviation of the training part out of every column, or
            of every channel of images (n, channels, height, width).
    """

    kind: Literal["npz"] = "npz"
    path: str
    inputs: str = "inputs"
    targets: str = "targets"
    test_inputs: str | None = None
    test_targets: str | None = None
    objective: Objective = "classification"
    tokens: bool = False
    scale: Literal["none", "standard"] = "none"
    test_fraction: Share = 0.2
    split_seed: Seed = 0


def load_npz(spec: NpzSpec) -> Examples:
    """The arrays as examples; regression targets (n,) become (n, 1).

    Raises:
        InputError: no such file or array, lengths that differ, missing labels, values that are
            not finite; says where.
    """
    path = spec.file(spec.path)
    names = [spec.inputs, spec.targets]
    if (spec.test_inputs is None) != (spec.test_targets is None):
        raise InputError(f"{path}: test_inputs and test_targets go together")
    if spec.test_inputs is not None and spec.test_targets is not None:
        names += [spec.test_inputs, spec.test_targets]
    arrays = read_arrays(path, names)
    for name, array in zip(names, arrays, strict=True):
        if array.ndim == 0 or (name in names[::2] and array.ndim < 2):
            raise InputError(
                f"{path}, {name}: shape {array.shape} is not (examples, ...): "
                "inputs have two axes or more, targets one or more"
            )
    return arrange(arrays, spec, str(path))


def arrange(arrays: list[Array], spec: NpzSpec, place: str) -> Examples:
    """Inputs and targets, of the test part too where they are given, as examples."""
    inputs, targets = arrays[::2], arrays[1::2]
    for x, y in zip(inputs, targets, strict=True):
        if len(x) != len(y):
            raise InputError(
                f"{place}: {len(x)} inputs and {len(y)} targets: one target for each input"
            )
    inputs = [_numbers(x, spec, place) for x in inputs]
    classes, targets = _targets(inputs, targets, spec, place)
    if len(inputs) == 1:
        test = held_out(targets[0], spec.objective, spec.test_fraction, spec.split_seed, place)
        inputs = [inputs[0][~test], inputs[0][test]]
        targets = [targets[0][~test], targets[0][test]]
    if spec.scale == "standard" and not spec.tokens:
        axes = (0, 2, 3) if inputs[0].ndim == 4 else (0,)
        inputs = [standardised(x, inputs[0], axes) for x in inputs]
    parts = inputs[0], targets[0], inputs[1], targets[1]
    return make_examples(parts, spec.objective, classes, place)


def _numbers(x: Array, spec: NpzSpec, place: str) -> Array:
    if spec.tokens:
        if x.dtype.kind not in "iu" or (x.size and x.min() < 0):
            raise InputError(f"{place}: tokens are whole numbers from 0 on, not {x.dtype}")
        return x
    if x.dtype.kind not in "fiub":
        raise InputError(f"{place}: inputs of type {x.dtype} are no numbers")
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def _targets(
    inputs: list[Array], targets: list[Array], spec: NpzSpec, place: str
) -> tuple[int, list[Array]]:
    """How many classes or columns there are, and the targets as they are trained on."""
    if spec.objective == "regression":
        if any(y.dtype.kind not in "fiub" for y in targets):
            raise InputError(f"{place}: the targets of a regression are numbers")
        wide = [y.astype(np.float64).reshape(len(y), -1) for y in targets]
        return wide[0].shape[1], wide
    joined = np.concatenate([y.reshape(-1) for y in targets])
    if spec.tokens and targets[0].ndim > 1:
        top = max(int(v.max()) for v in (*inputs, *targets)) + 1
        return top, targets
    if targets[0].ndim != 1:
        raise InputError(f"{place}: classes of shape {targets[0].shape} are not one an example")
    numbers, names = class_numbers(joined, place)
    return len(names), np.split(numbers, np.cumsum([len(y) for y in targets])[:-1])


def read_arrays(path: Path, names: list[str]) -> list[Array]:
    """Those arrays of an .npz file, never unpickled.

    Raises:
        InputError: the file cannot be read, or has no such array; lists what it has.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            for name in names:
                if name not in file:
                    raise InputError(
                        f'{path}: has no array "{name}"{hint(name, file.files)}: '
                        f"it has {', '.join(file.files)}"
                    )
            return [file[name] for name in names]
    except InputError:
        raise
    except (OSError, ValueError, AttributeError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read as .npz: {error}") from None
