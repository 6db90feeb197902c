"""Scikit-learn's handwritten digits as tensors, and the order in which a run sees them.

Source: the test part of E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits",
UCI Machine Learning Repository, 1998: 1797 images of 8 x 8 pixels, grey levels 0 to 16. They
ship with scikit-learn; nothing is downloaded.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import datasets
from torch import Tensor

from ..formats.errors import InputError

_MIX = tuple(np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


@dataclass(frozen=True)
class Digits:
    """Images (n, 1, 8, 8) float32 and labels (n,) int64, split into training and test."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def load_digits(test_fraction: float = 0.2, split_seed: int = 0) -> Digits:
    """All 1797 images, split class by class so that both parts have the same class shares.

    Pixels become (x/16 − mean)/std, with one mean and one standard deviation taken over all
    pixels of the training part, computed in float64 and rounded once to float32.

    Raises:
        InputError: `test_fraction` leaves a part without some class.
    """
    if not 0.05 <= test_fraction <= 0.95:
        raise InputError(f"digits: test_fraction = {test_fraction} is not between 0.05 and 0.95")
    bundle: Any = datasets.load_digits()
    images, labels = np.asarray(bundle.images), np.asarray(bundle.target)
    held_out = stratified(labels, test_fraction, split_seed)
    pixels = images.reshape(-1, 1, 8, 8) / 16.0
    train = pixels[~held_out]
    scaled = torch.from_numpy(((pixels - train.mean()) / train.std()).astype(np.float32))
    classes, test = torch.from_numpy(labels.astype(np.int64)), torch.from_numpy(held_out)
    refuse_nonfinite(scaled, "digits")
    return Digits(scaled[~test], classes[~test], scaled[test], classes[test])


def refuse_nonfinite(images: Tensor, place: str) -> None:
    """Training data must be finite: one NaN would silently become the whole result.

    Raises:
        InputError: how many values are NaN or infinite, and the first image that holds one.
    """
    bad = ~torch.isfinite(images)
    if bad.any():
        first = int(bad.flatten(1).any(dim=1).nonzero()[0])
        raise InputError(
            f"{place}: {int(bad.sum())} of {images.numel()} values are NaN or infinite, "
            f"the first in image {first}: remove or repair these images"
        )


def stratified(labels: NDArray[np.int64], fraction: float, seed: int) -> NDArray[np.bool_]:
    """True for the `fraction` of every class (rounded to whole images) with the lowest keys."""
    keys, held_out = shuffle_keys(seed, 0, len(labels)), np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = members[np.argsort(keys[members], kind="stable")]
        held_out[order[: round(fraction * len(members))]] = True
    return held_out


def batch_indices(seed: int, step: int, batch: int, n: int) -> Tensor:
    """Which of `n` images step `step` trains on: (batch,) int64, a function of the arguments alone.

    An epoch is ⌊n/batch⌋ steps over one permutation, without replacement; the images left over
    change with the epoch. No state is carried, so a resumed run continues exactly.

    Raises:
        InputError: the batch is empty or larger than the data, or the step negative.
    """
    if not 1 <= batch <= n:
        raise InputError(f"batch = {batch} must be at least 1 and at most the {n} training images")
    if step < 0:
        raise InputError(f"step = {step} must be at least 0")
    epoch, place = divmod(step, n // batch)
    return _permutation(seed, epoch, n)[place * batch : (place + 1) * batch].clone()


@lru_cache(maxsize=8)
def _permutation(seed: int, epoch: int, n: int) -> Tensor:
    # Stream 0 of shuffle_keys orders the split; epochs start at 1.
    order = np.argsort(shuffle_keys(seed, epoch + 1, n), kind="stable")
    return torch.from_numpy(order.astype(np.int64))


def shuffle_keys(seed: int, stream: int, n: int) -> NDArray[np.uint64]:
    """`n` 64-bit keys, the splitmix64 hash of (seed, stream, index): the same on every machine.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    key = np.array([seed & 0xFFFFFFFFFFFFFFFF], np.uint64)
    for word in (np.array([stream], np.uint64), np.arange(n, dtype=np.uint64)):
        key = (key ^ word) + _MIX[0]
        for shift, factor in ((30, _MIX[1]), (27, _MIX[2])):
            key = (key ^ (key >> np.uint64(shift))) * factor
        key = key ^ (key >> np.uint64(31))
    return key
