"""Gradients under a float64 chip pass PyTorch's own check by finite differences."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tapeout.formats import InputError
from tapeout.simulator import emulate, load_chip, load_recipe

pytestmark = pytest.mark.usefixtures("one_thread")

CHIP = load_chip("ieee-float64")
ROLES = ("weight", "activation", "gradient", "attention", "optimizer")
PRODUCTS = ("fprop", "dgrad", "wgrad", "attention", "optimizer")
#: fp32 with float64 in its place.
FP64 = load_recipe(
    "fp32",
    {
        **{role: {"format": "float64"} for role in ROLES},
        "output": {product: "float64" for product in PRODUCTS},
    },
)


def leaf(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


CASES: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "linear": (F.linear, (leaf(3, 4), leaf(5, 4, seed=1), leaf(5, seed=2))),
    "addmm": (
        lambda c, a, b: torch.addmm(c, a, b, alpha=0.5, beta=2),
        (leaf(3, 5), leaf(3, 4, seed=1), leaf(4, 5, seed=2)),
    ),
    "bmm": (torch.bmm, (leaf(2, 3, 4), leaf(2, 4, 2, seed=1))),
    "convolution": (
        lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=1, groups=2),
        (leaf(2, 4, 5, 4), leaf(4, 2, 3, 2, seed=1), leaf(4, seed=2)),
    ),
    "transposed convolution": (
        lambda x, w: F.conv_transpose1d(x, w, stride=2, output_padding=1),
        (leaf(1, 2, 4), leaf(2, 3, 3, seed=1)),
    ),
    "attention": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        (leaf(1, 2, 3, 4), leaf(1, 2, 3, 4, seed=1), leaf(1, 2, 3, 4, seed=2)),
    ),
    "layer norm": (
        lambda x, w, b: F.layer_norm(x, (4,), w, b),
        (leaf(3, 4), leaf(4, seed=1), leaf(4, seed=2)),
    ),
    "batch norm": (
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        (leaf(3, 2, 3), leaf(2, seed=1), leaf(2, seed=2)),
    ),
    "group norm": (
        lambda x, w, b: F.group_norm(x, 2, w, b),
        (leaf(2, 4, 3), leaf(4, seed=1), leaf(4, seed=2)),
    ),
    "gelu": (F.gelu, (leaf(7),)),
    "silu": (F.silu, (leaf(7),)),
    "softmax": (lambda x: F.softmax(x, -1), (leaf(3, 4),)),
    "cross entropy": (lambda x: F.cross_entropy(x, torch.tensor([0, 3, 1])), (leaf(3, 4),)),
    "max pool": (lambda x: F.max_pool2d(x, 2, 1), (leaf(1, 2, 4, 4),)),
    "average pool": (lambda x: F.avg_pool2d(x, 2, 1, padding=1), (leaf(1, 2, 4, 4),)),
    "adaptive pool": (lambda x: F.adaptive_avg_pool2d(x, 2), (leaf(1, 2, 5, 3),)),
    "embedding": (lambda w: F.embedding(torch.tensor([0, 2, 2, 1]), w), (leaf(3, 2),)),
    "cumulative sum": (lambda x: x.cumsum(0), (leaf(4, 2),)),
    "norm": (lambda x: torch.linalg.vector_norm(x, dim=1), (leaf(3, 4),)),
    "einsum": (
        lambda a, b: torch.einsum("bij,bjk->ik", a, b),
        (leaf(2, 3, 2), leaf(2, 2, 3, seed=1)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_pass_the_check_by_differences(name: str) -> None:
    """Differences of 1e-6 resolve a slope to about 1e-9 in float64, where float32 has 0.1."""
    function, inputs = CASES[name]
    with emulate(CHIP, FP64, sample_every=1000) as trace:
        assert torch.autograd.gradcheck(function, inputs)
    assert trace.coverage()["moved"]


def test_products_are_those_of_float64() -> None:
    a, b = leaf(5, 33), leaf(33, 4, seed=1)
    with emulate(CHIP, FP64) as trace:
        result = a @ b
    assert result.dtype == torch.float64
    assert float((result - a @ b).detach().abs().max()) < 1e-13
    assert {row["format"] for row in trace.take()} == {"float64"}


def test_float64_operands_of_a_float32_recipe_are_refused() -> None:
    with emulate(CHIP, load_recipe("fp32")), pytest.raises(InputError, match=r"float64.*\.float"):
        leaf(2, 2) @ leaf(2, 2)
    with pytest.raises(InputError, match="without scaling"):
        load_recipe("fp32", {"weight": {"format": "float64", "scaling": "tensor"}})
