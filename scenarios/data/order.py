"""Which examples are held out, and the order in which a run sees the others."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...formats.errors import InputError

_MIX = tuple(np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def stratified(labels: NDArray[np.int64], fraction: float, seed: int) -> NDArray[np.bool_]:
    """True for the `fraction` of every class (rounded to whole examples) with the lowest keys."""
    keys, held_out = shuffle_keys(seed, 0, len(labels)), np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = members[np.argsort(keys[members], kind="stable")]
        held_out[order[: round(fraction * len(members))]] = True
    return held_out


def batch_indices(seed: int, step: int, batch: int, n: int) -> Tensor:
    """Which of `n` examples step `step` trains on: (batch,) int64, from the arguments alone.

    An epoch is ⌊n/batch⌋ steps over one permutation, without replacement; the examples left over
    change with the epoch. No state is carried, so a resumed run continues exactly.

    Raises:
        InputError: the batch is empty or larger than the data, or the step negative.
    """
    if not 1 <= batch <= n:
        raise InputError(
            f"batch = {batch} must be at least 1 and at most the {n} training examples"
        )
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
