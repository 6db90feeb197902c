"""Factorisations made of a chip's operations: against LAPACK, and under emulation."""

import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tapeout.optimizers import SOAP, Shampoo
from tapeout.optimizers.linalg import LINEAR_ALGEBRA
from tapeout.optimizers.linalg.cholesky import cholesky, lower_gram
from tapeout.optimizers.linalg.householder import orthogonal, reflection
from tapeout.simulator import emulate, load_chip, load_recipe


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def positive(order: int, dtype: torch.dtype = torch.float32) -> Tensor:
    x = random(order, 2 * order).to(dtype)
    return x @ x.T / order


ORDERS = pytest.mark.parametrize("order", [1, 2, 5, 31, 32, 33, 70, 130])


@ORDERS
def test_cholesky_is_that_of_numpy(order: int) -> None:
    a = positive(order, torch.float64)
    factor = cholesky(a)
    assert factor is not None
    np.testing.assert_allclose(factor.numpy(), np.linalg.cholesky(a.numpy()), atol=1e-12)


@ORDERS
def test_orthogonal_factor_is_that_of_numpy_with_its_signs(order: int) -> None:
    a = random(order, order).double()
    q = orthogonal(a)
    np.testing.assert_allclose(q.numpy(), np.linalg.qr(a.numpy()).Q, atol=1e-10)
    torch.testing.assert_close(q.T @ q, torch.eye(order, dtype=q.dtype), atol=1e-12, rtol=0)


@ORDERS
def test_gram_of_a_triangle_is_the_product_and_symmetric(order: int) -> None:
    c = random(order, order).tril()
    product = lower_gram(c, block=32)
    torch.testing.assert_close(product, c @ c.T)
    assert torch.equal(product, product.T)


@pytest.mark.parametrize("name", ["library", "chip"])
def test_what_has_no_factor_gives_none(name: str) -> None:
    algebra = LINEAR_ALGEBRA[name]
    for row, value in ((0, -1.0), (40, 0.0), (69, float("nan")), (3, float("inf"))):
        a = torch.eye(70)
        a[row, row] = value
        assert algebra.cholesky(a) is None
    assert algebra.cholesky(torch.eye(70)) is not None


def test_orthogonal_factor_of_what_has_less_than_full_rank_or_is_already_triangular() -> None:
    for a in (
        torch.zeros(40, 40),
        torch.eye(40),
        random(40, 1) @ random(1, 40),
        3.0 * torch.eye(1),
    ):
        q = orthogonal(a)
        torch.testing.assert_close(q.T @ q, torch.eye(len(a)), atol=1e-5, rtol=0)
    assert torch.equal(orthogonal(torch.eye(40)), torch.eye(40))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_reflection_keeps_the_first_axis_alone_at_every_scale(scale: float) -> None:
    x = scale * random(50)
    v, tau = reflection(x)
    turned = x - tau * v * (v @ x)
    want = torch.zeros(50)
    want[0] = -x.sign()[0] * (x / scale).norm() * scale
    torch.testing.assert_close(turned / scale, want / scale, atol=1e-5, rtol=0)


def test_orthogonal_iterations_find_the_eigenvectors() -> None:
    q = torch.linalg.qr(random(24, 24).double()).Q
    a = (q * torch.logspace(0, -11, 24, dtype=q.dtype)) @ q.T
    for name in ("library", "chip"):
        found = LINEAR_ALGEBRA[name].eigenvectors(a)
        assert found is not None
        overlap = (found.T @ q).abs()
        torch.testing.assert_close(overlap, torch.eye(24, dtype=q.dtype), atol=1e-2, rtol=0)


def stepped(
    build: Callable[[nn.Parameter], torch.optim.Optimizer],
    chip: str,
    recipe: str,
    shape: tuple[int, int] = (66, 70),
) -> tuple[Tensor, dict[str, dict[str, int]]]:
    p = nn.Parameter(0.1 * random(*shape))
    optimizer = build(p)
    with emulate(load_chip(chip), load_recipe(recipe)) as trace:
        for step in range(2):
            p.grad = random(*shape, seed=step)
            optimizer.step()
    return p.detach(), trace.coverage()


@pytest.mark.parametrize("storage", ["cq_ef", "cq", "vq", "eigen"])
def test_shampoo_runs_end_to_end_on_the_chip(storage: str) -> None:
    """No operation is left to a library: all are products, exact operations, sums or moves."""

    def build(p: nn.Parameter, linalg: str = "chip") -> Shampoo:
        return Shampoo(
            [p], 0.1, statistics_every=1, roots_every=1, storage=storage, linalg=linalg, eps=1e-2
        )

    stepped_on_chip, coverage = stepped(build, "nvidia-h100", "fp32")
    assert {"mm", "sqrt", "sum", "div"} <= set(coverage["bit_exact"])
    assert not coverage["native"] and not coverage["rounded_once"]
    plain = nn.Parameter(0.1 * random(66, 70))
    optimizer = build(plain, "library")
    for step in range(2):
        plain.grad = random(66, 70, seed=step)
        optimizer.step()
    assert not torch.equal(stepped_on_chip, plain)
    # A step is 0.1 an element; few codes fall on the other side of a threshold.
    assert float((stepped_on_chip - plain.detach()).abs().mean()) < 0.005


def test_products_of_a_step_take_the_recipes_format(tmp_path: Path) -> None:
    """With bfloat16 for the optimizer's products the factor is another, its format the same."""
    text = (files("tapeout.simulator") / "recipes" / "fp32.toml").read_text()
    coarse = tmp_path / "coarse.toml"
    optimizer = re.compile(r"^optimizer = .*$", re.MULTILINE)
    assert len(optimizer.findall(text)) == 1
    coarse.write_text(optimizer.sub('optimizer = { format = "bfloat16" }', text))

    def build(p: nn.Parameter) -> Shampoo:
        return Shampoo([p], 0.1, statistics_every=1, roots_every=1, linalg="chip", eps=1e-2)

    fine, rough = (stepped(build, "nvidia-h100", recipe)[0] for recipe in ("fp32", str(coarse)))
    assert 0 < float((fine - rough).abs().mean()) < 0.05


def test_soap_on_the_chip_uses_no_library() -> None:
    _, coverage = stepped(
        lambda p: SOAP([p], linalg="chip", frequency=1), "nvidia-h100", "fp32", (12, 33)
    )
    assert not coverage["native"] and not coverage["rounded_once"]
