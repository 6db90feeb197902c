"""4-bit Shampoo against a float64 transcription, byte counts and closed forms."""

import io
from copy import deepcopy
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tapeout.formats.errors import InputError
from tapeout.formats.tables.codebook import LINEAR2_4BIT
from tapeout.optimizers import NonFiniteGradientError, Shampoo4bit
from tapeout.optimizers.codec import RowCodec
from tapeout.optimizers.shampoo import chunks

Array = NDArray[Any]
CODEC = RowCodec(LINEAR2_4BIT)
BOOK = np.array([-225, -169, -121, -81, -49, -25, -9, 0, 1, 9, 25, 49, 81, 121, 169, 225]) / 225


def gradient(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(0.1 * gradient(*shape, seed=99))


# --- the transcription, in numpy: reads the stored bytes, knows nothing of the product's code ---


def nibbles(packed: Array, columns: int) -> NDArray[np.int64]:
    """Codes from bytes: the even column in the low half."""
    out = np.zeros((len(packed), columns), np.int64)
    for column in range(columns):
        out[:, column] = (packed[:, column // 2].astype(np.int64) >> 4 * (column % 2)) & 15
    return out


def nearest(x: Array) -> NDArray[np.int64]:
    return np.asarray(np.abs(x[..., None] - BOOK).argmin(axis=-1))


def block_peaks(x: Array) -> Array:
    """max|x| of each 64 columns of a row, repeated for every element."""
    peaks = np.zeros_like(x)
    for j in range(0, x.shape[1], 64):
        peaks[:, j : j + 64] = np.abs(x[:, j : j + 64]).max(axis=1, keepdims=True)
    return peaks


def divide(x: Array, scale: Array) -> Array:
    return np.divide(x, scale, out=np.zeros_like(x), where=scale > 0)


def numpy_of(stored: dict[str, Tensor]) -> dict[str, Array]:
    return {key: value.numpy().astype(np.float64) for key, value in stored.items()}


def stored_scales(stored: dict[str, Array]) -> Array:
    n = len(stored["diagonal"])
    scales = np.repeat(stored["scales"], 64, axis=1)[:, :n]
    for i in range(n if "cut_scales" in stored else 0):
        for j in range(i + 1, min(n, 64 * (i // 64) + 64)):
            scales[i, j] = stored["cut_scales"][i]
    return scales


def read_factor(tensors: dict[str, Tensor]) -> tuple[Array, Array]:
    """C and E of a stored factor."""
    stored = numpy_of(tensors)
    n = len(stored["diagonal"])
    values = BOOK[nibbles(stored["codes"], n)] * stored_scales(stored)
    return np.tril(values, -1) + np.diag(stored["diagonal"]), np.triu(values, 1).T


def read_root(tensors: dict[str, Tensor]) -> Array:
    stored = numpy_of(tensors)
    n = len(stored["diagonal"])
    scales = np.repeat(stored["scales"], 64, axis=1)[:, :n]
    return np.asarray(BOOK[nibbles(stored["codes"], n)] * scales + np.diag(stored["diagonal"]))


def expected_factor(
    old: tuple[Array, Array], gram: Array, scales: str, beta: float, eps: float, error_beta: float
) -> tuple[Array, Array, NDArray[np.int64]]:
    """The diagonal of C, every element's scale and every element's code after one T₁ step."""
    c, e = old
    n = len(c)
    new = np.linalg.cholesky(beta * c @ c.T + (1 - beta) * gram + eps * np.eye(n))
    lower = np.tril(new, -1) + e
    own = block_peaks(lower)
    residual = lower - BOOK[nearest(divide(lower, own))] * own
    upper = (error_beta * e + (1 - error_beta) * residual).T
    theirs = block_peaks(upper)
    if scales == "joint":
        scale = np.maximum(own, theirs)
    else:
        scale = np.where(np.arange(n)[:, None] >= np.arange(n), own, theirs)
    return np.diag(new), scale, nearest(divide(lower + upper, scale))


def expected_root(factor: tuple[Array, Array], eps: float) -> Array:
    """(D·Dᵀ + λ·ε·I)^(−1/4) by the coupled iteration, λ from ten power iterations."""
    a = factor[0] @ factor[0].T
    n = len(a)
    v = torch.randn(n, 1, generator=torch.Generator().manual_seed(0)).numpy().astype(np.float64)
    eigenvalue = 0.0
    for _ in range(10):
        v = v / np.linalg.norm(v)
        eigenvalue, v = float((v.T @ a @ v).item()), a @ v
    a = a + eigenvalue * eps * np.eye(n)
    z = 5 / (2 * np.linalg.norm(a))
    x, m = z**0.25 * np.eye(n), z * a
    for _ in range(10):
        if np.abs(m - np.eye(n)).max() <= 1e-6:
            break
        t = 1.25 * np.eye(n) - m / 4
        x, m = x @ t, np.linalg.matrix_power(t, 4) @ m
    return x


def share(differs: NDArray[np.bool_]) -> float:
    return float(differs.mean())


@pytest.mark.parametrize("scales", ["joint", "separate"])
def test_every_step_equals_the_transcription(scales: str) -> None:
    """Orders 70 and 130 (blocks 64 + 6 and 64 + 64 + 2), from the stored bytes of the step before.

    Float32 factorisations differ from float64 ones by about 1e-6 of the largest element, at
    most ten times that after the root; a code may differ where its number lies that close to a
    threshold, which a share of 0.2 % allows for. Another formula differs in most codes.
    """
    p, beta, eps, error_beta, lr, momentum = parameter(70, 130), 0.9, 0.1, 0.8, 0.5, 0.7
    optimizer = Shampoo4bit(
        [p], lr, "sgdm", momentum=momentum, weight_decay=0.0, beta=beta, eps=eps, scales=scales,
        error_beta=error_beta, statistics_every=1, roots_every=1,
    )  # fmt: skip
    factors = [(np.sqrt(eps) * np.eye(n), np.zeros((n, n))) for n in (70, 130)]
    buffer = np.zeros((70, 130))
    for step in range(4):
        p.grad, before = gradient(70, 130, seed=step), p.detach().double().numpy().copy()
        optimizer.step()
        g = p.grad.double().numpy()
        roots = []
        for i, gram in enumerate((g @ g.T, g.T @ g)):
            side = optimizer.state[p]["sides"][0][i]
            stored = numpy_of(side["factor"])
            diagonal, scale, codes = expected_factor(
                factors[i], gram, scales, beta, eps, error_beta
            )
            strict = ~np.eye(len(gram), dtype=bool)
            np.testing.assert_allclose(stored["diagonal"], diagonal, rtol=1e-5)
            np.testing.assert_allclose(
                stored_scales(stored)[strict], scale[strict], rtol=1e-3, atol=1e-7
            )
            assert share((nibbles(stored["codes"], len(gram)) != codes)[strict]) < 0.002
            factors[i] = read_factor(side["factor"])
            root = expected_root(factors[i], eps)
            kept = read_root(side["root"])
            np.testing.assert_allclose(np.diag(kept), np.diag(root), rtol=1e-4)
            off = root - np.diag(np.diag(root))
            quantised = BOOK[nearest(divide(off, block_peaks(off)))] * block_peaks(off)
            away = np.abs(kept - np.diag(np.diag(kept)) - quantised) > 1e-4 * np.abs(off).max()
            assert share(away) < 0.002
            roots.append(kept)
        turned = roots[0] @ g @ roots[1]
        buffer = momentum * buffer + turned * np.linalg.norm(g) / np.linalg.norm(turned)
        np.testing.assert_allclose(p.detach().numpy(), before - lr * buffer, atol=1e-5)


def test_codec_stores_what_the_page_says() -> None:
    x = gradient(3, 70)
    x[1, :64] = 0.0
    stored = CODEC.store(x)
    codes = nibbles(stored["codes"].numpy(), 70)
    assert stored["codes"].shape == (3, 35) and stored["scales"].shape == (3, 2)
    np.testing.assert_array_equal(stored["scales"][:, 0], x[:, :64].abs().amax(1))
    np.testing.assert_array_equal(stored["scales"][:, 1], x[:, 64:].abs().amax(1))
    assert stored["scales"][1, 0] == 0 and (codes[1, :64] == 7).all()
    thresholds = [Fraction(t, 450) for t in (-394, -290, -202, -130, -74, -34, -9, 1, 10, 34, 74)]
    thresholds += [Fraction(t, 450) for t in (130, 202, 290, 394)]
    for column in range(64):
        scaled = x[0, column] * (1 / stored["scales"][0, 0])
        assert codes[0, column] == sum(Fraction(scaled.item()) > t for t in thresholds)
    want = BOOK[codes].astype(np.float32) * np.repeat(stored["scales"].numpy(), 64, 1)[:, :70]
    np.testing.assert_array_equal(CODEC.restore(stored, 70).numpy(), want)


def test_diagonal_is_exact_and_outside_the_scales() -> None:
    x = gradient(65, 65) + 1e6 * torch.eye(65)
    stored = CODEC.store_symmetric(x)
    assert torch.equal(CODEC.restore_symmetric(stored).diagonal(), x.diagonal())
    assert stored["scales"].max() < 10
    assert sum(t.numel() * t.element_size() for t in stored.values()) == CODEC.bytes(65)


@pytest.mark.parametrize(
    ("shape", "extra"),
    [((64, 64), 0), ((128, 192), 0), ((64, 1200), 0), ((70, 10), 0), ((65, 67), 65 + 67)],
)
def test_packed_size_is_the_formula_to_the_byte(shape: tuple[int, int], extra: int) -> None:
    """2·(4n² + 32n·⌈n/64⌉ + 32n) bits a side from 4096 elements on, else 64n²; odd rows padded."""
    bits = 0
    for n in shape:
        blocks = ceil(n / 64)
        bits += 2 * (4 * n * n + 32 * n * blocks + 32 * n) if n * n >= 4096 else 64 * n * n
    p = parameter(*shape)
    p.grad = gradient(*shape)
    optimizer = Shampoo4bit([p])
    assert optimizer.formula_bytes() == bits // 8
    optimizer.step()
    assert optimizer.preconditioner_bytes() == bits // 8 + extra
    assert optimizer.state_bytes() == bits // 8 + extra + 2 * 4 * p.numel()


def test_separate_scales_take_four_more_bytes_a_row() -> None:
    p = parameter(64, 128)
    p.grad = gradient(64, 128)
    optimizer = Shampoo4bit([p], scales="separate")
    optimizer.step()
    assert optimizer.preconditioner_bytes() == optimizer.formula_bytes() + 4 * (64 + 128)


@pytest.mark.parametrize(
    ("shape", "most", "sizes"),
    [
        ((150, 64), 70, [(70, 64), (70, 64), (10, 64)]),
        ((3, 1, 5, 2), 1200, [(3, 10)]),
        ((2401, 2), 1200, [(1200, 2), (1200, 2), (1, 2)]),
        ((7,), 1200, []),
        ((1, 7, 1), 1200, []),
        ((), 1200, []),
        ((0, 5), 1200, []),
    ],
)
def test_chunks(shape: tuple[int, ...], most: int, sizes: list[tuple[int, int]]) -> None:
    places = chunks(torch.Size(shape), most)
    assert [(r.stop - r.start, c.stop - c.start) for r, c in places] == sizes


def test_a_chunk_is_preconditioned_as_a_weight_of_its_own() -> None:
    whole, parts = parameter(140, 64), [parameter(70, 64) for _ in range(2)]
    together = Shampoo4bit([whole], statistics_every=1, roots_every=2, max_order=70)
    apart = Shampoo4bit(parts, statistics_every=1, roots_every=2)
    for step in range(3):
        whole.grad = gradient(140, 64, seed=step)
        for part, first in zip(parts, (0, 70), strict=True):
            part.grad = whole.grad[first : first + 70].clone()
        together.step()
        apart.step()
    for i, part in enumerate(parts):
        assert_same(together.state[whole]["sides"][i], apart.state[part]["sides"][0])


def assert_same(a: Any, b: Any) -> None:
    """Equal trees: every tensor in dtype and bits, everything else by value."""
    if isinstance(a, Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


@pytest.mark.parametrize("base", ["adamw", "sgdm"])
def test_vectors_take_the_plain_base_step(base: str) -> None:
    ours, theirs = parameter(1, 70), parameter(1, 70)
    mine = Shampoo4bit([ours], 0.1, base, weight_decay=0.05, momentum=0.8, betas=(0.8, 0.9))
    reference: torch.optim.Optimizer
    if base == "adamw":
        reference = torch.optim.AdamW([theirs], 0.1, (0.8, 0.9), 1e-8, 0.05, foreach=False)
    else:
        reference = torch.optim.SGD([theirs], 0.1, 0.8, weight_decay=0.05, foreach=False)
    for step in range(10):
        for p in (ours, theirs):
            p.grad = gradient(1, 70, seed=step)
        mine.step()
        reference.step()
    assert torch.equal(ours, theirs)


def test_grafting_keeps_the_norm_and_the_root_waits_for_its_step() -> None:
    p = parameter(64, 80)
    optimizer = Shampoo4bit(
        [p], 1.0, "sgdm", momentum=0.0, weight_decay=0.0, statistics_every=1, roots_every=3
    )
    for step in range(1, 5):
        p.grad, before = gradient(64, 80, seed=step), p.detach().clone()
        optimizer.step()
        moved = before - p.detach()
        torch.testing.assert_close(moved.norm(), p.grad.norm(), rtol=1e-5, atol=0.0)
        assert torch.allclose(moved, p.grad, atol=1e-5) == (step < 3)


def trained(params: list[nn.Parameter], optimizer: Shampoo4bit, steps: range) -> None:
    for step in steps:
        for i, p in enumerate(params):
            p.grad = gradient(*p.shape, seed=10 * step + i).to(p.dtype)
        optimizer.step()


@pytest.mark.parametrize("base", ["adamw", "sgdm"])
def test_resume_is_bit_exact_and_codes_stay_packed(base: str) -> None:
    shapes = ((64, 96), (65, 3), (9,))
    params = [parameter(*shape) for shape in shapes]
    params[0].data = params[0].data.bfloat16()
    options: dict[str, Any] = {"base": base, "statistics_every": 2, "roots_every": 3}
    optimizer = Shampoo4bit(params, 0.01, **options)
    trained(params, optimizer, range(5))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    resumed = [nn.Parameter(p.detach().clone()) for p in params]
    trained(params, optimizer, range(5, 10))

    file.seek(0)
    other = Shampoo4bit(resumed, 0.5)
    other.load_state_dict(torch.load(file, weights_only=True))
    trained(resumed, other, range(5, 10))
    for p, q in zip(params, resumed, strict=True):
        assert torch.equal(p, q)
        assert_same(optimizer.state[p], other.state[q])
    left = other.state[resumed[0]]["sides"][0][0]
    assert left["factor"]["codes"].dtype == left["root"]["codes"].dtype == torch.uint8
    assert left["factor"]["scales"].dtype == torch.float32


def test_nonfinite_gradients_change_nothing() -> None:
    params = [parameter(64, 64), parameter(5)]
    optimizer = Shampoo4bit(params, statistics_every=1, roots_every=1)
    trained(params, optimizer, range(2))
    before, weights = deepcopy(optimizer.state_dict()), [p.detach().clone() for p in params]
    params[1].grad = torch.full((5,), float("nan"))
    with pytest.raises(NonFiniteGradientError, match=r"1 of group 0, shape \(5,\), holds NaN"):
        optimizer.step()
    assert_same(optimizer.state_dict(), before)
    assert all(torch.equal(p, w) for p, w in zip(params, weights, strict=True))


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e15])
def test_zero_tiny_and_huge_gradients_keep_the_weights_finite(scale: float) -> None:
    p = parameter(64, 66)
    optimizer = Shampoo4bit([p], statistics_every=1, roots_every=1)
    for step in range(3):
        p.grad = scale * gradient(64, 66, seed=step)
        optimizer.step()
    assert bool(torch.isfinite(p).all())


def test_closure_gives_the_gradients() -> None:
    p, target = parameter(4, 3), torch.ones(4, 3)
    optimizer = Shampoo4bit([p], 0.05)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (p - target).square().sum()
        torch.autograd.backward(loss)
        return loss

    losses = [optimizer.step(closure).item() for _ in range(30)]
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": -1.0}, "lr = -1.0 is not between 0 and 10"),
        ({"base": "adam"}, 'did you mean "adamw"'),
        ({"eps": 0.0}, "eps = 0.0 is not strictly between"),
        ({"beta": 1.5}, "beta = 1.5"),
        ({"statistics_every": 0}, "statistics_every = 0 is not a whole number of at least 1"),
        ({"roots_every": 2.5}, "roots_every = 2.5"),
        ({"codebook": "linear2_3bit"}, 'codebook = "linear2_3bit" is not one of'),
        ({"min_elements": -1}, "min_elements = -1"),
    ],
)
def test_hyperparameters_are_checked(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Shampoo4bit([parameter(3, 3)], **options)
