"""Muon and SOAP against float64 transcriptions of their papers' equations, and torch's Muon."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tapeout.formats import InputError
from tapeout.optimizers import SOAP, Muon
from tapeout.optimizers.muon import orthogonalised

Array = NDArray[Any]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def newton_schulz(m: Array, iterations: int) -> Array:
    x = m / (np.linalg.norm(m) + 1e-7)
    x = x.T if len(m) > m.shape[1] else x
    for _ in range(iterations):
        a = np.einsum("ik,jk->ij", x, x)
        x = 3.4445 * x + np.einsum(
            "ik,kj->ij", -4.7750 * a + 2.0315 * np.einsum("ik,kj->ij", a, a), x
        )
    return np.asarray(x.T if len(m) > m.shape[1] else x)


@pytest.mark.parametrize("shape", [(12, 20), (20, 12), (8, 2, 3, 3)])
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("adjust_lr", ["original", "match_rms_adamw"])
def test_every_step_of_muon_equals_the_transcription(
    shape: tuple[int, ...], nesterov: bool, adjust_lr: str
) -> None:
    p, lr, mu, decay = nn.Parameter(random(*shape)), 0.05, 0.9, 0.1
    optimizer = Muon([p], lr, mu, decay, nesterov=nesterov, adjust_lr=adjust_lr)
    rows, columns = shape[0], p.numel() // shape[0]
    ratio = max(1, rows / columns) ** 0.5
    if adjust_lr == "match_rms_adamw":
        ratio = 0.2 * max(rows, columns) ** 0.5
    buffer, w = np.zeros((rows, columns)), p.detach().double().numpy().reshape(rows, -1).copy()
    for step in range(10):
        p.grad = random(*shape, seed=step)
        optimizer.step()
        g = p.grad.double().numpy().reshape(rows, -1)
        buffer = mu * buffer + (1 - mu) * g
        mean = mu * buffer + (1 - mu) * g if nesterov else buffer
        w = w * (1 - lr * decay) - lr * ratio * newton_schulz(mean, 5)
        np.testing.assert_allclose(p.detach().numpy().reshape(rows, -1), w, atol=3e-5)


@pytest.mark.parametrize("adjust_lr", ["original", "match_rms_adamw"])
def test_muon_is_torchs_within_its_bfloat16(adjust_lr: str) -> None:
    """torch computes the iteration in bfloat16, whose ulp at 1 is 2^-7."""
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    ours, theirs = nn.Parameter(random(24, 16)), nn.Parameter(random(24, 16))
    mine = Muon([ours], 0.1, 0.95, 0.1, adjust_lr=adjust_lr)
    reference = torch.optim.Muon(
        [theirs], 0.1, 0.1, momentum=0.95, nesterov=True, adjust_lr_fn=adjust_lr
    )
    start = ours.detach().clone()
    for step in range(5):
        for p in (ours, theirs):
            p.grad = random(24, 16, seed=step)
        mine.step()
        reference.step()  # type: ignore[no-untyped-call]
    moved = (theirs - start).norm()
    assert float((ours - theirs).detach().norm() / moved.detach()) < 0.03


def test_newton_schulz_brings_singular_values_near_one() -> None:
    u, _, v = torch.linalg.svd(random(30, 50), full_matrices=False)
    spread = (u * torch.logspace(-1.5, 0, 30)) @ v
    values = torch.linalg.svdvals(orthogonalised(spread, 5, 1e-7))
    assert 0.5 < float(values.min()) and float(values.max()) < 1.3
    assert torch.equal(orthogonalised(torch.zeros(3, 5), 5, 1e-7), torch.zeros(3, 5))


def test_vectors_and_groups_named_adamw_take_adamw_steps() -> None:
    ours = [nn.Parameter(random(1, 9)), nn.Parameter(random(6, 5))]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    groups = [{"params": ours[:1]}, {"params": ours[1:], "rule": "adamw"}]
    mine = Muon(groups, 0.02, adamw_ratio=0.5, betas=(0.8, 0.9), adamw_eps=1e-9, weight_decay=0.1)
    reference = torch.optim.AdamW(theirs, 0.01, (0.8, 0.9), 1e-9, 0.1, foreach=False)
    for step in range(5):
        for i, p in enumerate((*ours, *theirs)):
            p.grad = random(*p.shape, seed=10 * step + i % 2)
        mine.step()
        reference.step()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_int8_momentum_keeps_the_direction() -> None:
    ours, exact = nn.Parameter(random(64, 80)), nn.Parameter(random(64, 80))
    start = ours.detach().clone()
    for p, storage in ((ours, "int8"), (exact, "float32")):
        optimizer = Muon([p], storage=storage)
        for step in range(5):
            p.grad = random(64, 80, seed=step)
            optimizer.step()
    assert optimizer.state_bytes() == 4 * 64 * 80
    moved = float((exact - start).detach().norm())
    assert 0 < float((ours - exact).detach().norm()) < 0.05 * moved


@pytest.mark.parametrize("linalg", ["library", "chip"])
def test_every_step_of_soap_equals_the_transcription(linalg: str) -> None:
    """Bases are read from the state after each renewal, and are the QR factors foretold."""
    shape, lr, (b1, b2), eps, decay = (10, 14), 0.05, (0.9, 0.8), 1e-8, 0.1
    p = nn.Parameter(random(*shape))
    optimizer = SOAP([p], lr, (b1, b2), eps, decay, frequency=2, linalg=linalg)
    m, v, w = np.zeros(shape), np.zeros(shape), p.detach().double().numpy().copy()
    grams = [np.zeros((n, n)) for n in shape]
    bases: list[Array] = []
    for step in range(6):
        p.grad = random(*shape, seed=step)
        optimizer.step()
        g = p.grad.double().numpy()
        if step:
            turned = bases[0].T @ g @ bases[1]
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * turned**2
            mean = bases[0].T @ m @ bases[1] / (1 - b1**step)
            normal = mean / (np.sqrt(v / (1 - b2**step)) + eps)
            w = w * (1 - lr * decay) - lr * bases[0] @ normal @ bases[1].T
        np.testing.assert_allclose(p.detach().numpy(), w, atol=1e-4)
        grams = [b2 * a + (1 - b2) * n for a, n in zip(grams, (g @ g.T, g.T @ g), strict=True)]
        kept = [side["basis"].double().numpy() for side in optimizer.state[p]["sides"]]
        for i in range(2 if step else 0):
            q = np.linalg.qr(grams[i] @ bases[i]).Q if step % 2 == 0 else bases[i]
            rank = 10  # of the right side's statistics in the first steps: the rest is arbitrary
            np.testing.assert_allclose(kept[i][:, : rank // 2], q[:, : rank // 2], atol=1e-3)
        bases = kept
    for side, n in zip(bases, shape, strict=True):
        np.testing.assert_allclose(side.T @ side, np.eye(n), atol=1e-5)


def test_first_gradient_of_soap_begins_the_bases_and_moves_nothing() -> None:
    p = nn.Parameter(random(6, 8))
    before = p.detach().clone()
    optimizer = SOAP([p])
    p.grad = random(6, 8)
    optimizer.step()
    left, right = (side["basis"] for side in optimizer.state[p]["sides"])
    assert torch.equal(p, before)
    diagonal = left.T @ p.grad @ right
    off = diagonal.abs() - torch.diag(diagonal.diagonal().abs())[:, :6] @ torch.eye(6, 8)
    assert float(off.abs().max()) < 1e-4  # the singular vectors of G itself


def test_a_side_that_is_too_long_has_no_basis() -> None:
    p = nn.Parameter(random(6, 40))
    optimizer = SOAP([p], max_order=20)
    for step in range(3):
        p.grad = random(6, 40, seed=step)
        optimizer.step()
    left, right = optimizer.state[p]["sides"]
    assert left["basis"].shape == (6, 6) and right == {}
    assert optimizer.state_bytes() == optimizer.paper_bytes() == 4 * (2 * 36 + 2 * 240)


@pytest.mark.parametrize(
    ("build", "options", "words"),
    [
        (Muon, {"iterations": 0}, "iterations = 0 is not a whole number of at least 1"),
        (Muon, {"nesterov": 1}, "nesterov = 1 is not one of True, False"),
        (Muon, {"storage": "int4"}, 'storage = "int4" is not one of float32, int8'),
        (SOAP, {"frequency": 0}, "frequency = 0"),
        (SOAP, {"betas": (0.9, 1.0)}, "must lie below 1"),
        (SOAP, {"linalg": "gpu"}, 'linalg = "gpu" is not one of library, chip'),
    ],
)
def test_hyperparameters_are_checked(build: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        build([nn.Parameter(random(3, 3))], **options)
