"""Scikit-learn's handwritten digits as tensors.

Source: the test part of E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits",
UCI Machine Learning Repository, 1998: 1797 images of 8 x 8 pixels, grey levels 0 to 16. They
ship with scikit-learn; nothing is downloaded.
"""

from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from sklearn import datasets

from ...formats.errors import InputError
from ...simulator.tables import Row
from .examples import Examples, refuse_nonfinite
from .order import stratified
from .split import Seed, Share


class DigitsSpec(Row):
    """`kind = "digits"`: the handwritten digits and how they are split."""

    kind: Literal["digits"] = "digits"
    test_fraction: Share = 0.2
    split_seed: Seed = 0


@lru_cache(maxsize=4)
def load_digits(test_fraction: float = 0.2, split_seed: int = 0) -> Examples:
    """All 1797 images (n, 1, 8, 8), split so that both parts have the same class shares.

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
    parts = scaled[~test], classes[~test], scaled[test], classes[test]
    return Examples(*parts, "classification", 10, "the digits")
