"""Shampoo, every storage, step by step against a float64 transcription of its algorithm.

The transcription is numpy, reads the stored bytes of the step before, and knows nothing of the
product's code. Float32 factorisations differ from float64 ones by about 1e-6 of the largest
element, at most ten times that after the root; a code may differ where its number lies that close
to a threshold, which a share of the codes allows for. Another formula differs in most codes.
"""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tapeout.optimizers import Shampoo

Array = NDArray[Any]
BETA, EPS, ERROR_BETA, LR, MOMENTUM = 0.9, 0.1, 0.8, 0.5, 0.7
ORDERS = (70, 130)  # blocks 64 + 6 and 64 + 64 + 2


def linear2(bits: int) -> Array:
    x = -1 + 2 * np.arange(2**bits) / (2**bits - 1)
    values = np.sign(x) * x * x
    values[2 ** (bits - 1) - 1] = 0.0
    return np.asarray(values)


def dynamic_tree(bits: int) -> Array:
    """Midpoints of 2^i equal parts of [0.1, 1] at decade i, both signs; 0 and 1."""
    positive: list[float] = []
    for i in range(bits - 1):
        edges = np.linspace(0.1, 1, 2**i + 1)
        positive += list((edges[:-1] + edges[1:]) / 2 * 10.0 ** (i - (bits - 2)))
    return np.array(sorted([*positive, *(-v for v in positive), 0.0, 1.0]))


BOOKS = {
    "linear2_3bit": linear2(3),
    "linear2_4bit": linear2(4),
    "linear2_8bit": linear2(8),
    "dynamic_tree_3bit": dynamic_tree(3),
    "dynamic_tree_4bit": dynamic_tree(4),
    "dynamic_8bit": dynamic_tree(8),
}


class Reader:
    """Reads and predicts stored matrices of one codebook."""

    def __init__(self, codebook: str) -> None:
        self.book = BOOKS[codebook]
        self.bits = len(self.book).bit_length() - 1

    def codes(self, packed: Array, columns: int) -> NDArray[np.int64]:
        """A row is a stream of bits, least significant first."""
        bits = np.unpackbits(packed.astype(np.uint8), axis=-1, bitorder="little")
        bits = bits[:, : columns * self.bits].reshape(len(packed), columns, self.bits)
        return np.asarray(bits.astype(np.int64) @ (1 << np.arange(self.bits)))

    def nearest(self, x: Array) -> NDArray[np.int64]:
        return np.searchsorted((self.book[1:] + self.book[:-1]) / 2, x)

    def quantised(self, x: Array) -> Array:
        peaks = block_peaks(x)
        return np.asarray(self.book[self.nearest(divide(x, peaks))] * peaks)

    def square(self, stored: dict[str, Array]) -> Array:
        """Codes times scales of an (n, n) matrix without its float32 vector."""
        n = len(stored["codes"])
        scales = np.repeat(stored["scales"], 64, axis=1)[:, :n]
        for i in range(n if "cut_scales" in stored else 0):
            for j in range(i + 1, min(n, 64 * (i // 64) + 64)):
                scales[i, j] = stored["cut_scales"][i]
        return np.asarray(self.book[self.codes(stored["codes"], n)] * scales)

    def triangle(self, stored: dict[str, Array]) -> Array:
        """C of the storage that keeps the lower triangle alone."""
        n = len(stored["diagonal"])
        codes = self.codes(stored["codes"], n * (n - 1) // 2)[0]
        c, scales = np.diag(stored["diagonal"]), iter(stored["scales"])
        code, scale = iter(codes), 0.0
        for i in range(n):
            for j in range(i):
                scale = next(scales) if j % 64 == 0 else scale
                c[i, j] = self.book[next(code)] * scale
        assert next(scales, None) is None
        return np.asarray(c)


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


def off(x: Array) -> Array:
    return x - np.diag(np.diag(x))


def largest_eigenvalue(a: Array) -> float:
    """Ten power iterations from the seeded start."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(len(a), 1, generator=generator).numpy().astype(np.float64)
    eigenvalue = 0.0
    for _ in range(10):
        v = v / np.linalg.norm(v)
        eigenvalue, v = float((v.T @ a @ v).item()), a @ v
    return eigenvalue


def inverse_root(a: Array) -> Array:
    """(a + λ·ε·I)^(−1/4) by the coupled iteration."""
    n = len(a)
    a = a + largest_eigenvalue(a) * EPS * np.eye(n)
    z = 5 / (2 * np.linalg.norm(a))
    x, m = z**0.25 * np.eye(n), z * a
    error = np.abs(m - np.eye(n)).max()
    for _ in range(10):
        if error <= 1e-6:
            break
        t = 1.25 * np.eye(n) - m / 4
        m = np.linalg.matrix_power(t, 4) @ m
        before, error = error, np.abs(m - np.eye(n)).max()
        if error > 1.2 * before:
            break
        x = x @ t
    return np.asarray(x)


def bjorck(v: Array, times: int) -> Array:
    for _ in range(times):
        v = 1.5 * v - 0.5 * v @ v.T @ v
    return v


class Transcription:
    """One side: what is stored is read after every step, what the next step stores is foretold."""

    def __init__(self, storage: str, codebook: str, scales: str, n: int) -> None:
        self.storage, self.scales, self.n = storage, scales, n
        self.reader = Reader(codebook)
        self.c, self.e = np.sqrt(EPS) * np.eye(n), np.zeros((n, n))
        self.values, self.v = np.full(n, EPS), np.eye(n)

    def statistics(self) -> Array:
        if self.storage == "eigen":
            v = bjorck(self.v, 1)
            return np.asarray(v @ np.diag(self.values) @ v.T)
        if self.storage in ("float32", "vq"):
            return self.c if hasattr(self, "read") else EPS * np.eye(self.n)
        return np.asarray(self.c @ self.c.T)

    def step(self, gram: Array, stored: dict[str, Tensor], allowed: float) -> None:
        """Compare what was stored after this gram with what is foretold, then read it."""
        fresh = BETA * self.statistics() + (1 - BETA) * gram
        new = numpy_of(stored)
        getattr(self, f"_{self.storage}")(fresh, new, allowed)
        self.read = True

    def _float32(self, fresh: Array, new: dict[str, Array], allowed: float) -> None:
        np.testing.assert_allclose(new["matrix"], fresh, rtol=1e-5, atol=1e-5)
        self.c = new["matrix"]

    def _vq(self, fresh: Array, new: dict[str, Array], allowed: float) -> None:
        np.testing.assert_allclose(new["diagonal"], np.diag(fresh), rtol=1e-5)
        kept = off(self.reader.square(new))
        assert far(kept, self.reader.quantised(off(fresh))) < allowed
        self.c = kept + np.diag(new["diagonal"])

    def _cq(self, fresh: Array, new: dict[str, Array], allowed: float) -> None:
        c = np.linalg.cholesky(fresh + EPS * np.eye(self.n))
        np.testing.assert_allclose(new["diagonal"], np.diag(c), rtol=1e-5)
        self.c = self.reader.triangle(new)
        assert far(np.tril(self.c, -1), self.reader.quantised(np.tril(c, -1))) < allowed

    def _cq_ef(self, fresh: Array, new: dict[str, Array], allowed: float) -> None:
        c = np.linalg.cholesky(fresh + EPS * np.eye(self.n))
        lower = np.tril(c, -1) + self.e
        residual = lower - np.tril(self.reader.quantised(lower), -1)
        upper = (ERROR_BETA * self.e + (1 - ERROR_BETA) * residual).T
        own, theirs = block_peaks(lower), block_peaks(upper)
        below = np.arange(self.n)[:, None] >= np.arange(self.n)
        scale = np.maximum(own, theirs) if self.scales == "joint" else np.where(below, own, theirs)
        want = off(self.reader.book[self.reader.nearest(divide(lower + upper, scale))] * scale)
        np.testing.assert_allclose(new["diagonal"], np.diag(c), rtol=1e-5)
        kept = off(self.reader.square(new))
        assert far(kept, want) < allowed
        self.c, self.e = np.tril(kept) + np.diag(new["diagonal"]), np.triu(kept).T

    def _eigen(self, fresh: Array, new: dict[str, Array], allowed: float) -> None:
        p = np.linalg.qr(fresh @ bjorck(self.v, 1)).Q
        np.testing.assert_allclose(new["values"], np.diag(p.T @ fresh @ p), rtol=1e-4)
        kept = self.reader.square(new)
        assert far(kept, self.reader.quantised(p.T)) < allowed
        self.values, self.v = new["values"], kept.T

    def root(self) -> Array:
        if self.storage != "eigen":
            return inverse_root(self.statistics())
        v, values = bjorck(self.v, 4), self.values
        return np.asarray(v @ np.diag((values + EPS * values.max()) ** -0.25) @ v.T)


def far(kept: Array, want: Array) -> float:
    """The share of elements that differ by more than rounding; a code apart is far more."""
    return float((np.abs(kept - want) > 2e-5 * np.abs(want).max()).mean())


def read_root(stored: dict[str, Tensor], reader: Reader) -> Array:
    new = numpy_of(stored)
    if "matrix" in new:
        return new["matrix"]
    return np.asarray(off(reader.square(new)) + np.diag(new["diagonal"]))


CASES = [
    *[(storage, "linear2_4bit", "joint") for storage in ("float32", "vq", "cq", "cq_ef", "eigen")],
    *[(s, f"linear2_{b}bit", "joint") for s in ("vq", "cq", "cq_ef", "eigen") for b in (3, 8)],
    ("cq_ef", "linear2_4bit", "separate"),
    ("cq_ef", "dynamic_tree_4bit", "joint"),
    ("eigen", "dynamic_tree_3bit", "joint"),
    ("cq", "dynamic_8bit", "joint"),
]


@pytest.mark.parametrize(("storage", "codebook", "scales"), CASES)
def test_every_step_equals_the_transcription(storage: str, codebook: str, scales: str) -> None:
    check(storage, codebook, scales, "library")


@pytest.mark.parametrize("storage", ["cq", "cq_ef", "eigen"])
def test_factorisations_made_of_a_chips_operations_take_the_same_steps(storage: str) -> None:
    check(storage, "linear2_4bit", "joint", "chip")


def check(storage: str, codebook: str, scales: str, linalg: str) -> None:
    """Three steps with both sides renewed in each, their codes, roots and the weights."""
    generator = torch.Generator().manual_seed(1)
    p = nn.Parameter(torch.randn(ORDERS, generator=generator))
    optimizer = Shampoo(
        [p], LR, "sgdm", momentum=MOMENTUM, weight_decay=0.0, beta=BETA, eps=EPS, scales=scales,
        error_beta=ERROR_BETA, statistics_every=1, roots_every=1, storage=storage,
        codebook=codebook, linalg=linalg,
    )  # fmt: skip
    reader, buffer = Reader(codebook), np.zeros(ORDERS)
    sides = [Transcription(storage, codebook, scales, n) for n in ORDERS]
    allowed = 0.002 if reader.bits < 8 else 0.03
    for _ in range(3):
        p.grad, before = torch.randn(ORDERS, generator=generator), p.detach().double().numpy()
        before = before.copy()
        optimizer.step()
        g, roots = p.grad.double().numpy(), []
        for i, gram in enumerate((g @ g.T, g.T @ g)):
            stored = optimizer.state[p]["sides"][0][i]
            sides[i].step(gram, stored["factor"], allowed)
            root, kept = sides[i].root(), read_root(stored["root"], reader)
            np.testing.assert_allclose(np.diag(kept), np.diag(root), rtol=1e-4)
            want = root if storage == "float32" else reader.quantised(off(root))
            compared = kept if storage == "float32" else off(kept)
            assert far(compared, want) < allowed
            roots.append(kept)
        turned = roots[0] @ g @ roots[1]
        buffer = MOMENTUM * buffer + turned * np.linalg.norm(g) / np.linalg.norm(turned)
        np.testing.assert_allclose(p.detach().numpy(), before - LR * buffer, atol=1e-5)
    assert not any(optimizer.counters.values())
