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
from tapeout.optimizers import NonFiniteGradientError, Shampoo, Shampoo4bit
from tapeout.optimizers.codec import RowCodec
from tapeout.optimizers.shampoo.chunks import chunks
from tapeout.optimizers.state import tensors_in

Array = NDArray[Any]
CODEC = RowCodec(LINEAR2_4BIT)
BOOK = np.array([-225, -169, -121, -81, -49, -25, -9, 0, 1, 9, 25, 49, 81, 121, 169, 225]) / 225


def gradient(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(0.1 * gradient(*shape, seed=99))


def nibbles(packed: Array, columns: int) -> NDArray[np.int64]:
    """Codes from bytes: the even column in the low half."""
    out = np.zeros((len(packed), columns), np.int64)
    for column in range(columns):
        out[:, column] = (packed[:, column // 2].astype(np.int64) >> 4 * (column % 2)) & 15
    return out


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


STORAGES = ["vq", "cq", "cq_ef", "eigen"]
BITS = {"linear2_3bit": 3, "linear2_4bit": 4, "dynamic_8bit": 8}


def paper_bits(n: int, storage: str, bits: int) -> int:
    """2·(b·n² + 32n·⌈n/64⌉ + 32n) a side from 4096 elements on, else 64n²; CQ has half a factor."""
    if n * n < 4096 or storage == "float32":
        return 64 * n * n
    square = bits * n * n + 32 * n * ceil(n / 64) + 32 * n
    if storage != "cq":
        return 2 * square
    return square + bits * n * (n - 1) // 2 + 32 * sum(ceil(i / 64) for i in range(n)) + 32 * n


def padding(n: int, storage: str, bits: int) -> Fraction:
    """Bytes that the last byte of every row adds to two matrices; CQ's factor is one row."""
    if n * n < 4096 or storage == "float32":
        return Fraction(0)
    square = n * (-(-n * bits // 8) - Fraction(n * bits, 8))
    codes = Fraction(n * (n - 1) // 2 * bits, 8)
    return square + (-(-codes // 1) - codes if storage == "cq" else square)


@pytest.mark.parametrize("storage", ["float32", *STORAGES])
@pytest.mark.parametrize("codebook", list(BITS))
@pytest.mark.parametrize("shape", [(64, 64), (128, 192), (64, 320), (70, 10), (65, 67)])
def test_packed_size_is_the_formula_to_the_byte(
    shape: tuple[int, int], codebook: str, storage: str
) -> None:
    bits, p = BITS[codebook], parameter(*shape)
    want = Fraction(sum(paper_bits(n, storage, bits) for n in shape), 8)
    extra = sum(padding(n, storage, bits) for n in shape)
    p.grad = gradient(*shape)
    optimizer = Shampoo([p], storage=storage, codebook=codebook)
    assert abs(optimizer.preconditioner_paper_bytes() - want) < 2
    optimizer.step()
    assert optimizer.preconditioner_bytes() == want + extra
    assert optimizer.state_bytes() == want + extra + 2 * 4 * p.numel()
    assert abs(optimizer.paper_bytes() - want - 2 * 4 * p.numel()) < 2


def test_separate_scales_take_four_more_bytes_a_row() -> None:
    taken = {}
    for scales in ("joint", "separate"):
        p = parameter(64, 128)
        p.grad = gradient(64, 128)
        optimizer = Shampoo4bit([p], scales=scales)
        optimizer.step()
        taken[scales] = optimizer.preconditioner_bytes()
        assert taken[scales] == optimizer.preconditioner_paper_bytes()
    assert taken["separate"] == taken["joint"] + 4 * (64 + 128)


@pytest.mark.parametrize("order", [1024, 1200])
def test_state_is_more_than_six_and_a_half_times_smaller(order: int) -> None:
    """Bytes that the two orders' statistics and roots really take, against float32 Shampoo's."""
    taken = {}
    for storage in ("float32", "cq_ef"):
        p = parameter(order, order)
        p.grad = gradient(order, order)
        optimizer = Shampoo([p], storage=storage)
        optimizer.step()
        taken[storage] = optimizer.preconditioner_bytes()
    assert taken["float32"] == 16 * order * order
    assert taken["float32"] >= 6.5 * taken["cq_ef"]


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


def test_without_grafting_the_step_is_the_preconditioned_gradient_itself() -> None:
    p = parameter(10, 12)
    optimizer = Shampoo(
        [p], 1.0, "sgdm", momentum=0.0, weight_decay=0.0, statistics_every=1, roots_every=1,
        grafting="none", root="eigh", root_from="fresh", beta=0.5, eps=1e-2,
    )  # fmt: skip
    p.grad, before = gradient(10, 12), p.detach().clone()
    optimizer.step()
    roots = []
    for gram in (p.grad @ p.grad.T, p.grad.T @ p.grad):
        values, vectors = torch.linalg.eigh(0.5 * 1e-2 * torch.eye(len(gram)) + 0.5 * gram)
        roots.append((vectors * (values + 1e-2 * values.max()) ** -0.25) @ vectors.T)
    torch.testing.assert_close(before - p.detach(), roots[0] @ p.grad @ roots[1])


def trained(params: list[nn.Parameter], optimizer: Shampoo4bit, steps: range) -> None:
    for step in steps:
        for i, p in enumerate(params):
            p.grad = gradient(*p.shape, seed=10 * step + i).to(p.dtype)
        optimizer.step()


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("base", ["adamw", "sgdm"])
def test_resume_is_bit_exact_and_codes_stay_packed(base: str, storage: str) -> None:
    shapes = ((64, 96), (65, 3), (9,))
    params = [parameter(*shape) for shape in shapes]
    params[0].data = params[0].data.bfloat16()
    options: dict[str, Any] = {"base": base, "storage": storage}
    options |= {"statistics_every": 2, "roots_every": 3}
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
    assert optimizer.counters == other.counters
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


@pytest.mark.parametrize("storage", ["float32", *STORAGES])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e15, 3e37])
def test_zero_tiny_and_huge_gradients_keep_the_weights_finite(scale: float, storage: str) -> None:
    p = parameter(64, 66)
    optimizer = Shampoo([p], storage=storage, statistics_every=1, roots_every=1)
    for step in range(3):
        p.grad = scale * gradient(64, 66, seed=step)
        optimizer.step()
    assert bool(torch.isfinite(p).all())
    for tensor in tensors_in(list(optimizer.state.values())):
        assert not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
    # In between, a float32 Gram matrix of less than full rank may have no Cholesky factor.
    assert optimizer.failures() > 0 or scale <= 1e15
    assert optimizer.failures() == 0 or scale >= 1e15


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
        ({"storage": "float32"}, 'storage = "float32" is not one of vq, cq, cq_ef, eigen'),
        ({"root": "eigh", "linalg": "chip"}, 'root = "eigh" is not made of a chip'),
        ({"grafting": "adam"}, 'grafting = "adam" is not one of norm, none'),
        ({"nonfinite": "ignore"}, 'nonfinite = "ignore" is not one of refuse, skip'),
    ],
)
def test_hyperparameters_are_checked(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Shampoo4bit([parameter(3, 3)], **options)
