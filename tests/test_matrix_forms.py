"""Every form of a matrix product: its value, its dtype, and what reaches the matrix unit."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from tapeout.simulator import emulate, load_chip, load_recipe

IEEE, FP32 = load_chip("ieee-float32"), load_recipe("fp32")
H100, BF16 = load_chip("nvidia-h100"), load_recipe("bf16")


tensordot: Any = torch.tensordot


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


A, B, V, W = random(5, 7), random(7, 3, seed=1), random(7, seed=2), random(5, seed=3)
S, T = random(4, 5, 7, seed=4), random(4, 7, 3, seed=5)
C, D, X = random(5, 3, seed=6), random(4, 5, 3, seed=7), random(2, 7, 3, seed=8)

FORMS: dict[str, Callable[[Any], torch.Tensor]] = {
    "mm": lambda t: torch.mm(t(A), t(B)),
    "mm transposed": lambda t: torch.mm(t(B).t(), t(A).t()),
    "matmul broadcast": lambda t: t(S)[:, None] @ t(B),
    "matmul vector": lambda t: t(S) @ t(V),
    "bmm": lambda t: torch.bmm(t(S), t(T)),
    "addmm": lambda t: torch.addmm(t(C), t(A), t(B)),
    "addmm of a row": lambda t: torch.addmm(t(C)[0], t(A), t(B)),
    "addmm scaled": lambda t: torch.addmm(t(C), t(A), t(B), beta=0.5, alpha=-2),
    "addmm without addend": lambda t: torch.addmm(t(C) / 0, t(A), t(B), beta=0),
    "baddbmm": lambda t: torch.baddbmm(t(D), t(S), t(T), alpha=2),
    "baddbmm of one": lambda t: torch.baddbmm(t(D)[:1, :1], t(S), t(T)),
    "addbmm": lambda t: torch.addbmm(t(C), t(S), t(T), beta=0.25),
    "mv": lambda t: torch.mv(t(A), t(V)),
    "addmv": lambda t: torch.addmv(t(W), t(A), t(V), alpha=3),
    "addmv of a scalar": lambda t: torch.addmv(t(W)[0], t(A), t(V)),
    "dot": lambda t: torch.dot(t(V), t(V)),
    "vdot": lambda t: torch.vdot(t(V), t(A)[0]),
    "vecdot": lambda t: torch.linalg.vecdot(t(A), t(A)),
    "inner": lambda t: torch.inner(t(A), t(S)),
    "outer": lambda t: torch.outer(t(V), t(W)),
    "linear": lambda t: F.linear(t(S), t(A), t(W)),
    "bilinear": lambda t: F.bilinear(t(A), t(C), t(X), t(V)[:2]),
    "einsum": lambda t: torch.einsum("bij,bjk,k->ib", t(S), t(T), t(B)[0]),
    "tensordot": lambda t: tensordot(t(S), t(T), ([0, 2], [0, 1])),
    "chain": lambda t: torch.linalg.multi_dot([t(A), t(B), t(C).t(), t(A)]),
    "matrix power": lambda t: torch.linalg.matrix_power(t(S)[0, :, :5], 3),
}


@pytest.mark.parametrize("name", FORMS)
def test_value_and_gradients_are_those_of_pytorch_in_float64(name: str) -> None:
    def run(dtype: torch.dtype) -> tuple[torch.Tensor, list[torch.Tensor]]:
        leaves: dict[int, torch.Tensor] = {}

        def leaf(x: torch.Tensor) -> torch.Tensor:
            key = x.data_ptr()
            if key not in leaves or leaves[key].shape != x.shape:
                leaves[key] = x.detach().to(dtype, copy=True).requires_grad_()
            return leaves[key]

        y = FORMS[name](leaf)
        torch.autograd.backward(y, random(*y.shape, seed=9).to(dtype))
        return y, [v.grad for v in leaves.values() if v.grad is not None]

    wanted, gradients = run(torch.float64)
    with emulate(IEEE, FP32):
        y, got = run(torch.float32)
    assert y.dtype == torch.float32 and y.shape == wanted.shape
    for value, exact in zip([y, *got], [wanted, *gradients], strict=True):
        finite = exact.isfinite()
        assert torch.allclose(value.double()[finite], exact[finite], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", [name for name in FORMS if "addend" not in name])
def test_sixteen_bit_operands_give_sixteen_bit_results(name: str, dtype: torch.dtype) -> None:
    with emulate(IEEE, FP32):
        y = FORMS[name](lambda x: x.to(dtype))
    wanted = FORMS[name](lambda x: x.to(dtype).double())
    assert y.dtype == dtype
    assert torch.allclose(y.double(), wanted, rtol=2**-6, atol=2**-5 * wanted.abs().max().item())


@pytest.mark.parametrize("name", ["mm", "addmm", "bmm", "mv", "dot", "linear"])
def test_inference_mode_takes_operations_apart(name: str) -> None:
    with torch.inference_mode(), emulate(IEEE, FP32) as trace:
        y = FORMS[name](lambda x: x)
    assert any(row["calls"] for row in trace.take())
    assert torch.allclose(y, FORMS[name](lambda x: x), rtol=1e-5, atol=1e-5)


def test_in_place_and_out_forms() -> None:
    with emulate(IEEE, FP32):
        c, d, out = C.clone(), D.clone(), torch.empty(0)
        assert c.addmm_(A, B, alpha=2) is c
        assert d.baddbmm_(S, T, beta=0.5) is d
        assert torch.mm(A, B, out=out) is out and out.shape == (5, 3)
        plain = torch.mm(A, B)
        added, badded = torch.addmm(C, A, B, alpha=2), torch.baddbmm(D, S, T, beta=0.5)
        both = torch.matmul(S, T, out=torch.empty(4, 5, 3))
    assert torch.equal(out, plain) and torch.equal(c, added) and torch.equal(d, badded)
    assert torch.allclose(both, S @ T, atol=1e-5)


@pytest.mark.parametrize(("m", "k", "n"), [(0, 3, 2), (2, 0, 3), (2, 3, 0), (0, 0, 0)])
def test_empty_extents(m: int, k: int, n: int) -> None:
    with emulate(IEEE, FP32) as trace:
        y = torch.addmm(torch.ones(n), torch.ones(m, k), torch.ones(k, n))
        z = torch.mm(torch.ones(m, k), torch.ones(k, n))
    assert torch.equal(y, torch.ones(m, n)) and torch.equal(z, torch.zeros(m, n))
    assert not trace.take()


def test_bad_shapes_and_dtypes_raise_what_pytorch_raises() -> None:
    for a, b in ((A, A), (A, B.double()), (A[0], B), (A[None], B)):
        with pytest.raises((RuntimeError, IndexError)) as plain:
            torch.mm(a, b)
        with emulate(IEEE, FP32), pytest.raises(type(plain.value)) as emulated:
            torch.mm(a, b)
        assert str(emulated.value) == str(plain.value)


def attention(mask: torch.Tensor | None, scale: float | None, causal: bool) -> Any:
    def written(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        scores = q @ k.mT * (scale or 1 / math.sqrt(q.shape[-1]))
        if causal:
            scores = scores.masked_fill(~torch.ones(scores.shape[-2:]).tril().bool(), -math.inf)
        if mask is not None:
            scores = scores + (mask.log() if mask.dtype == torch.bool else mask)
        return torch.softmax(scores, -1) @ v

    return written


MASK = torch.ones(6, 6).tril(2).bool()


@pytest.mark.parametrize("flash", [False, True])
@pytest.mark.parametrize(
    ("mask", "scale", "causal"),
    [(None, None, False), (None, 0.3, True), (MASK, None, False), (MASK * 0.5, None, False)],
)
def test_scaled_dot_product_attention_is_seen(
    mask: torch.Tensor | None, scale: float | None, causal: bool, flash: bool
) -> None:
    """Two products forward and four backward, in whatever way the program asks for them."""
    values = [random(2, 3, 6, 8, seed=i) for i in range(3)]
    wide = [v.double().requires_grad_() for v in values]
    wanted = attention(mask, scale, causal)(*wide)
    wanted.square().sum().backward()
    q, k, v = narrow = [v.clone().requires_grad_() for v in values]
    with emulate(IEEE, FP32) as trace:
        options: Any = {"attn_mask": mask, "scale": scale, "is_causal": causal}
        if flash:
            with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                y = F.scaled_dot_product_attention(q, k, v, **options)
        else:
            y = F.scaled_dot_product_attention(q, k, v, **options)
        torch.autograd.backward(y.square().sum())
    rows = [r for r in trace.take() if r["operand"] == "output"]
    assert sum(r["calls"] for r in rows if r["gemm"] == "fprop") == 2
    assert sum(r["calls"] for r in rows if r["gemm"] == "dgrad") == 4
    assert torch.allclose(y.double(), wanted, rtol=1e-5, atol=1e-5)
    for got, exact in zip(narrow, wide, strict=True):
        assert got.grad is not None and exact.grad is not None
        assert torch.allclose(got.grad.double(), exact.grad, rtol=1e-4, atol=1e-5)


def test_grouped_queries_and_dropout() -> None:
    q, k, v = random(2, 4, 6, 8), random(2, 2, 6, 8, seed=1), random(2, 2, 6, 8, seed=2)
    plain = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    with emulate(IEEE, FP32) as trace:
        grouped = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        dropped = F.scaled_dot_product_attention(
            q, k, v.expand(2, 2, 6, 8), dropout_p=0.5, enable_gqa=True
        )
    assert torch.allclose(grouped, plain, atol=1e-5)
    assert not torch.allclose(dropped, plain, atol=1e-2)
    assert sum(r["calls"] for r in trace.take()) == 4


@pytest.mark.parametrize("training", [True, False])
def test_multihead_attention_and_encoder_layers_have_no_fast_path(training: bool) -> None:
    """qkv, scores, values, out; then two linear layers."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).train(training)
    x = random(2, 5, 8)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).train(training)
    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[1, 3:] = True
    with torch.no_grad():
        plain, deep = layer(x), encoder(x, src_key_padding_mask=mask)
        with emulate(IEEE, FP32, model=layer) as trace:
            y = layer(x)
            rows = [r for r in trace.take() if r["operand"] == "output"]
            z = encoder(x, src_key_padding_mask=mask)
    assert sum(r["calls"] for r in rows) == 6
    assert {r["module"] for r in rows} >= {"self_attn", "linear1", "linear2"}
    assert torch.allclose(y, plain, atol=1e-5) and torch.allclose(z[0], deep[0], atol=1e-5)
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_taken_apart(kind: Any) -> None:
    """One product for all inputs of a layer, and one a time step."""
    net, x = kind(4, 6, num_layers=2, batch_first=True), random(3, 5, 4)
    wanted = net(x)[0]
    wanted.sum().backward()
    gradients = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    with emulate(IEEE, FP32, model=net) as trace:
        y = net(x)[0]
        y.sum().backward()
    rows = [r for r in trace.take() if r["operand"] == "output"]
    assert {r["module"] for r in rows} == {""}
    assert sum(r["calls"] for r in rows if r["gemm"] == "fprop") == 2 * (1 + 5)
    assert torch.allclose(y, wanted, atol=1e-5)
    for p, g in zip(net.parameters(), gradients, strict=True):
        assert torch.allclose(p.grad, g, rtol=1e-4, atol=1e-5)
