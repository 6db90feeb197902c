"""The Vision Transformer, the digits and the schedule that the scenarios train with."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import datasets
from torch.nn.functional import cross_entropy

from tapeout.formats.errors import InputError
from tapeout.optimizers import LMD, Shampoo4bit
from tapeout.scenarios.data import batch_indices
from tapeout.scenarios.data.digits import load_digits
from tapeout.scenarios.data.examples import refuse_nonfinite
from tapeout.scenarios.models import MODELS, VisionTransformer, VitSpec, build_model
from tapeout.scenarios.schedule import cosine
from tapeout.simulator.tables import checked

SMALL: dict[str, int] = {
    "image_size": 6, "channels": 2, "patch": 3, "width": 8, "depth": 2, "heads": 2,
    "mlp_ratio": 3, "classes": 5,
}  # fmt: skip


def awake(model: VisionTransformer) -> VisionTransformer:
    """The same model with a classifier, biases and gains that are not zero or one."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=draw))
    return model


def layer_norm(x: Any, gain: Any, bias: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return gain * centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) + bias


def gelu(x: Any) -> Any:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def numpy_vit(w: dict[str, Any], image: Any, patch: int, heads: int, depth: int) -> Any:
    """The scores of one image (channels, size, size), patch by patch and head by head."""

    def linear(name: str, x: Any) -> Any:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name: str, x: Any) -> Any:
        return layer_norm(x, w[f"{name}.weight"], w[f"{name}.bias"])

    size = image.shape[1]
    corners = [(r, c) for r in range(0, size, patch) for c in range(0, size, patch)]
    cut = np.stack([image[:, r : r + patch, c : c + patch].ravel() for r, c in corners])
    x = linear("embed", cut) + w["position"]
    for i in range(depth):
        q, k, v = np.split(
            linear(f"blocks.{i}.attention.qkv", norm(f"blocks.{i}.attention_norm", x)), 3, -1
        )
        mixed = []
        for qh, kh, vh in zip(*(np.split(part, heads, -1) for part in (q, k, v)), strict=True):
            score = np.exp(qh @ kh.T / math.sqrt(qh.shape[-1]))
            mixed.append(score / score.sum(-1, keepdims=True) @ vh)
        x = x + linear(f"blocks.{i}.attention.out", np.concatenate(mixed, -1))
        inner = gelu(linear(f"blocks.{i}.mlp.up", norm(f"blocks.{i}.mlp_norm", x)))
        x = x + linear(f"blocks.{i}.mlp.down", inner)
    return linear("head", norm("norm", x).mean(0))


def test_forward_equals_numpy() -> None:
    model = awake(VisionTransformer(**SMALL)).double()
    images = torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(2)).double()
    weights = {name: p.detach().numpy() for name, p in model.named_parameters()}
    want = [numpy_vit(weights, image.numpy(), 3, 2, 2) for image in images]
    np.testing.assert_allclose(model(images).detach().numpy(), np.stack(want), rtol=1e-10)


def test_initial_weights_are_a_function_of_the_seed_alone() -> None:
    before = torch.get_rng_state()
    one, same, other = (build_model(VitSpec(), seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    pairs = list(zip(one.parameters(), same.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert any(not torch.equal(a, c) for a, _, c in pairs)
    scores = one(torch.ones(2, 1, 8, 8))
    assert torch.equal(scores, torch.zeros(2, 10))  # the classifier starts at zero


def test_names_and_orders() -> None:
    model = VisionTransformer()
    names = dict(model.named_parameters())
    assert names["blocks.1.attention.qkv.weight"].shape == (192, 64)
    assert names["blocks.0.mlp.up.weight"].shape == (128, 64)
    inner = [p for name, p in names.items() if name.startswith("blocks") and p.ndim == 2]
    assert len(inner) == 8 and min(min(p.shape) for p in inner) >= 64
    assert all(torch.isfinite(p).all() for p in names.values())


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"width": 66}, r"width = 66 is not divisible by heads = 4: choose heads among 1, 2, 3, 6"),
        ({"patch": 3}, "image_size = 8 is not divisible by patch = 3: choose patch among 1, 2, 4"),
        ({"depth": 0}, "depth = 0"),
        ({"width": 64.0}, "width = 64.0"),
        ({"kind": "vitt"}, 'kind = "vitt" is not one of vit'),
        ({"deep": 2}, 'unknown key "deep".*did you mean "depth"'),
    ],
)
def test_faulty_specifications_are_refused(table: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        checked(VitSpec, table, "a.toml, model")
    if "width" in table and isinstance(table["width"], int):
        with pytest.raises(InputError, match=words):
            VisionTransformer(**table)


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match=r"shape \(2, 1, 9, 9\) do not fit.*\(batch, 1, 8, 8\)"):
        VisionTransformer()(torch.zeros(2, 1, 9, 9))
    assert list(MODELS)[:4] == ["vit", "gpt", "mlp", "resnet"]


# --- the data ---


def test_digits_are_standardised_and_complete() -> None:
    digits = load_digits()
    train, test = digits.train_inputs, digits.test_inputs
    assert train.dtype == torch.float32 and train.shape[1:] == (1, 8, 8)
    assert train.double().mean().item() == pytest.approx(0.0, abs=1e-6)
    assert train.double().std(correction=0).item() == pytest.approx(1.0, abs=1e-6)
    bundle: Any = datasets.load_digits()
    raw = bundle.images
    both = torch.cat([train, test]).reshape(-1, 64).double()
    grey = torch.round((both - both.min()) / (both.max() - both.min()) * 16).numpy()
    assert sorted(map(tuple, grey)) == sorted(map(tuple, raw.reshape(-1, 64)))


def test_split_is_stratified_and_fixed_by_its_seed() -> None:
    digits, again, other = (load_digits(0.25, seed) for seed in (0, 0, 1))
    assert torch.equal(digits.test_inputs, again.test_inputs)
    assert not torch.equal(digits.test_targets, other.test_targets)
    for label in range(10):
        inside = sum(
            int((part == label).sum()) for part in (digits.train_targets, digits.test_targets)
        )
        assert int((digits.test_targets == label).sum()) == round(0.25 * inside)


def test_split_refuses_a_fraction_out_of_range() -> None:
    with pytest.raises(InputError, match=r"test_fraction = 1\.0"):
        load_digits(1.0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nonfinite_images_are_refused(bad: float) -> None:
    images = torch.zeros(5, 1, 2, 2)
    refuse_nonfinite(images, "digits")
    images[3, 0, 1, 1] = bad
    with pytest.raises(InputError, match=r"digits: 1 of 20 values are NaN or infinite.*example 3"):
        refuse_nonfinite(images, "digits")


def test_an_epoch_sees_every_image_once() -> None:
    epochs = [[batch_indices(7, e * 5 + i, 20, 103) for i in range(5)] for e in range(3)]
    orders = [torch.cat(epoch) for epoch in epochs]
    for order in orders:
        assert len(set(order.tolist())) == 100 and int(order.min()) >= 0 and int(order.max()) < 103
    assert not torch.equal(orders[0], orders[1]) and not torch.equal(orders[1], orders[2])
    assert len(set(range(103)) - set(torch.cat(orders).tolist())) <= 1


def test_batches_depend_on_their_arguments_alone() -> None:
    late_first = batch_indices(1, 400, 64, 1438)
    batch_indices(1, 3, 64, 1438)[:] = -1  # what a caller does to his batch stays with him
    assert torch.equal(batch_indices(1, 400, 64, 1438), late_first)
    assert int(batch_indices(1, 3, 64, 1438).min()) >= 0
    assert not torch.equal(batch_indices(2, 400, 64, 1438), late_first)
    # Fixed for good: a run resumed on another machine must draw the same images.
    keys = [splitmix(splitmix(5, 3), i) for i in range(1438)]
    order = sorted(range(1438), key=keys.__getitem__)
    assert batch_indices(5, 2 * 22 + 1, 64, 1438).tolist() == order[64:128]


def splitmix(key: int, word: int) -> int:
    """splitmix64 in Python integers; stream 0 is the split, epoch 2 is stream 3."""
    key = ((key ^ word) + 0x9E3779B97F4A7C15) % 2**64
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        key = (key ^ (key >> shift)) * factor % 2**64
    return key ^ (key >> 31)


def test_order_is_even() -> None:
    """The mean place of an image over 400 epochs: five standard errors of a uniform place."""
    n, epochs = 50, 400
    places = np.zeros(n)
    for epoch in range(epochs):
        places[batch_indices(11, epoch, n, n).numpy()] += np.arange(n)
    error = np.sqrt((n**2 - 1) / 12 / epochs)
    assert np.abs(places / epochs - (n - 1) / 2).max() < 5 * error


@pytest.mark.parametrize(("step", "batch"), [(0, 0), (0, 11), (-1, 5)])
def test_batches_that_cannot_be_are_refused(step: int, batch: int) -> None:
    with pytest.raises(InputError):
        batch_indices(0, step, batch, 10)


# --- the schedule ---


def test_cosine_schedule() -> None:
    factors = [cosine(step, 12, 2) for step in range(12)]
    assert factors[:3] == [1 / 3, 2 / 3, 1.0]
    assert factors[7] == pytest.approx(0.5)
    assert all(a > b > 0 for a, b in pairwise(factors[2:]))
    for step, steps, warmup in ((12, 12, 2), (-1, 12, 2), (0, 12, 12), (0, 12, -1)):
        with pytest.raises(InputError):
            cosine(step, steps, warmup)


# --- the three together ---


def trained_accuracy(name: str, steps: int) -> float:
    """Test accuracy after `steps` batches of 64, four patches an image, seed 0."""
    digits, model = load_digits(), VisionTransformer(patch=4)
    optimizers: dict[str, tuple[float, Callable[..., torch.optim.Optimizer]]] = {
        "adamw": (0.01, partial(torch.optim.AdamW, weight_decay=0.05)),
        "lmd": (0.02, LMD),
        "shampoo": (0.01, partial(Shampoo4bit, statistics_every=10, roots_every=20)),
    }
    rate, make = optimizers[name]
    optimizer = make(model.parameters(), lr=rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * cosine(step, steps, steps // 10)
        chosen = batch_indices(0, step, 64, len(digits.train_targets))
        scores = model(digits.train_inputs[chosen])
        optimizer.zero_grad()
        torch.autograd.backward(cross_entropy(scores, digits.train_targets[chosen]))
        optimizer.step()
    evaluated = optimizer.eval_weights() if isinstance(optimizer, LMD) else nullcontext()
    with evaluated, torch.no_grad():
        right = model(digits.test_inputs).argmax(1) == digits.test_targets
    return int(right.sum()) / len(right)


@pytest.mark.parametrize("name", ["adamw", "lmd", "shampoo"])
def test_each_optimizer_learns_the_digits(name: str) -> None:
    assert trained_accuracy(name, 100) >= 0.90
