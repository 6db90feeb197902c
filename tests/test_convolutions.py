"""Convolutions as implicit products: against PyTorch, and bit for bit against sums written out."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tapeout.formats import quantize
from tapeout.simulator import emulate, load_chip, load_recipe

IEEE, FP32 = load_chip("ieee-float32"), load_recipe("fp32")
H100, BF16 = load_chip("nvidia-h100"), load_recipe("bf16")

#: (dimensions, input, channels in, channels out, kernel, options)
FORWARD: list[tuple[int, tuple[int, ...], int, int, tuple[int, ...], dict[str, Any]]] = [
    (1, (9,), 3, 4, (3,), {}),
    (1, (11,), 4, 4, (4,), {"stride": 3, "padding": 2, "dilation": 2, "groups": 2}),
    (1, (8,), 2, 3, (3,), {"padding": "same", "dilation": 2}),
    (2, (6, 7), 3, 4, (3, 2), {"stride": (2, 1), "padding": (1, 0)}),
    (2, (7, 7), 4, 6, (3, 3), {"stride": 2, "padding": 1, "groups": 2}),
    (2, (6, 6), 4, 8, (3, 3), {"padding": 1, "groups": 4}),  # depthwise, two filters a channel
    (2, (5, 5), 3, 2, (1, 1), {"stride": 2}),
    (2, (9, 8), 2, 2, (3, 3), {"dilation": (2, 3), "padding": (0, 4)}),
    (3, (4, 5, 4), 2, 3, (2, 3, 2), {"stride": (1, 2, 1), "padding": (1, 1, 0)}),
]
TRANSPOSED: list[tuple[int, tuple[int, ...], int, int, tuple[int, ...], dict[str, Any]]] = [
    (1, (5,), 3, 4, (3,), {}),
    (1, (5,), 4, 2, (4,), {"stride": 3, "padding": 1, "output_padding": 2, "groups": 2}),
    (2, (4, 3), 3, 2, (3, 2), {"stride": 2, "padding": 1, "output_padding": 1}),
    (2, (4, 4), 4, 4, (3, 3), {"groups": 4, "dilation": 2, "padding": 3}),
    (3, (2, 3, 2), 2, 3, (2, 2, 3), {"stride": 2}),
]
CASES = [(False, *case) for case in FORWARD] + [(True, *case) for case in TRANSPOSED]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tensors(case: Any, images: int = 3) -> tuple[Any, list[torch.Tensor]]:
    """The operation, and its input, filters and bias."""
    transposed, dims, size, channels, outputs, kernel, options = case
    groups = options.get("groups", 1)
    name = f"conv_transpose{dims}d" if transposed else f"conv{dims}d"
    pair = (channels, outputs // groups) if transposed else (outputs, channels // groups)
    values = [random(images, channels, *size), random(*pair, *kernel, seed=1)]

    def operation(*args: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = getattr(F, name)(*args, **options)
        return y

    return operation, [*values, random(outputs, seed=2)]


def near(got: torch.Tensor, wanted: torch.Tensor) -> bool:
    return bool((got.double() - wanted).abs().max() <= 2e-6 * max(1.0, wanted.abs().max().item()))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{'T' * case[0]}{case[1]}d{case[6]}")
def test_result_and_gradients_are_those_of_pytorch_in_float64(case: Any) -> None:
    operation, values = tensors(case)
    wide = [v.double().requires_grad_() for v in values]
    wanted = operation(*wide)
    gradient = random(*wanted.shape, seed=3)
    wanted.backward(gradient.double())
    narrow = [v.clone().requires_grad_() for v in values]
    with emulate(IEEE, FP32) as trace:
        y = operation(*narrow)
        y.backward(gradient)
    assert near(y, wanted)
    for got, exact in zip(narrow, wide, strict=True):
        assert got.grad is not None and exact.grad is not None
        assert got.grad.shape == exact.shape and near(got.grad, exact.grad)
    assert any("convolutions" in text for text in trace.assumptions())
    assert "convolution" in trace.coverage()["bit_exact"]


def written_out(
    x: np.ndarray, w: np.ndarray, stride: int, padding: int, groups: int
) -> tuple[np.ndarray, np.ndarray]:
    """The operands of every dot product of a 2-D convolution: (N, P, Q, O, K) twice, pixel by
    pixel with k = ((r S + s) C + c)."""
    images, _, height, width = x.shape
    outputs, each, rows, columns = w.shape
    high = (height + 2 * padding - rows) // stride + 1
    wide = (width + 2 * padding - columns) // stride + 1
    left = np.zeros((images, high, wide, outputs, rows * columns * each), np.float32)
    right = np.zeros_like(left)
    for n, p, q, o in np.ndindex(images, high, wide, outputs):
        first = o // (outputs // groups) * each
        for k in range(rows * columns * each):
            r, s, c = k // (columns * each), k // each % columns, k % each
            i, j = stride * p + r - padding, stride * q + s - padding
            right[n, p, q, o, k] = w[o, c, r, s]
            if 0 <= i < height and 0 <= j < width:
                left[n, p, q, o, k] = x[n, first + c, i, j]
    return left, right


@pytest.mark.parametrize("groups", [1, 2])
def test_forward_bits_are_the_units_own_in_the_stated_order(groups: int) -> None:
    """H100's alignment and truncation make the sum depend on the order of k."""
    x, w = random(2, 8, 5, 5) * torch.exp(random(8, 1, 1, seed=5) * 3), random(4, 8 // groups, 3, 3)
    with emulate(H100, BF16):
        y = F.conv2d(x, w, None, stride=2, padding=1, groups=groups)
    a, b = (quantize(v.numpy(), "bfloat16") for v in (x, w))
    unit = H100.matrix_unit("bfloat16", "bfloat16", instruction="wgmma")
    left, right = written_out(a, b, 2, 1, groups)
    sums = quantize(unit.reference.dot(left, right), "bfloat16")
    assert np.array_equal(y.numpy(), sums.transpose(0, 3, 1, 2))
    other = np.flip(left, -1), np.flip(right, -1)
    assert not np.array_equal(unit.reference.dot(*other), unit.reference.dot(left, right))


def test_gradient_bits_are_the_units_own_in_the_stated_order() -> None:
    x, w = random(2, 3, 5, 6).requires_grad_(), random(4, 3, 3, 2, seed=1).requires_grad_()
    with emulate(H100, BF16):
        y = F.conv2d(x, w, None, stride=(2, 1), padding=(1, 0))
        g = random(*y.shape, seed=2)
        torch.autograd.backward(y, g)
    unit = H100.matrix_unit("bfloat16", "bfloat16", instruction="wgmma")
    xs, ws, gs = (quantize(v.detach().numpy(), "bfloat16") for v in (x, w, g))
    padded = np.pad(xs, ((0, 0), (0, 0), (1, 1), (0, 0)))
    assert x.grad is not None and w.grad is not None
    for o, c, r, s in np.ndindex(4, 3, 3, 2):  # wgrad: k = (n, p, q)
        window = padded[:, c, r : r + 5 : 2, s : s + 5]
        dot = unit.reference.dot(gs[:, o].reshape(-1), np.ascontiguousarray(window).reshape(-1))
        assert w.grad[o, c, r, s] == float(dot)
    for n, c, i, j in np.ndindex(1, 3, 5, 6):  # dgrad: k = ((r S + s) O + o)
        left, right = np.zeros((2, 3, 2, 4), np.float32)
        for r, s in np.ndindex(3, 2):
            p, rest = divmod(i + 1 - r, 2)
            q = j - s
            right[r, s] = ws[:, c, r, s]
            if rest == 0 and 0 <= p < 3 and 0 <= q < 5:
                left[r, s] = gs[n, :, p, q]
        dot = quantize(unit.reference.dot(left.reshape(-1), right.reshape(-1)), "bfloat16")
        assert x.grad[n, c, i, j] == float(dot)


@pytest.mark.parametrize("chip", ["generic-fp8-sr", "ieee-float32", "nvidia-h100"])
def test_bias_joins_as_the_chip_says(chip: str) -> None:
    x, w, bias = random(1, 2, 3, 3), random(4, 2, 3, 3, seed=1), random(4, seed=2) * 1e3
    c = load_chip(chip)
    with emulate(c, FP32):
        y = F.conv2d(x, w, bias).flatten()
    unit = c.matrix_unit("float32", "float32")
    a = x.permute(0, 2, 3, 1).reshape(1, -1).numpy()
    b = np.ascontiguousarray(w.permute(0, 2, 3, 1).reshape(4, -1).numpy().T)
    start = bias.numpy()[None] if c.vector_unit.bias == "accumulator" else None
    sums = unit.matmul(a, b, start)[0]
    assert np.array_equal(y.numpy(), sums if start is not None else sums + bias.numpy())


def test_sixteen_bit_tensors_stay_sixteen_bit() -> None:
    x = random(2, 4, 5, 5).bfloat16().requires_grad_()
    layer = nn.Conv2d(4, 3, 3).bfloat16()
    with emulate(IEEE, FP32, model=layer):
        y = layer(x)
        y.sum().backward()
    exact = F.conv2d(x.double(), layer.weight.double(), layer.bias.double())  # type: ignore[union-attr]
    assert y.dtype == torch.bfloat16 and x.grad is not None and x.grad.dtype == torch.bfloat16
    assert torch.allclose(y.double(), exact, rtol=2**-8, atol=1e-6)
    assert layer.weight.grad is not None and layer.weight.grad.dtype == torch.bfloat16


def test_layouts_and_empty_batches() -> None:
    x, w = random(2, 4, 6, 6), random(3, 4, 3, 3, seed=1)
    with emulate(IEEE, FP32):
        plain = F.conv2d(x, w)
        last = F.conv2d(x.to(memory_format=torch.channels_last), w)
        single = F.conv2d(x[0], w)
        w.requires_grad_()
        none = F.conv2d(x[:0], w, torch.ones(3))
        none.sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(plain, last) and torch.equal(plain[0], single)
    assert none.shape == (0, 3, 4, 4) and w.grad is not None and not w.grad.any()


def test_bad_shapes_raise_what_pytorch_raises() -> None:
    for x, w in (
        (random(1, 3, 4, 4), random(2, 4, 3, 3)),
        (random(1, 3, 2, 2), random(2, 3, 3, 3)),
    ):
        with pytest.raises(RuntimeError) as plain:
            F.conv2d(x, w)
        with emulate(IEEE, FP32), pytest.raises(RuntimeError) as emulated:
            F.conv2d(x, w)
        assert str(emulated.value) == str(plain.value)


def test_a_second_derivative() -> None:
    def penalty(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        y = torch.tanh(F.conv2d(x, w, padding=1)).sum()
        (slope,) = torch.autograd.grad(y, x, create_graph=True)
        return slope.square().sum()

    x, w = random(2, 2, 5, 5), random(3, 2, 3, 3, seed=1)
    wide = [v.double().requires_grad_() for v in (x, w)]
    penalty(*wide).backward()  # type: ignore[no-untyped-call]
    narrow = [v.clone().requires_grad_() for v in (x, w)]
    with emulate(IEEE, FP32):
        penalty(*narrow).backward()  # type: ignore[no-untyped-call]
    for got, exact in zip(narrow, wide, strict=True):
        assert got.grad is not None and exact.grad is not None
        assert torch.allclose(got.grad.double(), exact.grad, rtol=1e-4, atol=1e-4)
