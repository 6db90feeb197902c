"""On the reference machine with recipe fp32, emulation is plain PyTorch."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tapeout.simulator import emulate, load_chip, load_recipe
from tapeout.tests.programs import OPTIMIZERS, PROGRAMS, train

pytestmark = pytest.mark.usefixtures("one_thread")

IEEE, FP32 = load_chip("ieee-float32"), load_recipe("fp32")
#: Relative to the sum of magnitudes of what is added.
CLOSE = 1e-6


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


X, Y = random(257), random(257, seed=1)
ELEMENTWISE: dict[str, Callable[[], Any]] = {
    "add": lambda: X + Y,
    "add alpha": lambda: torch.add(X, Y, alpha=0.3),
    "sub": lambda: 1.5 - X,
    "mul": lambda: X * Y,
    "div": lambda: X / Y,
    "div scalar": lambda: X / 3,
    "sqrt": lambda: X.abs().sqrt(),
    "rsqrt": lambda: X.abs().rsqrt(),
    "reciprocal": lambda: X.reciprocal(),
    "pow": lambda: X.abs() ** 1.7,
    "square": lambda: X**2,
    "exp": lambda: X.exp(),
    "expm1": lambda: X.expm1(),
    "log": lambda: X.abs().log(),
    "log1p": lambda: X.abs().log1p(),
    "sin": lambda: X.sin(),
    "cos": lambda: X.cos(),
    "tanh": lambda: X.tanh(),
    "sigmoid": lambda: X.sigmoid(),
    "erf": lambda: X.erf(),
    "atan2": lambda: torch.atan2(X, Y),
    "gelu": lambda: F.gelu(X),
    "gelu tanh": lambda: F.gelu(X, approximate="tanh"),
    "silu": lambda: F.silu(X),
    "softplus": lambda: F.softplus(X),
    "elu": lambda: F.elu(X),
    "mish": lambda: F.mish(X),
    "leaky relu": lambda: F.leaky_relu(X),
    "hardswish": lambda: F.hardswish(X),
    "clamp": lambda: X.clamp(-0.5, 0.5),
    "maximum": lambda: torch.maximum(X, Y),
    "where": lambda: torch.where(X > Y, X, Y),
    "fmod": lambda: torch.fmod(X, Y),
    "round": lambda: (X * 4).round(),
    "lerp": lambda: torch.lerp(X, Y, 0.3),
    "addcmul": lambda: torch.addcmul(X, X, Y, value=0.3),
    "addcdiv": lambda: torch.addcdiv(X, X, Y, value=0.3),
    "foreach lerp": lambda: torch.ops.aten._foreach_lerp([X, Y], [Y, X], 0.3)[1],
    "foreach addcdiv": lambda: torch.ops.aten._foreach_addcdiv([X, Y], [Y, X], [X, X], 0.3)[1],
    "in place": lambda: X.clone().mul_(Y).add_(Y, alpha=0.7).sqrt_(),
    "max pool": lambda: F.max_pool1d(X[None, None], 3, 2),
    "embedding": lambda: F.embedding(torch.arange(9) % 4, random(4, 6)),
    "sort": lambda: X.sort()[0],
    "dropout": lambda: F.dropout(X, 0.3),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_operations_are_the_hosts_bit_for_bit(name: str) -> None:
    ends = []
    for emulated in (False, True):
        torch.manual_seed(3)
        if emulated:
            with emulate(IEEE, FP32):
                ends.append(ELEMENTWISE[name]())
        else:
            ends.append(ELEMENTWISE[name]())
    assert ends[0].numpy().tobytes() == ends[1].numpy().tobytes()


A, B, C = random(3, 33, 65), random(3, 65, 17, seed=1), random(33, 17, seed=2)
IMAGE, KERNEL = random(2, 6, 11, 9), random(8, 3, 3, 2, seed=1)
#: The operation, and the same on magnitudes: what its rounding errors are relative to.
SUMS: dict[str, Callable[[Callable[[Tensor], Tensor]], Tensor]] = {
    "mm": lambda m: m(A[0]) @ m(B[0]),
    "bmm": lambda m: torch.bmm(m(A), m(B)),
    "addmm": lambda m: torch.addmm(m(C), m(A[0]), m(B[0])),
    "addmm scaled": lambda m: torch.addmm(m(C), m(A[0]), m(B[0]), alpha=0.5, beta=2),
    "baddbmm": lambda m: torch.baddbmm(m(C), m(A), m(B)),
    "addbmm": lambda m: torch.addbmm(m(C), m(A), m(B)),
    "mv": lambda m: torch.mv(m(A[0]), m(B[0, :, 0])),
    "dot": lambda m: torch.dot(m(A[0, 0]), m(B[0, :, 0])),
    "einsum": lambda m: torch.einsum("bij,bjk->ik", m(A), m(B)),
    "conv2d": lambda m: F.conv2d(
        m(IMAGE), m(KERNEL), None, stride=(2, 1), padding=1, dilation=(1, 2), groups=2
    ),
    "conv1d": lambda m: F.conv1d(m(IMAGE[:, :, 0]), m(KERNEL[..., 0]), groups=2),
    "conv3d": lambda m: F.conv3d(m(IMAGE[None, :1]), m(KERNEL[None, :1])),
    "conv transposed": lambda m: F.conv_transpose2d(
        m(IMAGE), m(KERNEL[:6]), stride=2, output_padding=1
    ),
    "sum": lambda m: m(A).sum(),
    "sum of rows": lambda m: m(A).sum(2),
    "sum of columns": lambda m: m(A).sum((0, 1)),
    "mean": lambda m: m(A).mean(1),
    "average pool": lambda m: F.avg_pool2d(m(IMAGE), 3, 2, padding=1),
    "adaptive pool": lambda m: F.adaptive_avg_pool2d(m(IMAGE), (3, 2)),
    "cumsum": lambda m: m(A).cumsum(1),
    "norm": lambda m: torch.linalg.vector_norm(m(A), dim=1),
    "index add": lambda m: torch.zeros(4, 65).index_add(0, torch.arange(33) % 4, m(A[0])),
}


@pytest.mark.parametrize("name", SUMS)
def test_sums_are_within_float32_rounding(name: str) -> None:
    """The host adds in an order of its own; both are within n/2 units of last place of the exact
    sum, far inside of the bound for these lengths."""
    operation = SUMS[name]
    plain, magnitude = operation(lambda x: x), operation(torch.abs)
    with emulate(IEEE, FP32):
        emulated = operation(lambda x: x)
    assert emulated.shape == plain.shape and emulated.dtype == plain.dtype
    assert bool(((emulated - plain).abs() <= CLOSE * magnitude).all())


#: Everything is of order one, so that an absolute difference is a relative one.
NORMALISED: dict[str, Callable[[], Tensor]] = {
    "softmax": lambda: F.softmax(A, -1),
    "log softmax": lambda: F.log_softmax(A, -1),
    "layer norm": lambda: F.layer_norm(A, (65,)),
    "rms norm": lambda: F.rms_norm(A, (65,)),
    "group norm": lambda: F.group_norm(IMAGE, 3),
    "batch norm": lambda: F.batch_norm(IMAGE, None, None, training=True),
    "cross entropy": lambda: F.cross_entropy(A[0], torch.arange(33)),
    "attention": lambda: F.scaled_dot_product_attention(A, A, A, is_causal=True),
    "std": lambda: A.std(1),
}


@pytest.mark.parametrize("name", NORMALISED)
def test_normalisations_are_within_float32_rounding(name: str) -> None:
    plain = NORMALISED[name]()
    with emulate(IEEE, FP32):
        emulated = NORMALISED[name]()
    assert bool(((emulated - plain).abs() <= 4 * CLOSE * plain.abs().clamp_min(1)).all())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_train_as_in_plain_torch(program: str, optimizer: str) -> None:
    """The first loss is the plain one to 1e-6. Later ones rest on updates that divide by, or take
    the sign of, sums of another order: where such a sum is nearly zero its last bits decide, so
    the bound is wider, and still far below any narrow format's effect. test_programs_steps.py
    holds every step to 1e-6 from the same weights."""
    plain = train(PROGRAMS[program], optimizer, 5)
    emulated = train(PROGRAMS[program], optimizer, 5, IEEE, FP32)
    assert math.isclose(plain.losses[0], emulated.losses[0], rel_tol=CLOSE)
    for a, b in zip(plain.losses, emulated.losses, strict=True):
        assert math.isclose(a, b, rel_tol=LATER[optimizer])
    assert plain.losses[-1] < plain.losses[0]


LATER = {"sgd": 1e-5, "adamw": 1e-4, "lion": 1e-3}


def test_nothing_stays_switched_off_after_an_emulation() -> None:

    def switches() -> tuple[Any, ...]:
        backends = torch.backends
        return backends.mha.get_fastpath_enabled(), backends.mkldnn.enabled, torch._VF.lstm

    before, lstm = switches(), nn.LSTM(2, 2)
    with emulate(IEEE, FP32), emulate(IEEE, FP32):
        lstm(torch.ones(1, 2))
    assert switches() == before
    with pytest.raises(RuntimeError), emulate(IEEE, FP32):
        lstm(torch.ones(1, 3))
    assert switches() == before
