"""Roles and modules of matrix products, found without help: by hand counts."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tapeout.optimizers import Shampoo4bit
from tapeout.simulator import emulate, load_chip, load_recipe

IEEE, FP32 = load_chip("ieee-float32"), load_recipe("fp32")
H100, FP8 = load_chip("nvidia-h100"), load_recipe("fp8")
INT4_CHIP, INT4 = load_chip("generic-int4"), load_recipe("int4")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Block(nn.Module):
    """One attention of two products, and two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        out: torch.Tensor = self.out(torch.softmax(q @ k.mT, -1) @ v)
        return out


def products(model: nn.Module, run: Callable[[], Any]) -> Counter[tuple[str, str]]:
    with emulate(H100, load_recipe("bf16"), model=model) as trace:
        run()
    rows = [r for r in trace.take() if r["operand"] == "output"]
    return Counter({(r["module"], r["gemm"]): r["calls"] for r in rows})


LAYERS = {("qkv", "fprop"): 1, ("out", "fprop"): 1, ("qkv", "wgrad"): 1, ("out", "wgrad"): 1,
          ("out", "dgrad"): 1, ("", "fprop"): 2, ("", "dgrad"): 4}  # fmt: skip


def test_roles_of_every_product_by_a_hand_count() -> None:
    block, x = Block(), random(2, 5, 8)
    assert products(block, lambda: block(x).sum().backward()) == LAYERS
    leaf = x.clone().requires_grad_()
    assert products(block, lambda: block(leaf).sum().backward()) == LAYERS | {("qkv", "dgrad"): 1}
    gradient = random(2, 5, 8, seed=4)
    assert products(block, lambda: block(x).backward(gradient)) == LAYERS
    accumulated = products(block, lambda: [block(x).sum().backward() for _ in range(3)])
    assert accumulated == {key: 3 * n for key, n in LAYERS.items()}


def test_roles_under_checkpointing_and_without_a_model() -> None:
    block, x = Block(), random(2, 5, 8).requires_grad_()
    # Recomputation stops once the input of the last product is there again.
    twice = {("qkv", "fprop"): 2, ("", "fprop"): 4}
    run = lambda: checkpoint(block, x, use_reentrant=False).sum().backward()  # noqa: E731
    assert products(block, run) == LAYERS | twice | {("qkv", "dgrad"): 1}
    with emulate(H100, load_recipe("bf16")) as trace:
        block(x).sum().backward()
    gemms = Counter(r["gemm"] for r in trace.take() if r["operand"] == "output")
    assert set(gemms) == {"fprop", "dgrad", "wgrad"}


def test_user_gradient_of_a_bare_product_is_a_gradient() -> None:
    w = nn.Linear(4, 3, bias=False)
    x = random(5, 4).requires_grad_()
    with emulate(H100, FP8, model=w) as trace:
        torch.autograd.grad(w(x), [x, w.weight], random(5, 3))
    formats = {(r["gemm"], r["operand"]): r["format"] for r in trace.take()}
    assert formats["dgrad", "gradient"] == formats["wgrad", "gradient"] == "float8_e5m2"
    assert formats["wgrad", "activation"] == formats["dgrad", "weight"] == "float8_e4m3fn"


def test_products_inside_an_optimizer_step_are_the_optimizers() -> None:
    layer = nn.Linear(64, 64)
    opt = Shampoo4bit(layer.parameters(), statistics_every=1, roots_every=1)
    with emulate(H100, FP8, model=layer) as trace:
        layer(random(8, 64)).sum().backward()
        trace.take()
        opt.step()
    rows = [r for r in trace.take() if r["operand"] == "output"]
    assert rows and {r["gemm"] for r in rows} == {"optimizer"}


def test_a_closure_inside_an_optimizer_step_has_its_own_roles() -> None:
    layer = nn.Linear(8, 8)
    opt = torch.optim.LBFGS(layer.parameters(), max_iter=2)

    def closure() -> torch.Tensor:
        opt.zero_grad()
        loss: torch.Tensor = layer(random(4, 8)).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with emulate(H100, load_recipe("bf16"), model=layer) as trace:
        opt.step(closure)  # type: ignore[no-untyped-call]
    gemms = Counter(r["gemm"] for r in trace.take() if r["operand"] == "output")
    assert set(gemms) == {"fprop", "wgrad", "optimizer"}
