"""Test accuracy that each optimizer reaches on handwritten digits, over five seeds.

`python -m tapeout.tests.bench.training [NAME...]` trains the Vision Transformer of the quickstart
(width 64, depth 2, 4 x 4 patches, 100 batches of 64, cosine schedule) in plain float32 at every
rate of a small grid, and prints the mean with its 95 % confidence interval (Student's t, five
seeds); all rows take a quarter of an hour on one core. The 359 test images make steps of 0.28
points, and the rate is chosen by the same images: differences below the interval say nothing.
"""

import sys
from collections.abc import Callable
from functools import partial
from math import sqrt
from statistics import mean, stdev
from typing import Any

import torch
from scipy.stats import t
from torch.nn.functional import cross_entropy

from tapeout.optimizers import SOAP, AdamW4bit, AdamW8bit, Muon, Shampoo
from tapeout.scenarios.data import batch_indices
from tapeout.scenarios.data.digits import load_digits
from tapeout.scenarios.models.vit import VisionTransformer
from tapeout.scenarios.schedule import cosine

SEEDS, STEPS, BATCH = range(5), 100, 64
OFTEN: dict[str, Any] = {"statistics_every": 10, "roots_every": 20}
DECAY: dict[str, Any] = {"weight_decay": 0.05}
Make = Callable[..., torch.optim.Optimizer]
OPTIMIZERS: dict[str, tuple[Make, tuple[float, ...]]] = {
    "adamw": (partial(torch.optim.AdamW, foreach=False, **DECAY), (0.003, 0.005, 0.01)),
    "adamw8bit": (partial(AdamW8bit, min_elements=1024, **DECAY), (0.003, 0.005, 0.01)),
    "adamw4bit": (partial(AdamW4bit, min_elements=1024, **DECAY), (0.003, 0.005, 0.01)),
    **{
        f"shampoo {storage}": (partial(Shampoo, storage=storage, **OFTEN), (0.005, 0.01))
        for storage in ("float32", "vq", "cq", "cq_ef", "eigen")
    },
    "muon": (partial(Muon, adamw_ratio=0.25), (0.01, 0.02, 0.05)),
    "soap": (SOAP, (0.003, 0.01)),
}


def accuracy(make: Make, rate: float, seed: int) -> float:
    """Share of right answers on the test images after training."""
    digits, model = load_digits(), VisionTransformer(patch=4, seed=seed)
    optimizer = make(model.parameters(), lr=rate)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = rate * cosine(step, STEPS, STEPS // 10)
        chosen = batch_indices(seed, step, BATCH, len(digits.train_targets))
        optimizer.zero_grad()
        scores = model(digits.train_inputs[chosen])
        torch.autograd.backward(cross_entropy(scores, digits.train_targets[chosen]))
        optimizer.step()
    with torch.no_grad():
        right = model(digits.test_inputs).argmax(1) == digits.test_targets
    return int(right.sum()) / len(right)


def main() -> None:
    """Print a line for every optimizer and rate."""
    print("optimizer, rate: test accuracy, %, mean of five seeds ± 95 % (each seed)")
    for name in sys.argv[1:] or OPTIMIZERS:
        make, rates = OPTIMIZERS[name]
        for rate in rates:
            found = [100 * accuracy(make, rate, seed) for seed in SEEDS]
            half = float(t.ppf(0.975, len(found) - 1)) * stdev(found) / sqrt(len(found))
            each = " ".join(f"{a:.1f}" for a in found)
            print(f"{name}, {rate:g}: {mean(found):.2f} ± {half:.2f} ({each})", flush=True)


if __name__ == "__main__":
    main()
