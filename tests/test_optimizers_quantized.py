"""AdamW with quantised moments and its codecs, against torch's AdamW and a transcription."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tapeout.optimizers import AdamW4bit, AdamW8bit
from tapeout.optimizers.codebooks import (
    DYNAMIC_8BIT,
    DYNAMIC_8BIT_UNSIGNED,
    DYNAMIC_TREE_4BIT,
    INT8_ABSMAX,
    LINEAR2_8BIT,
    LINEAR_4BIT,
)
from tapeout.optimizers.moments import Blocks, RankOne

Array = NDArray[Any]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def values(book: Any) -> Array:
    return np.array([float(v) for v in book.values])


def test_codebooks_are_the_published_rules() -> None:
    assert LINEAR_4BIT.values == tuple(Fraction(i, 16) for i in range(1, 17))
    assert INT8_ABSMAX.values[128 + 5] == Fraction(5, 127) and INT8_ABSMAX.zero_code == 128
    x = -1 + 2 * np.arange(256) / 255
    want = np.sign(x) * x * x
    want[127] = 0
    np.testing.assert_allclose(values(LINEAR2_8BIT), want, rtol=1e-14)
    assert LINEAR2_8BIT.zero_code == 127


def nearest(x: Array, book: Any) -> Array:
    words = values(book)
    return np.asarray(words[np.abs(x[..., None] - words).argmin(-1)])


def blockwise(x: Array, book: Any, block: int) -> Array:
    flat, out = x.reshape(-1), np.zeros(x.size)
    for i in range(0, x.size, block):
        part = flat[i : i + block]
        peak = np.abs(part).max()
        out[i : i + block] = nearest(part / peak, book) * peak if peak else 0.0
    return out.reshape(x.shape)


def rank_one(x: Array, book: Any) -> Array:
    scale = np.full(x.shape, np.inf)
    for axis in range(x.ndim):
        others = tuple(a for a in range(x.ndim) if a != axis)
        scale = np.minimum(scale, np.abs(x).max(axis=others, keepdims=True))
    quotient = np.divide(x, scale, out=np.zeros_like(x), where=scale > 0)
    return np.asarray(nearest(quotient, book) * scale)


@pytest.mark.parametrize("shape", [(300,), (9, 33), (5, 3, 4)])
def test_blocks_and_rank_one_scales_equal_their_definitions(shape: tuple[int, ...]) -> None:
    x = random(*shape)
    x.view(-1)[:128] = 0.0
    for book in (DYNAMIC_8BIT, DYNAMIC_TREE_4BIT, INT8_ABSMAX):
        codec = Blocks(book, 128, 0)
        kept = codec.restore(codec.store(x), x).numpy()
        np.testing.assert_allclose(kept, blockwise(x.double().numpy(), book, 128), rtol=1e-6)
    squares = x * x
    codec_one = RankOne(LINEAR_4BIT, 128, 0)
    stored = codec_one.store(squares)
    want = rank_one(squares.double().numpy(), LINEAR_4BIT)
    if len(shape) == 1:
        want = blockwise(squares.double().numpy(), LINEAR_4BIT, 128)
    np.testing.assert_allclose(codec_one.restore(stored, x).numpy(), want, rtol=1e-6)
    assert isinstance(stored, dict)
    taken = sum(t.numel() * t.element_size() for t in stored.values())
    assert taken == codec_one.bytes(shape)


@pytest.mark.parametrize("optimizer", [AdamW8bit, AdamW4bit])
def test_small_tensors_step_as_torchs_adamw_to_the_bit(optimizer: Any) -> None:
    ours, theirs = nn.Parameter(random(50, 80)), nn.Parameter(random(50, 80))
    options: dict[str, Any] = {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1}
    mine = optimizer([ours], **options)
    reference = torch.optim.AdamW([theirs], **options, foreach=False)
    for step in range(10):
        for p in (ours, theirs):
            p.grad = random(50, 80, seed=step)
        mine.step()
        reference.step()
    assert torch.equal(ours, theirs)


CASES = [
    (AdamW8bit, {}, lambda m: blockwise(m, DYNAMIC_8BIT, 256),
     lambda v: blockwise(v, DYNAMIC_8BIT_UNSIGNED, 256)),
    (AdamW4bit, {}, lambda m: blockwise(m, DYNAMIC_TREE_4BIT, 128),
     lambda v: rank_one(v, LINEAR_4BIT)),
    (AdamW4bit, {"scales": "block"}, lambda m: blockwise(m, DYNAMIC_TREE_4BIT, 128),
     lambda v: blockwise(v, LINEAR_4BIT, 128)),
]  # fmt: skip


@pytest.mark.parametrize(("optimizer", "options", "keep_m", "keep_v"), CASES)
def test_every_step_equals_the_transcription(
    optimizer: Any, options: dict[str, Any], keep_m: Any, keep_v: Any
) -> None:
    """From the stored moments of the step before; a code may differ at a threshold."""
    p, lr, betas, eps, decay = nn.Parameter(random(60, 70)), 0.01, (0.9, 0.99), 1e-8, 0.1
    mine = optimizer([p], lr, betas, eps, decay, min_elements=16, **options)
    m, v = np.zeros((60, 70)), np.zeros((60, 70))
    for step in range(1, 5):
        p.grad, w = random(60, 70, seed=step), p.detach().double().numpy().copy()
        g = p.grad.double().numpy()
        mine.step()
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g * g
        unbiased = m / (1 - betas[0] ** step), v / (1 - betas[1] ** step)
        want = w * (1 - lr * decay) - lr * unbiased[0] / (np.sqrt(unbiased[1]) + eps)
        np.testing.assert_allclose(p.detach().numpy(), want, atol=2e-6)
        state = mine.state[p]
        first, second = mine._codecs(mine.param_groups[0])
        for moment, codec, stored, keep in (
            (m, first, state["first"], keep_m), (v, second, state["second"], keep_v)
        ):  # fmt: skip
            kept, told = codec.restore(stored, p).double().numpy(), keep(moment)
            assert (np.abs(kept - told) > 1e-5 * np.abs(told).max()).mean() < 0.002
        m = first.restore(state["first"], p).double().numpy()
        v = second.restore(state["second"], p).double().numpy()


@pytest.mark.parametrize(
    ("optimizer", "bytes_an_element"),
    [(AdamW8bit, 2 + 8 / 256), (AdamW4bit, 1 + 4 / 128 + 4 * 2 / 256)],
)
def test_state_takes_what_the_papers_say(optimizer: Any, bytes_an_element: float) -> None:
    p = nn.Parameter(random(256, 256))
    mine = optimizer([p])
    p.grad = random(256, 256)
    mine.step()
    assert mine.state_bytes() == mine.paper_bytes() == bytes_an_element * p.numel()
